"""What is kept about destinations that are away."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Circuit, CircuitState
from tests.ledger.conftest import START


def opened(circuit: Circuit) -> Circuit:
    return replace(
        circuit, state=CircuitState.OPEN, failures=circuit.failures + 1, opened_at=START,
        not_before=START + timedelta(seconds=5), reason="peer.unreachable", changed_at=START,
    )


def test_a_destination_of_which_nothing_is_known_is_closed(ledger: Ledger) -> None:
    assert ledger.circuits.all() == {}
    assert ledger.circuits.find("pacs").state is CircuitState.CLOSED


def test_a_circuit_outlives_the_node(ledger: Ledger) -> None:
    before, after = ledger.circuits.change("pacs", opened)
    assert (before.state, after.state) == (CircuitState.CLOSED, CircuitState.OPEN)
    again = Ledger.open(ledger.url)
    assert again.circuits.all() == {"pacs": after}
    again.close()


def test_opening_and_closing_are_recorded_and_longer_pauses_are_not(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.circuits.change("pacs", opened)
    ledger.circuits.change("pacs", lambda one: replace(one, state=CircuitState.CLOSED, reason="r"))
    said = [(t.from_state, t.to_state, t.reason) for t in ledger.history("circuit", "pacs")]
    assert said == [("closed", "open", "peer.unreachable"), ("open", "closed", "r")]


def test_a_decision_that_changes_nothing_writes_nothing(ledger: Ledger) -> None:
    ledger.circuits.change("pacs", lambda circuit: circuit)
    assert ledger.circuits.all() == {}
