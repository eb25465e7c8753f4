"""Storage commitment that the node asks its destinations for (PS3.4 annex J): who owes what.

    wanting -> begin (durable before the request) -> report | end -> wanting ...

A transaction lists deliveries as they were sent: what is reported of one that has been sent again
meanwhile says nothing about the new one and is passed over. A report that comes after its
transaction was given up still counts, for the destination has said it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from dicom_node import references
from dicom_node.backoff import delay_s
from dicom_node.errors import SUCCESS, LedgerUnavailable, NotUnderstood
from dicom_node.ledger import rows, states, tables
from dicom_node.ledger.commitment_reports import (
    Change,
    Reference,
    Reported,
    Standing,
    as_asked_for,
    fail,
    mark,
    settle,
)
from dicom_node.ledger.database import Database
from dicom_node.ledger.name_lists import in_steps
from dicom_node.records import DeliveryState

Left = Literal["wanted", "unanswered", "not_offered", "off"]
NO_REPORT = "commitment.no_report"
NOT_OFFERED = "commitment.not_offered"
MOST_ITEMS = 1000
_SIBLINGS_WAITED_FOR_S = 60.0
# What was asked for so much later than now was asked for before the clock was set back.
_CLOCK_SET_BACK_S = 60.0
_c, _i, _d, _r = tables.commitments, tables.commitment_items, tables.deliveries, tables.results
_OPEN = [str(state) for state in states.OPEN_DELIVERIES]
_SENT = str(DeliveryState.SENT)
_UNASKED = ("", "wanted")


@dataclass(frozen=True)
class Wanting:
    """A delivery that is sent and not committed, and how often that was asked for.

    ``asks`` counts the transactions since it was last sent.
    """

    delivery_id: str
    job_id: str
    destination: str
    asked_for_at: datetime
    asks: int


@dataclass(frozen=True)
class Received:
    """The status that answers a report, why, and what the report changed."""

    status: int
    reason: str
    changes: tuple[Change, ...] = ()


class Commitments:
    """Commitments that the node asks for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def destinations(self) -> list[str]:
        """Destinations with deliveries that are sent and not asked for."""
        query = sa.select(_d.c.destination).distinct()
        query = query.where(_d.c.commitment.in_(_UNASKED), _d.c.state == _SENT)
        with self._database.read() as connection:
            return [row[0] for row in connection.execute(query.order_by(_d.c.destination))]

    def wanting(self, destination: str, now: datetime, most: int = MOST_ITEMS) -> list[Wanting]:
        """Deliveries to ask for now, oldest first; those of one job together where possible."""
        at = rows.to_seconds(now)
        sibling = _d.alias("sibling")
        has_open_sibling = sa.exists().where(
            sibling.c.job_id == _d.c.job_id,
            sibling.c.destination == _d.c.destination,
            sibling.c.state.in_(_OPEN),
        )
        asked_until = sa.func.max(_c.c.not_before)
        query = (
            sa.select(
                _d.c.delivery_id, _d.c.job_id, _d.c.destination, _d.c.created_at,
                sa.func.count(_c.c.transaction_uid).label("asks"),
            )
            .select_from(
                _d.outerjoin(
                    _i,
                    sa.and_(_i.c.delivery_id == _d.c.delivery_id, _i.c.attempt == _d.c.attempt),
                ).outerjoin(_c, _c.c.transaction_uid == _i.c.transaction_uid)
            )
            .where(_d.c.commitment.in_(_UNASKED), _d.c.state == _SENT)
            .where(_d.c.destination == destination)
            .where(~has_open_sibling | (_d.c.changed_at < at - _SIBLINGS_WAITED_FOR_S))
            .group_by(_d.c.delivery_id, _d.c.job_id, _d.c.destination, _d.c.created_at)
            .having(
                sa.or_(
                    asked_until.is_(None), asked_until <= at,
                    sa.func.max(_c.c.changed_at) > at + _CLOCK_SET_BACK_S,
                )
            )
            .order_by(_d.c.created_at, _d.c.delivery_id)
            .limit(most)
        )
        with self._database.read() as connection:
            return [
                Wanting(
                    row.delivery_id, row.job_id, row.destination,
                    rows.to_datetime(row.created_at), row.asks,
                )
                for row in connection.execute(query)
            ]

    def begin(
        self,
        transaction_uid: str,
        destination: str,
        ae_title: str,
        delivery_ids: Sequence[str],
        *,
        asked_at: datetime,
        answer_by: datetime,
        retry_for_s: float,
    ) -> list[Reference]:
        """Record that a destination is about to be asked; (class, instance) of what to ask for.

        Parameters
        ----------
        ae_title
            Who will have to report: a report from another AE title is refused.
        answer_by
            When the transaction counts as unanswered.
        retry_for_s
            How long after a delivery was asked for it is sent again when it is not committed.

        Returns
        -------
        list
            Empty, and nothing is recorded, when none of the deliveries wants to be asked for.
        """
        query = (
            sa.select(_d.c.delivery_id, _d.c.attempt, _r.c.sop_class_uid, _r.c.sop_instance_uid)
            .join(_r, _r.c.sop_instance_uid == _d.c.sop_instance_uid)
            .where(_d.c.delivery_id.in_(in_steps(delivery_ids[:MOST_ITEMS])), _d.c.state == _SENT)
            .where(_d.c.destination == destination, _d.c.commitment.in_(_UNASKED))
            .order_by(_d.c.created_at, _d.c.delivery_id)
        )
        at = rows.to_seconds(asked_at)
        with self._database.write() as connection:
            found = connection.execute(query).all()
            if not found:
                return []
            connection.execute(
                sa.insert(_c).values(
                    transaction_uid=transaction_uid, destination=destination, state="asked",
                    attempt=1, asked_at=at, not_before=rows.to_seconds(answer_by), reason="",
                    changed_at=at, ae_title=ae_title, retry_for_s=retry_for_s,
                )
            )
            connection.execute(
                sa.insert(_i),
                [
                    {"transaction_uid": transaction_uid, "delivery_id": row.delivery_id,
                     "attempt": row.attempt}
                    for row in found
                ],
            )  # fmt: skip
            mark(connection, [row.delivery_id for row in found], "asked")
        return [(row.sop_class_uid, row.sop_instance_uid) for row in found]

    def end(
        self,
        transaction_uid: str,
        reason: str,
        *,
        now: datetime,
        again_at: datetime | None = None,
        left: Left = "wanted",
    ) -> bool:
        """Give an unanswered transaction up; its deliveries are ``left`` so.

        ``again_at``: not to be asked for again before. False when it had been answered meanwhile.
        """
        at = rows.to_seconds(now)
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_c)
                .where(_c.c.transaction_uid == transaction_uid, _c.c.state == "asked")
                .values(
                    state="expired", reason=reason, changed_at=at,
                    not_before=at if again_at is None else rows.to_seconds(again_at),
                )
            )
            if not done.rowcount:
                return False
            asked = [
                row.delivery_id
                for row in as_asked_for(connection, transaction_uid)
                if row.commitment == "asked"
            ]
            mark(connection, asked, left)
        return True

    def leave(self, delivery_ids: Sequence[str], left: Left) -> None:
        """Ask no more for these (``unanswered``, ``not_offered``, ``off``): they stay sent."""
        with self._database.write() as connection:
            mark(connection, delivery_ids, left)

    def bury(self, delivery_ids: Sequence[str], reason: str, now: datetime) -> list[Change]:
        """Make uncommitted deliveries dead letters: commitment was required and did not come."""
        at = rows.to_seconds(now)
        named = _d.c.delivery_id.in_(in_steps(delivery_ids))
        query = sa.select(_d).where(named, _d.c.state == _SENT)
        with self._database.write() as connection:
            found = connection.execute(query).all()
            return [fail(connection, row, reason, at, None) for row in found]

    def overdue(self, now: datetime) -> list[tuple[str, int]]:
        """(transaction, how often its deliveries were asked for at most) past their time."""
        at = rows.to_seconds(now)
        query = (
            sa.select(_c.c.transaction_uid)
            .where(
                _c.c.state == "asked",
                sa.or_(_c.c.not_before <= at, _c.c.asked_at > at + _CLOCK_SET_BACK_S),
            )
            .order_by(_c.c.not_before)
        )
        with self._database.read() as connection:
            return [(row[0], self._asks(connection, row[0])) for row in connection.execute(query)]

    def asks(self, transaction_uid: str) -> int:
        """How often the deliveries of a transaction were asked for at most, this one included."""
        with self._database.read() as connection:
            return self._asks(connection, transaction_uid)

    def _asks(self, connection: sa.Connection, transaction_uid: str) -> int:
        mine = _i.alias("mine")
        times = (
            sa.select(sa.func.count().label("times"))
            .select_from(_i)
            .join(
                mine,
                sa.and_(mine.c.delivery_id == _i.c.delivery_id, mine.c.attempt == _i.c.attempt),
            )
            .where(mine.c.transaction_uid == transaction_uid)
            .group_by(_i.c.delivery_id)
            .subquery()
        )
        return int(connection.execute(sa.select(sa.func.max(times.c.times))).scalar() or 1)

    def is_open(self, transaction_uid: str) -> bool:
        """Whether its report is still waited for."""
        query = sa.select(_c.c.state).where(_c.c.transaction_uid == transaction_uid)
        with self._database.read() as connection:
            return connection.execute(query).scalar() == "asked"

    def not_offered_since(self, destination: str) -> datetime | None:
        """When the destination last said that it has no storage commitment; None when it has."""
        query = (
            sa.select(_c.c.reason, _c.c.changed_at)
            .where(_c.c.destination == destination)
            .order_by(_c.c.asked_at.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or row.reason != NOT_OFFERED:
            return None
        return rows.to_datetime(row.changed_at)

    def receive(
        self, ae_title: str, event_type_id: int, data_set: bytes, *, explicit_vr: bool,
        now: datetime,
    ) -> Received:  # fmt: skip
        """Take an N-EVENT-REPORT with its Event Information as it came (PS3.4 table J.3-2).

        Whoever sends it and whatever is in it, the answer is a status; see `report`.
        """
        if event_type_id not in (1, 2):
            return Received(0x0113, "commitment.event_type")
        try:
            found = references.decode(data_set, explicit_vr=explicit_vr)
        except NotUnderstood as error:
            return Received(0x0115, error.reason)
        transaction_uid = found.uid(references.TRANSACTION_UID)
        if not transaction_uid:
            return Received(0x0115, "commitment.no_transaction_uid")
        failed = {
            item.uid(references.REFERENCED_SOP_INSTANCE_UID):
                item.number(references.FAILURE_REASON) or 0x0110
            for item in found.items(references.FAILED_SOP_SEQUENCE)
        }  # fmt: skip
        committed = set(found.references(references.REFERENCED_SOP_SEQUENCE))
        try:
            reported = self.report(transaction_uid, ae_title, committed, failed, now)
        except LedgerUnavailable as error:
            return Received(0x0110, error.reason)
        is_ours = reported.standing in (Standing.TAKEN, Standing.KNOWN)
        # To a stranger, too, it is a transaction that does not exist.
        status = SUCCESS if is_ours else 0x0112
        return Received(status, f"commitment.{reported.standing.value}", reported.changes)

    def report(
        self,
        transaction_uid: str,
        ae_title: str,
        committed: AbstractSet[Reference],
        failed: Mapping[str, int],
        now: datetime,
    ) -> Reported:
        """Record what a destination reports, durably when this returns; again changes nothing.

        Parameters
        ----------
        ae_title
            Who reports.
        committed
            (SOP Class UID, SOP Instance UID) of what it keeps for good.
        failed
            SOP Instance UID to Failure Reason (0008,1197). What stands in both has failed, and
            what stands in neither is asked for again.

        Raises
        ------
        LedgerUnavailable
            Nothing was recorded; the report must be answered with a failure.
        """
        at = rows.to_seconds(now)
        with self._database.write() as connection:
            row = connection.execute(
                sa.select(_c).where(_c.c.transaction_uid == transaction_uid)
            ).one_or_none()
            refused = None
            if row is None:
                refused = Standing.UNKNOWN_TRANSACTION
            elif row.ae_title.strip() != ae_title.strip():
                refused = Standing.STRANGER
            if row is None or refused is not None:
                rows.record_transition(
                    connection, "commitment", transaction_uid, "", "refused",
                    f"{refused} from {ae_title.strip()[:16]}", 0, at,
                )
                return Reported(refused or Standing.UNKNOWN_TRANSACTION)
            if row.state == "answered":
                return Reported(Standing.KNOWN)
            changes, silent = settle(
                connection, transaction_uid, committed, failed, row.retry_for_s, at
            )
            wait_s = delay_s(self._asks(connection, transaction_uid), random.random())
            connection.execute(
                sa.update(_c)
                .where(_c.c.transaction_uid == transaction_uid)
                .values(
                    state="answered", changed_at=at, not_before=at + wait_s,
                    reason="commitment.incomplete_report" if silent else "",
                )
            )
        return Reported(Standing.TAKEN, changes)
