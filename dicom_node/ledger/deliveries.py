"""What is on its way to which destination, and what the destination answered."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import clock, replacing, rows, states, tables, things
from dicom_node.ledger.circuits import Circuits
from dicom_node.ledger.counts import count_by_state
from dicom_node.ledger.database import Database
from dicom_node.ledger.name_lists import in_steps
from dicom_node.ledger.replanning import (
    Recipient,
    is_class_refused,
    note_acceptance,
    note_refusal,
    waits_for_forms,
)
from dicom_node.records import Delivery, DeliveryState, Duty, SendOutcome

_d, _j, _s = tables.deliveries, tables.jobs, tables.series
# A job numbers its deliveries in the order of its results, with two digits or more. When they
# were asked for does not tell: an operator asks for one of them anew.
_IN_ORDER = (sa.func.length(_d.c.delivery_id), _d.c.delivery_id)
_OPEN = [str(state) for state in states.OPEN_DELIVERIES]


@dataclass(frozen=True)
class Shipment:
    """The open deliveries of one job to one destination: what one engine job attempts.

    ``created_at`` is when the first of them was asked for; ``sender_ae_title`` is who sent the
    images.
    """

    job_id: str
    destination: str
    attempt: int
    not_before: datetime
    created_at: datetime
    study_instance_uid: str
    sender_ae_title: str
    priority: str

    @property
    def key(self) -> str:
        """The engine's key of the shipment."""
        return f"{self.job_id}:{self.destination}"


