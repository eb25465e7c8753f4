"""What is to be chosen anew because a destination takes other classes than was thought.

    a class is refused     the job that met it, and every job that still waits with that class
    a class is not taken   every job that waits with that class, or died of its refusal
      any more
    a class is taken now   every job that waits; what died of the refusal is sent again
      (asked anew)

Each gets a duty (`dicom_node.ledger.duties.FORMS`), and its shipment waits for the choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from dicom_node.config import SENDER
from dicom_node.ledger import clock, duties, rows, states, tables, things
from dicom_node.ledger.database import Database
from dicom_node.ledger.profiles import find_profile, put_profile
from dicom_node.records import DeliveryState, DestinationProfile

CLASS_REFUSED = "peer.refused.sop_class_not_supported"
CONTEXT_REJECTED = "peer.context_rejected."
# So often the forms are chosen anew before what waits goes as it is.
PATIENCE_ATTEMPTS = 5
_d, _j, _r, _s, _u = (
    tables.deliveries, tables.jobs, tables.results, tables.series, tables.duties,
)
_OPEN = [str(state) for state in states.OPEN_DELIVERIES]


@dataclass(frozen=True)
class Recipient:
    """A peer, by its name, and the AE title by which `sender` means it (empty: it never does)."""

    name: str
    ae_title: str = ""


def is_class_refused(reason: str) -> bool:
    """Whether a delivery's reason says that the destination does not take its SOP class."""
    return reason == CLASS_REFUSED or reason.startswith(CONTEXT_REJECTED)


def waits_for_forms(
    job_id: sa.ColumnElement[str], destination: sa.ColumnElement[str]
) -> sa.ColumnElement[bool]:
    """The condition that what a job sends to a destination is being chosen anew."""
    return sa.exists().where(
        _u.c.kind == duties.FORMS, _u.c.key == job_id + ":" + destination,
        _u.c.attempt < PATIENCE_ATTEMPTS,
    )


class Replanning:
    """Takes up what was learnt of a destination."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def learn(
        self, profile: DestinationProfile, recipient: Recipient, *, forget_refusals: bool = False
    ) -> bool:
        """Keep what a destination accepted when it was asked; true when any job chooses anew.

        What it refused in answer to an object stays refused, unless ``forget_refusals``.
        """
        now = clock.seconds()
        with self._database.write() as connection:
            former = find_profile(connection, profile.destination)
            before = former or _unknown(profile.destination)
            if not forget_refusals:
                profile = replace(profile, refused=profile.refused | before.refused)
            put_profile(self._database, connection, profile)
            gained = {
                uid for uid in (*profile.accepted, *before.refused)
                if _is_gained(uid, before, profile)
            }
            affected = [
                row for row in _concerned(connection, recipient)
                if gained or _is_gained(row.sop_class_uid, profile, before)
            ]
            _revive((row for row in affected if row.sop_class_uid in gained), connection, now)
            reason = f"{recipient.name} takes other objects than was thought"
            _owe_forms(connection, affected, reason, now)
        return bool(affected)


def note_acceptance(
    database: Database, connection: sa.Connection, delivery_id: str, recipient: Recipient
) -> None:
    """Within the transaction that makes a delivery sent: its class is taken there after all."""
    before = find_profile(connection, recipient.name)
    if before is None or not before.refused:
        return
    stored = _answered(connection, delivery_id)
    if stored is None or stored.sop_class_uid not in before.refused:
        return
    # Of two at once each would put back what the other has taken out.
    database.write_more(connection, [things.profile(recipient.name)])
    before = find_profile(connection, recipient.name) or before
    refused = before.refused - {stored.sop_class_uid}
    put_profile(database, connection, replace(before, refused=refused))


def note_refusal(
    database: Database, connection: sa.Connection, delivery_id: str, recipient: Recipient,
    reason: str, now: float,
) -> None:  # fmt: skip
    """Within the transaction that makes a delivery dead: its class is not taken there.

    A presentation context that was rejected counts until the destination is asked again, an
    object that was refused until one of its class is stored or somebody runs `check`.
    """
    refused = _answered(connection, delivery_id)
    if refused is None:
        return
    before = find_profile(connection, recipient.name) or _unknown(recipient.name)
    affected = [refused]
    if before.takes(refused.sop_class_uid):
        put_profile(database, connection, _without(before, refused.sop_class_uid, reason))
        affected += [
            row for row in _concerned(connection, recipient)
            if row.sop_class_uid == refused.sop_class_uid
        ]
    _owe_forms(connection, affected, f"{recipient.name} refused a class: {reason}", now)


def _answered(connection: sa.Connection, delivery_id: str) -> sa.Row[Any] | None:
    query: sa.Select[Any] = sa.select(_d.c.job_id, _d.c.destination, _r.c.sop_class_uid).join(
        _r, _r.c.sop_instance_uid == _d.c.sop_instance_uid
    )
    return connection.execute(query.where(_d.c.delivery_id == delivery_id)).one_or_none()


def _unknown(destination: str) -> DestinationProfile:
    return DestinationProfile(destination, {}, frozenset(), None)


def _without(profile: DestinationProfile, sop_class_uid: str, reason: str) -> DestinationProfile:
    if reason.startswith(CONTEXT_REJECTED) and profile.probed_at is not None:
        accepted = {k: v for k, v in profile.accepted.items() if k != sop_class_uid}
        return replace(profile, accepted=accepted)
    return replace(profile, refused=profile.refused | {sop_class_uid})


def _is_gained(
    sop_class_uid: str, before: DestinationProfile, after: DestinationProfile
) -> bool:
    return after.takes(sop_class_uid) and not before.takes(sop_class_uid)


def _concerned(connection: sa.Connection, recipient: Recipient) -> list[sa.Row[Any]]:
    """What waits for a peer, or died because its class was refused there."""
    is_there = _d.c.destination == recipient.name
    if recipient.ae_title:
        is_there |= sa.and_(
            _d.c.destination == SENDER, _s.c.calling_ae_title == recipient.ae_title
        )
    is_refused = sa.and_(
        _d.c.state == str(DeliveryState.DEAD),
        sa.or_(_d.c.reason == CLASS_REFUSED, _d.c.reason.startswith(CONTEXT_REJECTED)),
    )
    query = (
        sa.select(_d.c.delivery_id, _d.c.job_id, _d.c.destination, _d.c.state, _d.c.attempt,
                  _r.c.sop_class_uid)
        .join(_r, _r.c.sop_instance_uid == _d.c.sop_instance_uid)
        .outerjoin(_j, _j.c.job_id == _d.c.job_id)
        .outerjoin(_s, _s.c.series_instance_uid == _j.c.series_instance_uid)
        .where(is_there, sa.or_(_d.c.state.in_(_OPEN), is_refused))
    )  # fmt: skip
    return list(connection.execute(query))


def _revive(found: Iterable[sa.Row[Any]], connection: sa.Connection, now: float) -> None:
    for row in found:
        if row.state == DeliveryState.DEAD:
            rows.change_state(
                connection, "delivery", row.delivery_id, DeliveryState.PENDING,
                "destination.takes_it_now", now, attempt=row.attempt + 1, not_before=now,
                created_at=now,
            )


def _owe_forms(
    connection: sa.Connection, affected: Iterable[sa.Row[Any]], reason: str, now: float
) -> None:
    for key in sorted({f"{row.job_id}:{row.destination}" for row in affected}):
        duties.add(connection, duties.FORMS, key, reason, now)
