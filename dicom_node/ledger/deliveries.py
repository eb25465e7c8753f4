"""What is on its way to which destination, and what the destination answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import rows, states, tables
from dicom_node.ledger.database import Database
from dicom_node.records import Delivery, DeliveryState, SendOutcome

_d = tables.deliveries


@dataclass(frozen=True)
class Shipment:
    """The open deliveries of one job to one destination: what one engine job attempts."""

    job_id: str
    destination: str
    attempt: int
    not_before: datetime

    @property
    def key(self) -> str:
        """The engine's key of the shipment."""
        return f"{self.job_id}:{self.destination}"


class Deliveries:
    """Deliveries of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open_shipments(self) -> list[Shipment]:
        """Every job and destination with something still to send, earliest first."""
        wanted = [str(state) for state in states.OPEN_DELIVERIES]
        query = (
            sa.select(
                _d.c.job_id,
                _d.c.destination,
                sa.func.max(_d.c.attempt).label("attempt"),
                sa.func.min(_d.c.not_before).label("not_before"),
            )
            .where(_d.c.state.in_(wanted))
            .group_by(_d.c.job_id, _d.c.destination)
            .order_by(sa.text("not_before"))
        )
        with self._database.read() as connection:
            return [
                Shipment(row.job_id, row.destination, row.attempt, rows.to_datetime(row.not_before))
                for row in connection.execute(query)
            ]

    def pending(self, job_id: str, destination: str) -> list[Delivery]:
        """What is still to be sent to one destination for one job, in the order of its results."""
        wanted = [str(state) for state in states.OPEN_DELIVERIES]
        query = (
            sa.select(_d)
            .where(_d.c.job_id == job_id, _d.c.destination == destination, _d.c.state.in_(wanted))
            .order_by(_d.c.created_at, _d.c.delivery_id)
        )
        return self._deliveries(query)

    def record(
        self, delivery_id: str, outcome: SendOutcome, *, retry_at: datetime | None
    ) -> DeliveryState:
        """Record what a destination answered and return the state that follows.

        Stored becomes ``sent``; a transient failure becomes ``pending`` again for ``retry_at``;
        a permanent one, or a transient one without ``retry_at``, becomes ``dead``. A delivery
        that another attempt has brought to an end meanwhile stays as that one left it.
        """
        now = datetime.now(UTC).timestamp()
        change: dict[str, Any] = {"status": outcome.status}
        with self._database.write() as connection:
            state = self._state(connection, delivery_id)
            if state not in states.OPEN_DELIVERIES:
                return state
            if outcome.stored:
                rows.change_state(
                    connection, "delivery", delivery_id, DeliveryState.SENT, outcome.reason, now,
                    **change,
                )
                return DeliveryState.SENT
            rows.change_state(
                connection, "delivery", delivery_id, DeliveryState.FAILED, outcome.reason, now,
                **change,
            )
            if retry_at is None or not outcome.transient:
                rows.change_state(
                    connection, "delivery", delivery_id, DeliveryState.DEAD, outcome.reason, now
                )
                return DeliveryState.DEAD
            self._queue_again(connection, delivery_id, outcome.reason, retry_at, now)
            return DeliveryState.PENDING

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
        now = datetime.now(UTC)
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
        return len(dead)

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
        wanted = [str(state) for state in states.OPEN_DELIVERIES]
        with self._database.write() as connection:
            connection.execute(
                sa.update(_d)
                .where(
                    _d.c.job_id == shipment.job_id,
                    _d.c.destination == shipment.destination,
                    _d.c.state.in_(wanted),
                    _d.c.attempt <= shipment.attempt,
                )
                .values(attempt=shipment.attempt + 1)
            )

    def of_job(self, job_id: str) -> list[Delivery]:
        """All deliveries of a job."""
        query = sa.select(_d).where(_d.c.job_id == job_id)
        return self._deliveries(query.order_by(_d.c.destination, _d.c.created_at, _d.c.delivery_id))

    def started_at(self, deliveries: Sequence[Delivery]) -> datetime:
        """When the oldest of these deliveries was asked for, by a job or by an operator."""
        wanted = [delivery.delivery_id for delivery in deliveries]
        query = sa.select(sa.func.min(_d.c.created_at)).where(_d.c.delivery_id.in_(wanted))
        with self._database.read() as connection:
            return rows.to_datetime(connection.execute(query).scalar_one())

    def count_by_state(self) -> dict[str, int]:
        """How many deliveries are in each state."""
        query = sa.select(_d.c.state, sa.func.count()).group_by(_d.c.state)
        with self._database.read() as connection:
            return {row[0]: int(row[1]) for row in connection.execute(query)}

    def _deliveries(self, query: sa.Select[Any]) -> list[Delivery]:
        with self._database.read() as connection:
            return [rows.to_delivery(row) for row in connection.execute(query)]
