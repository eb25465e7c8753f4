"""When a destination counts as away, and when it is asked again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dicom_node.delivery import circuit
from dicom_node.records import Circuit, CircuitState

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
CLOSED = Circuit("pacs", CircuitState.CLOSED, 0, None, NOW, "", NOW)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_an_attempt_without_an_association_opens_it_for_some_seconds() -> None:
    opened = circuit.after_no_association("peer.unreachable", NOW, 1.0)(CLOSED)
    assert opened == Circuit("pacs", CircuitState.OPEN, 1, NOW, at(5), "peer.unreachable", NOW)
    assert not circuit.is_probe_due(opened, at(4.9))
    assert circuit.is_probe_due(opened, at(5))
    assert not circuit.is_probe_due(CLOSED, at(5))


def test_attempts_that_fail_together_make_one_pause() -> None:
    opened = circuit.after_no_association("peer.unreachable", NOW, 0.0)(CLOSED)
    assert circuit.after_no_association("peer.timeout", at(1), 1.0)(opened) == opened


def test_each_failed_probe_doubles_the_pause_up_to_a_quarter_of_an_hour() -> None:
    opened = circuit.after_no_association("peer.unreachable", NOW, 1.0)(CLOSED)
    pauses = []
    for _ in range(12):
        opened = circuit.after_failed_probe("peer.timeout", opened.not_before, 1.0)(opened)
        pauses.append((opened.not_before - opened.changed_at).total_seconds())
    assert pauses == [10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900, 900]
    assert (opened.opened_at, opened.reason) == (NOW, "peer.timeout")


def test_a_peer_that_names_its_pause_gets_it_within_reason() -> None:
    asked = circuit.after_no_association("peer.busy", NOW, 1.0, 120.0)(CLOSED)
    assert asked.not_before == at(120)
    asked = circuit.after_failed_probe("peer.busy", NOW, 1.0, 1e9)(asked)
    assert asked.not_before == at(900)


def test_a_probe_that_failed_opens_nothing_that_was_closed_meanwhile() -> None:
    assert circuit.after_failed_probe("peer.timeout", NOW, 0.5)(CLOSED) == CLOSED


def test_an_answered_probe_closes_it_and_only_an_answered_delivery_forgets_the_failures() -> None:
    opened = circuit.after_no_association("peer.unreachable", NOW, 1.0)(CLOSED)
    opened = circuit.after_failed_probe("peer.unreachable", at(5), 1.0)(opened)
    back = circuit.after_answered_probe(at(15))(opened)
    assert (back.state, back.failures, back.opened_at) == (CircuitState.CLOSED, 2, None)
    again = circuit.after_no_association("peer.unreachable", at(16), 1.0)(back)
    assert again.not_before == at(16 + 20)
    well = circuit.after_delivery(at(17))(back)
    assert (well.state, well.failures) == (CircuitState.CLOSED, 0)
    assert circuit.after_delivery(at(18))(well) == well


def test_a_clock_that_was_set_back_does_not_keep_a_destination_away() -> None:
    opened = circuit.after_no_association("peer.unreachable", NOW, 1.0)(CLOSED)
    assert circuit.is_probe_due(opened, at(-3600))