class Deliveries:
    """Deliveries of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._circuits = Circuits(database)

    def open_shipments(self, besides: Collection[str] = ()) -> list[Shipment]:
        """Every job and destination with something still to send, earliest first.

        ``besides``: destinations that are left out. What is sent or dead is not looked at, and
        what is being chosen anew (`dicom_node.ledger.replanning`) waits for that.
        """
        return self._shipments(_d.c.destination.not_in(list(besides)))

    def shipments_due(self, since: datetime, until: datetime) -> list[Shipment]:
        """Those of `open_shipments` of which something came to be due between two times."""
        due = sa.select(_d.c.job_id, _d.c.destination).where(
            _d.c.state.in_(_OPEN),
            _d.c.not_before.between(rows.to_seconds(since), rows.to_seconds(until)),
        )
        return self._shipments(sa.tuple_(_d.c.job_id, _d.c.destination).in_(due))

    def shipment(self, job_id: str, destination: str) -> Shipment | None:
        """One of `open_shipments` as it is now; ``None``: nothing of it is open."""
        found = self._shipments(_d.c.job_id == job_id, _d.c.destination == destination)
        return found[0] if found else None

    def _shipments(self, *which: sa.ColumnElement[bool]) -> list[Shipment]:
        found = (
            sa.select(
                _d.c.job_id,
                _d.c.destination,
                sa.func.max(_d.c.attempt).label("attempt"),
                sa.func.min(_d.c.not_before).label("not_before"),
                sa.func.min(_d.c.created_at).label("created_at"),
            )
            .where(_d.c.state.in_(_OPEN), *which)
            .where(~waits_for_forms(_d.c.job_id, _d.c.destination))
            .group_by(_d.c.job_id, _d.c.destination)
            .subquery()
        )
        query = (
            sa.select(
                found, _j.c.study_instance_uid, _j.c.priority,
                _s.c.calling_ae_title.label("sender_ae_title"),
            )
            .outerjoin_from(found, _j, found.c.job_id == _j.c.job_id)
            .outerjoin(_s, _s.c.series_instance_uid == _j.c.series_instance_uid)
            .order_by(found.c.not_before, found.c.job_id)
        )
        with self._database.read() as connection:
            return [_to_shipment(row) for row in connection.execute(query)]

    def pending(self, job_id: str, destination: str) -> list[Delivery]:
        """What is to be sent to one destination for one job, in the order of its results.

        Nothing while that is being chosen anew.
        """
        query = (
            sa.select(_d)
            .where(_d.c.job_id == job_id, _d.c.destination == destination, _d.c.state.in_(_OPEN))
            .where(~waits_for_forms(_d.c.job_id, _d.c.destination))
            .order_by(*_IN_ORDER)
        )
        return self._deliveries(query)

    def record(
        self,
        delivery_id: str,
        outcome: SendOutcome,
        *,
        retry_at: datetime | None,
        recipient: Recipient | None = None,
    ) -> DeliveryState:
        """Record what a destination answered and return the state that follows.

        Stored becomes ``sent``; a transient failure becomes ``pending`` again for ``retry_at``;
        a permanent one, or a transient one without ``retry_at``, becomes ``dead``. A delivery
        that another attempt has brought to an end meanwhile stays as that one left it; only one
        that was replaced while it was under way is ``sent`` if it was stored. Where
        ``recipient`` is given, what the answer says of the SOP class is noted in the same
        transaction.
        """
        now = clock.seconds()
        with self._recording(delivery_id, outcome) as connection:
            state = self._state(connection, delivery_id)
            was_replaced = state is DeliveryState.REPLACED and outcome.stored
            if state not in states.OPEN_DELIVERIES and not was_replaced:
                return state
            if state is not DeliveryState.PENDING:
                # Nothing is left failed; but an answer that cannot be recorded is asked for again.
                rows.change_state(
                    connection, "delivery", delivery_id, DeliveryState.PENDING, "taken_up", now
                )
            follows = DeliveryState.SENT if outcome.stored else DeliveryState.FAILED
            rows.change_state(
                connection, "delivery", delivery_id, follows, outcome.reason, now,
                status=outcome.status,
            )
            if outcome.stored:
                if recipient is not None:
                    note_acceptance(self._database, connection, delivery_id, recipient)
                return DeliveryState.SENT
            if retry_at is None or not outcome.transient:
                self._bury(connection, delivery_id, outcome.reason, recipient, now)
                return DeliveryState.DEAD
            self._queue_again(connection, delivery_id, outcome.reason, retry_at, now)
            return DeliveryState.PENDING

    def _recording(
        self, delivery_id: str, outcome: SendOutcome
    ) -> AbstractContextManager[sa.Connection]:
        """What is refused by its class concerns all that goes there, whatever series it is of."""
        if is_class_refused(outcome.reason):
            return self._database.write()
        return things.writing_on_job(self._database, things.job_of(delivery_id))

    def _bury(
        self, connection: sa.Connection, delivery_id: str, reason: str,
        recipient: Recipient | None, now: float,
    ) -> None:  # fmt: skip
        rows.change_state(connection, "delivery", delivery_id, DeliveryState.DEAD, reason, now)
        if recipient is not None and is_class_refused(reason):
            note_refusal(self._database, connection, delivery_id, recipient, reason, now)

    def replace(
        self,
        job_id: str,
        destination: str,
        keep: Collection[str],
        additions: Sequence[Delivery],
        reason: str,
        *,
        duty: Duty | None = None,
    ) -> None:
        """Send this of a job to a destination in place of what was chosen before.

        In one transaction: what is open or dead and whose SOP Instance UID is neither in ``keep``
        nor of an addition becomes ``replaced``, with ``reason``. Additions are recorded behind
        what is there, under ids that sort there; one that is there already stays as
        it is, and is ``pending`` again where it had been replaced. Then nothing is owed here any
        more; with ``duty`` only if it was not added again meanwhile.
        """
        now = clock.seconds()
        shipment = (job_id, destination)
        with self._database.write() as connection:
            replacing.replace(self._database, connection, shipment, keep, additions, reason, now)
            replacing.end_duty(connection, shipment, duty)

    def _state(self, connection: sa.Connection, delivery_id: str) -> DeliveryState:
        query = sa.select(_d.c.state).where(_d.c.delivery_id == delivery_id)
        return DeliveryState(connection.execute(query).scalar_one())

    def jobs_with_dead(self) -> list[str]:
        """Every job with a dead delivery."""
        query = sa.select(_d.c.job_id).where(_d.c.state == str(DeliveryState.DEAD)).distinct()
        with self._database.read() as connection:
            return [row[0] for row in connection.execute(query.order_by(_d.c.job_id))]

    def retry_dead(self, job_id: str) -> int:
        """Queue the dead deliveries of a job again; returns how many.

        They are asked for anew: how long they are tried counts from here.
        """
        now = clock.now()
        query = sa.select(_d.c.delivery_id).where(
            _d.c.job_id == job_id, _d.c.state == str(DeliveryState.DEAD)
        )
        with self._database.write() as connection:
            dead = [row[0] for row in connection.execute(query)]
            for delivery_id in dead:
                self._queue_again(
                    connection, delivery_id, "retried_by_operator", now, now.timestamp(),
                    created_at=now.timestamp(),
                )
            if dead:
                self._circuits.close_for(connection, self._destinations(connection, job_id), now)
        return len(dead)

    def hurry(self, job_id: str) -> int:
        """Let what waits of a job go out now, also to destinations that count as away.

        Returns how many deliveries that are; one that is under way stays under way.
        """
        now = clock.now()
        waiting = (_d.c.job_id == job_id, _d.c.state == str(DeliveryState.PENDING))
        with self._database.write() as connection:
            hurried = connection.execute(
                sa.update(_d).where(*waiting).values(not_before=now.timestamp())
            ).rowcount
            if hurried:
                self._circuits.close_for(connection, self._destinations(connection, job_id), now)
        return hurried

    def _destinations(self, connection: sa.Connection, job_id: str) -> list[str]:
        query = sa.select(_d.c.destination).where(_d.c.job_id == job_id).distinct()
        return [row[0] for row in connection.execute(query)]

    def put_off(self, delivery_id: str, until: datetime) -> None:
        """Let an open delivery that was not tried go with the next attempt of its shipment."""
        with things.writing_on_job(self._database, things.job_of(delivery_id)) as connection:
            connection.execute(
                sa.update(_d)
                .where(_d.c.delivery_id == delivery_id, _d.c.state.in_(_OPEN))
                .values(attempt=_d.c.attempt + 1, not_before=rows.to_seconds(until))
            )

    def give_up(self, shipment: Shipment, asked_before: datetime, reason: str) -> int:
        """End as dead what is still open of a shipment and was asked for before; returns how many.
        """
        now = clock.seconds()
        open_ones = (
            _d.c.job_id == shipment.job_id, _d.c.destination == shipment.destination,
            _d.c.state.in_(_OPEN),
            _d.c.created_at <= rows.to_seconds(asked_before),
        )
        with self._database.write() as connection:
            query = sa.select(_d.c.delivery_id, _d.c.state).where(*open_ones)
            given_up = list(connection.execute(query))
            for delivery_id, state in given_up:
                if state != DeliveryState.FAILED:
                    rows.change_state(
                        connection, "delivery", delivery_id, DeliveryState.FAILED, reason, now
                    )
                rows.change_state(
                    connection, "delivery", delivery_id, DeliveryState.DEAD, reason, now
                )
        return len(given_up)

    def _queue_again(
        self,
        connection: sa.Connection,
        delivery_id: str,
        reason: str,
        retry_at: datetime,
        now: float,
        **columns: Any,
    ) -> None:
        row = connection.execute(
            sa.select(_d.c.attempt).where(_d.c.delivery_id == delivery_id)
        ).one()
        rows.change_state(
            connection, "delivery", delivery_id, DeliveryState.PENDING, reason, now,
            attempt=row.attempt + 1, not_before=rows.to_seconds(retry_at), **columns,
        )

    def bump(self, shipment: Shipment) -> None:
        """Give a shipment a new attempt, because the engine lost the one it had."""
        with things.writing_on_job(self._database, shipment.job_id) as connection:
            connection.execute(
                sa.update(_d)
                .where(
                    _d.c.job_id == shipment.job_id,
                    _d.c.destination == shipment.destination,
                    _d.c.state.in_(_OPEN),
                    _d.c.attempt <= shipment.attempt,
                )
                .values(attempt=shipment.attempt + 1)
            )

    def of_job(self, job_id: str) -> list[Delivery]:
        """All deliveries of a job."""
        query = sa.select(_d).where(_d.c.job_id == job_id)
        return self._deliveries(query.order_by(_d.c.destination, *_IN_ORDER))

    def started_at(self, deliveries: Sequence[Delivery]) -> datetime:
        """When the oldest of these deliveries was asked for, by a job or by an operator."""
        wanted = in_steps([delivery.delivery_id for delivery in deliveries])
        query = sa.select(sa.func.min(_d.c.created_at)).where(_d.c.delivery_id.in_(wanted))
        with self._database.read() as connection:
            return rows.to_datetime(connection.execute(query).scalar_one())

    def count_by_state(self) -> dict[str, int]:
        """How many deliveries are in each state."""
        with self._database.read() as connection:
            return count_by_state(connection, "deliveries")

    def count_by_commitment(self) -> dict[str, int]:
        """How many sent deliveries are not committed, by what became of the asking."""
        query = sa.select(_d.c.commitment, sa.func.count()).group_by(_d.c.commitment)
        with self._database.read() as connection:
            found = connection.execute(
                query.where(_d.c.state == str(DeliveryState.SENT), _d.c.commitment != "")
            )
            return {row[0]: int(row[1]) for row in found}

    def _deliveries(self, query: sa.Select[Any]) -> list[Delivery]:
        with self._database.read() as connection:
            return [rows.to_delivery(row) for row in connection.execute(query)]


def _to_shipment(row: sa.Row[Any]) -> Shipment:
    return Shipment(
        job_id=row.job_id,
        destination=row.destination,
        attempt=row.attempt,
        not_before=rows.to_datetime(row.not_before),
        created_at=rows.to_datetime(row.created_at),
        study_instance_uid=row.study_instance_uid or "",
        sender_ae_title=row.sender_ae_title or "",
        priority=row.priority or "",
    )
