"""What a report on storage commitment does to the deliveries of its transaction.

Part of `dicom_node.ledger.commitments`, inside whose transactions all of this runs.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa

from dicom_node.backoff import delay_s
from dicom_node.ledger import rows, tables
from dicom_node.ledger.name_lists import in_steps
from dicom_node.records import DeliveryState

_DUPLICATE_TRANSACTION = 0x0131
# Failure Reason (0008,1197), PS3.3 section C.14.1.1.
_REASONS = {
    0x0110: "processing_failure",
    0x0112: "no_such_instance",
    0x0119: "class_instance_conflict",
    0x0122: "sop_class_not_supported",
    0x0213: "resource_limitation",
}
_i, _d, _r = tables.commitment_items, tables.deliveries, tables.results
_SENT = str(DeliveryState.SENT)
Reference = tuple[str, str]


@dataclass(frozen=True)
class Change:
    """What a report did to one delivery."""

    delivery_id: str
    destination: str
    state: DeliveryState
    reason: str


class Standing(Enum):
    """What a report is to the ledger."""

    TAKEN = "taken"
    KNOWN = "known"
    UNKNOWN_TRANSACTION = "unknown_transaction"
    STRANGER = "stranger"


@dataclass(frozen=True)
class Reported:
    """What became of a report; ``changes`` only when it was taken."""

    standing: Standing
    changes: tuple[Change, ...] = ()


def settle(
    connection: sa.Connection,
    transaction_uid: str,
    committed: AbstractSet[Reference],
    failed: Mapping[str, int],
    retry_for_s: float,
    at: float,
) -> tuple[tuple[Change, ...], int]:
    """Apply a report; what it changed, and how many deliveries it did not settle."""
    changes = []
    attempts: dict[tuple[str, str], int] = {}
    deliveries = as_asked_for(connection, transaction_uid)
    for delivery in deliveries:
        uid = delivery.sop_instance_uid
        code = failed.get(uid)
        if code == _DUPLICATE_TRANSACTION:
            continue
        if code is not None:
            word = _REASONS.get(code, f"{code & 0xFFFF:04x}")
            again_at = at + delay_s(delivery.attempt, random.random())
            is_late = again_at > delivery.created_at + retry_for_s
            again = None if is_late else (_next_attempt(connection, delivery, attempts), again_at)
            changes.append(fail(connection, delivery, f"commitment.failed.{word}", at, again))
        elif (delivery.sop_class_uid, uid) in committed:
            changes.append(_commit(connection, delivery, at))
    settled = {change.delivery_id for change in changes}
    silent = [one.delivery_id for one in deliveries if one.delivery_id not in settled]
    mark(connection, silent, "wanted")
    return tuple(changes), len(silent)


def _commit(connection: sa.Connection, delivery: sa.Row[Any], at: float) -> Change:
    state, word = DeliveryState.COMMITTED, "committed"
    rows.change_state(
        connection, "delivery", delivery.delivery_id, state, word, at, commitment=word
    )
    return Change(delivery.delivery_id, delivery.destination, state, word)


def _next_attempt(
    connection: sa.Connection, delivery: sa.Row[Any], known: dict[tuple[str, str], int]
) -> int:
    """Above every attempt of its shipment: the engine never runs the same one twice."""
    shipment = (delivery.job_id, delivery.destination)
    if shipment not in known:
        latest = sa.select(sa.func.max(_d.c.attempt)).where(
            _d.c.job_id == delivery.job_id, _d.c.destination == delivery.destination
        )
        known[shipment] = int(connection.execute(latest).scalar_one()) + 1
    return known[shipment]


def fail(
    connection: sa.Connection,
    delivery: sa.Row[Any],
    reason: str,
    at: float,
    again: tuple[int, float] | None,
) -> Change:
    """Send a delivery ``again`` (attempt, not before), or make it a dead letter."""
    key = delivery.delivery_id
    rows.change_state(
        connection, "delivery", key, DeliveryState.FAILED, reason, at, commitment=""
    )
    if again is None:
        state = DeliveryState.DEAD
        rows.change_state(connection, "delivery", key, state, reason, at)
    else:
        state = DeliveryState.PENDING
        rows.change_state(
            connection, "delivery", key, state, reason, at, attempt=again[0], not_before=again[1]
        )
    return Change(key, delivery.destination, state, reason)


def as_asked_for(connection: sa.Connection, transaction_uid: str) -> Sequence[sa.Row[Any]]:
    """The deliveries of a transaction that still are as it asked for them."""
    query = (
        sa.select(_d, _r.c.sop_class_uid)
        .join(_i, sa.and_(_i.c.delivery_id == _d.c.delivery_id, _i.c.attempt == _d.c.attempt))
        .join(_r, _r.c.sop_instance_uid == _d.c.sop_instance_uid)
        .where(_i.c.transaction_uid == transaction_uid, _d.c.state == _SENT)
        .order_by(_d.c.delivery_id)
    )
    return connection.execute(query).all()


def mark(connection: sa.Connection, delivery_ids: Sequence[str], word: str) -> None:
    """Say what became of the commitment of deliveries that are sent."""
    connection.execute(
        sa.update(_d)
        .where(_d.c.delivery_id.in_(in_steps(delivery_ids)), _d.c.state == _SENT)
        .values(commitment=word)
    )
