"""The one table of states: which change follows which, for series, jobs and deliveries.

Rules for this file: a pair that is not here cannot happen, and nothing but this file decides.
A state that maps to itself is a new attempt after a restart, recorded like any other change.

    series    receiving -> complete -> routed | declined; back to receiving on a late slice;
              routed -> declined when every job of the series declined its input;
              routed | declined -> removed when its images and results are deleted, and back to
              receiving when it is sent again
              declined -> routed when an operator has a rule's model run on it by hand
    job       queued -> running -> succeeded | failed | cancelled; failed -> queued by policy,
              then dead; queued or running -> held by an operator, then queued or cancelled;
              dead -> cancelled when an operator removes its study
    delivery  pending -> sent -> committed, or failed -> pending by back-off, then dead;
              replaced when another object goes there in its place: another form, a new version
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicom_node.records import DeliveryState, JobState, SeriesState

_S, _J, _D = SeriesState, JobState, DeliveryState

SERIES: dict[SeriesState, frozenset[SeriesState]] = {
    _S.RECEIVING: frozenset({_S.COMPLETE}),
    _S.COMPLETE: frozenset({_S.ROUTED, _S.DECLINED, _S.RECEIVING}),
    _S.ROUTED: frozenset({_S.RECEIVING, _S.DECLINED, _S.REMOVED}),
    _S.DECLINED: frozenset({_S.RECEIVING, _S.ROUTED, _S.REMOVED}),
    _S.REMOVED: frozenset({_S.RECEIVING}),
}

JOB: dict[JobState, frozenset[JobState]] = {
    _J.QUEUED: frozenset({_J.RUNNING, _J.CANCELLED, _J.HELD}),
    _J.RUNNING: frozenset({_J.RUNNING, _J.SUCCEEDED, _J.FAILED, _J.CANCELLED, _J.HELD}),
    _J.FAILED: frozenset({_J.QUEUED, _J.DEAD, _J.CANCELLED, _J.HELD}),
    _J.HELD: frozenset({_J.QUEUED, _J.CANCELLED}),
    _J.DEAD: frozenset({_J.QUEUED, _J.CANCELLED}),
    _J.CANCELLED: frozenset({_J.QUEUED}),
    _J.SUCCEEDED: frozenset(),
}

DELIVERY: dict[DeliveryState, frozenset[DeliveryState]] = {
    _D.PENDING: frozenset({_D.SENT, _D.FAILED, _D.REPLACED}),
    _D.SENT: frozenset({_D.COMMITTED, _D.FAILED}),
    _D.FAILED: frozenset({_D.PENDING, _D.DEAD, _D.REPLACED}),
    _D.DEAD: frozenset({_D.PENDING, _D.REPLACED}),
    _D.COMMITTED: frozenset(),
    _D.REPLACED: frozenset({_D.PENDING}),
}

_TABLES: dict[type, Mapping[Any, frozenset[Any]]] = {_S: SERIES, _J: JOB, _D: DELIVERY}

OPEN_DELIVERIES = (_D.PENDING, _D.FAILED)


class IllegalTransition(AssertionError):
    """A room asked for a change of state that the table does not have: a defect of the node."""


def check(from_state: str, to_state: str) -> None:
    """Raise `IllegalTransition` unless the table allows the change.

    Both must be members of the same state enum.
    """
    table = _TABLES.get(type(from_state), {})
    # Words of different enums compare equal ("failed" is one of jobs and one of deliveries).
    if type(to_state) is type(from_state) and to_state in table.get(from_state, ()):
        return
    raise IllegalTransition(f"{type(from_state).__name__}: {from_state} -> {to_state}")
