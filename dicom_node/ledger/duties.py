"""What the node owes beyond a job's first results, until it is done (`dicom_node.records.Duty`).

    add -> due -> done
                -> put off -> due

A duty is taken up by its kind and key, and ends by being deleted. One that is added again while
somebody works on it is another duty: ending or putting off the former leaves it due.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dicom_node.backoff import LONGEST_DELAY_S
from dicom_node.ledger import clock, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.records import Duty, DutyKind

ANSWER = str(DutyKind.ANSWER)
FORMS = str(DutyKind.FORMS)
_u = tables.duties
# No duty is put off for longer: one that is, waits for a clock that was set back.
_LONGEST_WAIT = timedelta(seconds=LONGEST_DELAY_S)
# Of the float that a time is kept as; two additions are further apart.
_SAME_S = 5e-7


class Duties:
    """The open duties of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, kind: str, key: str, reason: str) -> None:
        """Owe something, from now on; what is owed already is due again at once."""
        with self._database.write() as connection:
            add(connection, kind, key, reason, clock.seconds())

    def due(self, now: datetime, limit: int = 20) -> list[Duty]:
        """What is to be done now: answers before forms, which take longer; the longest due first.
        """
        is_due = sa.or_(
            _u.c.not_before <= rows.to_seconds(now),
            _u.c.not_before > rows.to_seconds(now + _LONGEST_WAIT),
        )
        order = sa.case((_u.c.kind == ANSWER, 0), else_=1), _u.c.not_before, _u.c.key
        query = sa.select(_u).where(is_due).order_by(*order)
        return self._duties(query.limit(limit))

    def waiting(self, kind: str | None = None) -> list[Duty]:
        """Everything that is owed, or all of one kind."""
        query = sa.select(_u).order_by(_u.c.not_before, _u.c.kind, _u.c.key)
        return self._duties(query if kind is None else query.where(_u.c.kind == kind))

    def put_off(self, duty: Duty, until: datetime, reason: str) -> None:
        """Let a duty that could not be done wait; one added again meanwhile stays due."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(_u).where(*_is_still(duty)).values(
                    attempt=duty.attempt + 1, not_before=rows.to_seconds(until), reason=reason
                )
            )

    def done(self, duty: Duty) -> None:
        """End a duty; one added again meanwhile stays."""
        with self._database.write() as connection:
            end(connection, duty)

    def _duties(self, query: sa.Select[Any]) -> list[Duty]:
        with self._database.read() as connection:
            return [_to_duty(row) for row in connection.execute(query)]


def add(connection: sa.Connection, kind: str, key: str, reason: str, now: float) -> None:
    """Within another book's transaction: owe something, from ``now`` (seconds) on.

    What is owed already is due again, as if nobody had tried it yet.
    """
    connection.execute(sa.delete(_u).where(_u.c.kind == kind, _u.c.key == key))
    connection.execute(
        sa.insert(_u).values(kind=kind, key=key, attempt=0, not_before=now, reason=reason)
    )


def owe_answer(connection: sa.Connection, job_id: str, reason: str, now: float) -> None:
    """Within another book's transaction: owe the answer of a job; a shadow owes nobody any."""
    j = tables.jobs
    shadow = connection.execute(sa.select(j.c.shadow).where(j.c.job_id == job_id)).scalar_one()
    if not shadow:
        add(connection, ANSWER, job_id, reason, now)


def end(connection: sa.Connection, duty: Duty) -> None:
    """Within another book's transaction: end a duty; one added again meanwhile stays."""
    connection.execute(sa.delete(_u).where(*_is_still(duty)))


def _is_still(duty: Duty) -> tuple[sa.ColumnElement[bool], ...]:
    at = rows.to_seconds(duty.not_before)
    return (
        _u.c.kind == duty.kind, _u.c.key == duty.key, _u.c.attempt == duty.attempt,
        _u.c.not_before.between(at - _SAME_S, at + _SAME_S),
    )


def _to_duty(row: sa.Row[Any]) -> Duty:
    values = dict(row._mapping)
    values["not_before"] = rows.to_datetime(values["not_before"])
    return Duty(**values)
