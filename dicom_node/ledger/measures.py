"""What is measured of the ledger: how much is in it now, and what happened since the last look.

Both are cheap however much is kept: states are counted as they change (`dicom_node.ledger.counts`),
the rest reads what is open by an index, and the history from where it was left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from dicom_node.ledger import clock, job_inputs, states, tables
from dicom_node.ledger.counts import count_by_state
from dicom_node.ledger.database import Database, sqlite_path
from dicom_node.records import DeliveryState, JobState

_t, _j, _d, _s, _c = (
    tables.transitions, tables.jobs, tables.deliveries, tables.series, tables.circuits,
)  # fmt: skip
_OPEN_DELIVERIES = [str(state) for state in states.OPEN_DELIVERIES]
_UNDER_WAY = [str(one) for one in (JobState.QUEUED, JobState.RUNNING, JobState.HELD)]
WAITING = "waiting"
"""How a queued job counts that waits for a further series, for which nobody is to be called."""
_UNSETTLED = ("wanted", "asked", "unanswered")
# Several hosts write one PostgreSQL: a number may be taken before, and be seen after, another.
_SETTLED_AFTER_S = 5.0


@dataclass(frozen=True)
class Waiting:
    """How many wait, and when the first of them was asked for (seconds since the epoch)."""

    count: int
    oldest_at: float


@dataclass(frozen=True)
class Standing:
    """The ledger at one moment; sizes in bytes, times in seconds since the epoch.

    ``states`` is by kind (``series``, ``jobs``, ``deliveries``) and state; ``jobs`` are those
    queued, running and held by (priority, state), where those that wait for a series count as
    `WAITING`; ``deliveries`` those open and dead by (destination, state).
    """

    states: Mapping[str, Mapping[str, int]]
    jobs: Mapping[tuple[str, str], Waiting]
    deliveries: Mapping[tuple[str, str], Waiting]
    commitments: Mapping[str, int]
    duties: Mapping[str, int]
    circuits: Mapping[str, str]
    last_received_at: float | None
    model_problems: int
    rules_without_model: int
    size_bytes: int


@dataclass(frozen=True)
class Change:
    """One line of the history; ``model_id`` and ``destination`` where it is of such a thing.

    ``since_last_image_s`` is how long after the last image of its series a job came to its end.
    """

    id: int
    kind: str
    key: str
    from_state: str
    to_state: str
    reason: str
    attempt: int
    at: float
    model_id: str = ""
    destination: str = ""
    study_instance_uid: str = ""
    seconds_by_stage: Mapping[str, float] = field(default_factory=dict)
    since_last_image_s: float | None = None


class Measures:
    """The ledger in numbers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def standing(self) -> Standing:
        """How much there is of everything now.

        Raises
        ------
        LedgerUnavailable
            The database does not answer.
        """
        with self._database.read() as connection:
            return Standing(
                {
                    kind: count_by_state(connection, kind)
                    for kind in ("series", "jobs", "deliveries")
                },
                self._waiting(
                    connection, _j.c.priority, _state_of_job(), _j.c.created_at,
                    _j.c.state.in_(_UNDER_WAY),
                ),
                self._waiting(
                    connection, _d.c.destination, _d.c.state, _d.c.created_at,
                    _d.c.state.in_([*_OPEN_DELIVERIES, str(DeliveryState.DEAD)]),
                ),
                self._counts(
                    connection, _d.c.commitment, _d.c.commitment.in_(_UNSETTLED)
                ),
                self._counts(connection, tables.duties.c.kind, sa.true()),
                {row[0]: row[1] for row in connection.execute(sa.select(_c.c.destination,
                                                                        _c.c.state))},
                connection.execute(sa.select(sa.func.max(_s.c.last_received_at))).scalar_one(),
                self._rows(connection, tables.model_problems),
                self._rows(connection, tables.rules_without_model),
                self._size_bytes(connection),
            )

    def _waiting(
        self, connection: sa.Connection, name: sa.Column[str], state: sa.ColumnElement[str],
        asked_at: sa.Column[float], where: sa.ColumnElement[bool],
    ) -> dict[tuple[str, str], Waiting]:  # fmt: skip
        query = sa.select(name, state.label("stands"), sa.func.count(), sa.func.min(asked_at))
        found = connection.execute(query.where(where).group_by("stands", name))
        return {(row[0], row[1]): Waiting(int(row[2]), float(row[3])) for row in found}

    def _counts(
        self, connection: sa.Connection, name: sa.Column[str], where: sa.ColumnElement[bool]
    ) -> dict[str, int]:
        query = sa.select(name, sa.func.count()).where(where).group_by(name)
        return {row[0]: int(row[1]) for row in connection.execute(query)}

    def _rows(self, connection: sa.Connection, table: sa.Table) -> int:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    def _size_bytes(self, connection: sa.Connection) -> int:
        if not self._database.is_sqlite:
            query = "SELECT pg_database_size(current_database())"
            return int(connection.exec_driver_sql(query).scalar_one())
        path = sqlite_path(self._database.url)
        files = [] if path is None else [path, path.with_name(f"{path.name}-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

    def last_change(self) -> int:
        """The number of the latest line of the history; 0 when there is none."""
        with self._database.read() as connection:
            return int(connection.execute(sa.select(sa.func.max(_t.c.id))).scalar_one() or 0)

    def changes_after(self, number: int, limit: int = 1000) -> list[Change]:
        """Lines of the history after one, oldest first; the latest 5 s not yet on PostgreSQL."""
        query = (
            sa.select(
                _t, _j.c.model_id, _d.c.destination, _j.c.seconds_by_stage,
                _j.c.study_instance_uid, _s.c.last_received_at,
            )
            .outerjoin_from(_t, _j, sa.and_(_t.c.kind == "job", _j.c.job_id == _t.c.key))
            .outerjoin(_d, sa.and_(_t.c.kind == "delivery", _d.c.delivery_id == _t.c.key))
            .outerjoin(_s, _s.c.series_instance_uid == _j.c.series_instance_uid)
            .where(_t.c.id > number)
            .order_by(_t.c.id)
            .limit(limit)
        )
        if not self._database.is_sqlite:
            query = query.where(_t.c.at < clock.seconds() - _SETTLED_AFTER_S)
        with self._database.read() as connection:
            return [_to_change(row) for row in connection.execute(query)]


def _to_change(row: sa.Row[tuple[object, ...]]) -> Change:
    values = row._mapping
    received_at, at = values["last_received_at"], float(values["at"])
    return Change(
        int(values["id"]), values["kind"], values["key"], values["from_state"],
        values["to_state"], values["reason"], int(values["attempt"]), at,
        values["model_id"] or "", values["destination"] or "",
        values["study_instance_uid"] or "",
        json.loads(values["seconds_by_stage"] or "{}"),
        None if received_at is None else max(0.0, at - received_at),
    )


def _state_of_job() -> sa.ColumnElement[str]:
    now = clock.seconds()
    waits = sa.and_(
        _j.c.state == str(JobState.QUEUED), _j.c.not_before > now,
        job_inputs.is_waiting(_j.c.job_id),
    )
    return sa.case((waits, WAITING), else_=_j.c.state)
