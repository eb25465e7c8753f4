"""When a destination counts as away, and when to ask whether it is back. Pure decisions.

    closed   deliveries go out. An attempt that gets no association opens the circuit.
    open     nothing is sent. A probe asks the destination after 5 s, and after ever longer
             pauses up to 15 minutes; its answer closes the circuit and everything that waits
             goes out at once.

A probe's answer does not wipe out ``failures``: only a delivery's answer does. A destination that
answers probes and takes no delivery is otherwise tried every few seconds for days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from dicom_node.backoff import LONGEST_DELAY_S, delay_s
from dicom_node.records import Circuit, CircuitState

Decision = Callable[[Circuit], Circuit]


def after_no_association(
    reason: str, now: datetime, random: float, asked_for_s: float = 0.0
) -> Decision:
    """What follows when a delivery found nobody there.

    ``asked_for_s`` is the pause that the destination asked for; it gets 15 minutes at most.

    Of several deliveries that found out together the first one decides: the others do not make
    the pause longer.
    """

    def decide(circuit: Circuit) -> Circuit:
        if circuit.state is CircuitState.OPEN:
            return circuit
        pause_s = _pause_s(circuit, random, asked_for_s)
        return _opened(replace(circuit, opened_at=now), reason, now, pause_s)

    return decide


def after_failed_probe(
    reason: str, now: datetime, random: float, asked_for_s: float = 0.0
) -> Decision:
    """What follows when a probe found nobody there: a longer pause."""

    def decide(circuit: Circuit) -> Circuit:
        # An operator, or a delivery that came through, closed it while the probe was waiting.
        if circuit.state is not CircuitState.OPEN:
            return circuit
        return _opened(circuit, reason, now, _pause_s(circuit, random, asked_for_s))

    return decide


def after_answered_probe(now: datetime) -> Decision:
    """What follows when the destination answered: everything that waits may go."""

    def decide(circuit: Circuit) -> Circuit:
        return _closed(circuit, "probe_answered", now, circuit.failures)

    return decide


def after_delivery(now: datetime) -> Decision:
    """What follows when the destination answered for an object, whatever it answered."""

    def decide(circuit: Circuit) -> Circuit:
        return _closed(circuit, "delivery_answered", now, 0)

    return decide


def is_probe_due(circuit: Circuit, now: datetime) -> bool:
    """Whether it is time to ask an absent destination again.

    A pause longer than any that is ever chosen means that the clock was set back.
    """
    if circuit.state is not CircuitState.OPEN:
        return False
    return circuit.not_before <= now or circuit.changed_at > now


def _pause_s(circuit: Circuit, random: float, asked_for_s: float) -> float:
    return max(delay_s(circuit.failures + 1, random), min(asked_for_s, LONGEST_DELAY_S))


def _opened(circuit: Circuit, reason: str, now: datetime, pause_s: float) -> Circuit:
    return replace(
        circuit, state=CircuitState.OPEN, failures=circuit.failures + 1, reason=reason,
        changed_at=now, not_before=now + timedelta(seconds=pause_s),
    )


def _closed(circuit: Circuit, reason: str, now: datetime, failures: int) -> Circuit:
    if circuit.state is CircuitState.CLOSED and circuit.failures == failures:
        return circuit
    return replace(
        circuit, state=CircuitState.CLOSED, failures=failures, reason=reason, changed_at=now,
        opened_at=None, not_before=now,
    )
