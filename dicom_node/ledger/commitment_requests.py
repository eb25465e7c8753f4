"""Storage commitment that others ask the node for (PS3.4 annex J), until they have their report."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.commitment_reports import Reference
from dicom_node.ledger.database import Database
from dicom_node.ledger.name_lists import in_steps
from dicom_node.ledger.removals import note_committed

MOST_ITEMS = 50_000
MOST_PENDING = 500
_CHUNK = 500
# What was changed so much later than now was changed before the clock was set back.
_CLOCK_SET_BACK_S = 60.0
_q, _i = tables.commitment_requests, tables.instances


@dataclass(frozen=True)
class CommitmentRequest:
    """What one application asked the node to keep for good.

    ``items``: (SOP Class UID, SOP Instance UID). ``duplicates``: what came under the same
    Transaction UID in another request, which fails with the reason 0131.
    """

    transaction_uid: str
    calling_ae_title: str
    items: tuple[Reference, ...]
    duplicates: tuple[Reference, ...]
    attempt: int
    received_at: datetime


@dataclass(frozen=True)
class Kept:
    """One indexed file of an instance."""

    sop_class_uid: str
    path: str
    size_bytes: int


class CommitmentRequests:
    """Commitments that the node is asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        transaction_uid: str,
        calling_ae_title: str,
        items: Sequence[Reference],
        *,
        now: datetime,
        report_at: datetime,
    ) -> bool:
        """Keep a request, durably when this returns; it is due from ``report_at`` on.

        The same request again is reported on again: its sender has lost our answer. False, and
        nothing is kept, when it lists too much, or too much of this application waits for its
        report already.
        """
        title = calling_ae_title.strip()[:16]
        mine = sa.and_(_q.c.transaction_uid == transaction_uid, _q.c.calling_ae_title == title)
        values: dict[str, Any] = {
            "state": "pending", "attempt": 1, "not_before": rows.to_seconds(report_at),
            "changed_at": rows.to_seconds(now), "reason": "",
        }  # fmt: skip
        asked = list(dict.fromkeys(items))
        if len(asked) > MOST_ITEMS:
            return False
        with self._database.write() as connection:
            row = connection.execute(sa.select(_q.c["items"]).where(mine)).one_or_none()
            if row is not None:
                known = json.loads(row[0])
                new = {"items": _with_duplicates(known, asked)} if _first(known) != asked else {}
                connection.execute(sa.update(_q).where(mine).values(**values, **new))
                return True
            pending = sa.select(sa.func.count()).where(
                _q.c.state == "pending", _q.c.calling_ae_title == title
            )
            if int(connection.execute(pending).scalar_one()) >= MOST_PENDING:
                return False
            connection.execute(
                sa.insert(_q).values(
                    transaction_uid=transaction_uid, calling_ae_title=title,
                    items=json.dumps(asked), received_at=rows.to_seconds(now), **values,
                )
            )
        return True

    def find(self, transaction_uid: str, calling_ae_title: str) -> CommitmentRequest | None:
        """A request whose report has not been delivered; None when there is none."""
        query = sa.select(_q).where(
            _q.c.transaction_uid == transaction_uid,
            _q.c.calling_ae_title == calling_ae_title.strip(),
            _q.c.state == "pending",
        )
        found = self._requests(query)
        return found[0] if found else None

    def titles_due(self, now: datetime) -> list[str]:
        """AE titles that a report is to be sent to now."""
        query = sa.select(_q.c.calling_ae_title).where(_is_due(now)).distinct()
        with self._database.read() as connection:
            return [row[0] for row in connection.execute(query.order_by(_q.c.calling_ae_title))]

    def due(
        self, calling_ae_title: str, now: datetime, most: int = 50
    ) -> list[CommitmentRequest]:
        """Requests whose report is to be sent to this one now, the longest waiting first."""
        query = (
            sa.select(_q)
            .where(_is_due(now), _q.c.calling_ae_title == calling_ae_title)
            .order_by(_q.c.not_before)
            .limit(most)
        )
        return self._requests(query)

    def _requests(self, query: sa.Select[Any]) -> list[CommitmentRequest]:
        with self._database.read() as connection:
            return [_to_request(row) for row in connection.execute(query)]

    def end(
        self, request: CommitmentRequest, state: str, reason: str, now: datetime
    ) -> None:
        """The report was taken (``reported``), or never will be (``dead``).

        What was reported on is to stay for a while: its sender may delete its own.
        """
        self._change(request, now, state=state, reason=reason)

    def again(
        self, request: CommitmentRequest, reason: str, now: datetime, report_at: datetime
    ) -> None:
        """The report could not be delivered; it is due again from ``report_at`` on."""
        self._change(
            request, now, reason=reason, not_before=rows.to_seconds(report_at),
            attempt=request.attempt + 1,
        )  # fmt: skip

    def _change(self, request: CommitmentRequest, now: datetime, **values: Any) -> None:
        with self._database.write() as connection:
            connection.execute(
                sa.update(_q)
                .where(
                    _q.c.transaction_uid == request.transaction_uid,
                    _q.c.calling_ae_title == request.calling_ae_title,
                    _q.c.state == "pending",
                )
                .values(changed_at=rows.to_seconds(now), **values)
            )
            if values.get("state") == "reported":
                uids = [uid for _, uid in request.items]
                note_committed(connection, self._database, uids, rows.to_seconds(now))

    def kept(self, sop_instance_uids: Iterable[str]) -> dict[str, list[Kept]]:
        """The indexed files of these instances; one UID may have come in several series."""
        found: dict[str, list[Kept]] = defaultdict(list)
        uids = list(dict.fromkeys(sop_instance_uids))
        with self._database.read() as connection:
            for start in range(0, len(uids), _CHUNK):
                query = sa.select(
                    _i.c.sop_instance_uid, _i.c.sop_class_uid, _i.c.path, _i.c.size_bytes
                ).where(_i.c.sop_instance_uid.in_(in_steps(uids[start : start + _CHUNK])))
                for row in connection.execute(query):
                    found[row.sop_instance_uid].append(
                        Kept(row.sop_class_uid, row.path, row.size_bytes)
                    )
        return found


def _is_due(now: datetime) -> sa.ColumnElement[bool]:
    at = rows.to_seconds(now)
    was_set_back = _q.c.changed_at > at + _CLOCK_SET_BACK_S
    return sa.and_(_q.c.state == "pending", sa.or_(_q.c.not_before <= at, was_set_back))


def _first(known: list[list[str]]) -> list[Reference]:
    """What the first request of a transaction asked for; later ones are marked."""
    return [(one[0], one[1]) for one in known if len(one) == 2]


def _with_duplicates(known: list[list[str]], asked: Sequence[Reference]) -> str:
    """The items of a transaction with those of another request under the same UID."""
    there = {(one[0], one[1]) for one in known}
    more = [[*one, "duplicate"] for one in asked if one not in there]
    return json.dumps([*known, *more][:MOST_ITEMS])


def _to_request(row: sa.Row[Any]) -> CommitmentRequest:
    items = json.loads(row._mapping["items"])
    return CommitmentRequest(
        row.transaction_uid, row.calling_ae_title, tuple(_first(items)),
        tuple((one[0], one[1]) for one in items if len(one) > 2),
        row.attempt, rows.to_datetime(row.received_at),
    )  # fmt: skip
