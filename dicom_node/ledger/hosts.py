"""The processes that share the ledger: what each does, and whether it lives.

One row per process, from its start until a day after its end. Times are those of the database's
clock, so that a host whose clock is wrong is not taken for dead. The rows are written by
`dicom_node.ledger.host_session`, whose locks say who lives; here is what everybody may read, and
what the end of a process means for what it received.

On SQLite there are no rows: one host has the ledger alone, and files in its folder are its locks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import clock, host_tables, tables
from dicom_node.ledger.database import Database

_h, _a = host_tables.hosts, tables.associations
ENDED, SILENT = "ended", "silent"


@dataclass(frozen=True)
class HostState:
    """One process of the node, as the ledger has it.

    Attributes
    ----------
    process_id
        Another one at every start.
    host_name
        ``node.host_name`` of its settings.
    roles, devices, models
        What it does, on which devices, and of which models it has a card.
    version
        Of the program.
    started_at, seen_at
        Seconds since the epoch by the database's clock.
    age_s
        How long ago it last gave a sign of life.
    waiting_s
        How long the oldest image then waited that it had kept and not told the ledger; 0: none.
    gone
        Why it counts as gone, ``ended`` or ``silent``; empty while it lives.
    to_index
        Whether it is gone and may have kept images that the ledger does not know.
    clock_ahead_s
        By how much its own clock is ahead of the database's.
    leads
        The duties that it did for all as it last said.
    """

    process_id: str
    host_name: str
    roles: tuple[str, ...]
    devices: tuple[str, ...]
    models: tuple[str, ...]
    version: str
    started_at: float
    seen_at: float
    age_s: float
    waiting_s: float = 0.0
    gone: str = ""
    to_index: bool = False
    clock_ahead_s: float = 0.0
    leads: tuple[str, ...] = ()

    @property
    def lives(self) -> bool:
        """Whether it does not count as gone."""
        return not self.gone


def database_now() -> sa.ColumnElement[float]:
    """The time of PostgreSQL's clock in seconds since the epoch, as SQL."""
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double)


def all_hosts(connection: sa.Connection) -> list[HostState]:
    """Every process that has a row, by name and start."""
    query = sa.select(_h, (database_now() - _h.c.seen_at).label("age_s"))
    found = connection.execute(query.order_by(_h.c.host_name, _h.c.started_at))
    return [_to_host(row) for row in found]


def without_former(hosts: Sequence[HostState]) -> list[HostState]:
    """The hosts without former processes of theirs: whoever lives, and whoever is gone for now.

    A host that was started again is there, whatever became of its former process; only what that
    one kept and nobody has looked through yet is still to be told.
    """
    living = {(one.host_name, role) for one in hosts if one.lives for role in one.roles}
    last = {(one.host_name, one.roles): one.process_id
            for one in sorted(hosts, key=lambda one: one.started_at) if not one.lives}
    return [
        one for one in hosts
        if one.lives or one.to_index or (
            last[one.host_name, one.roles] == one.process_id
            and not living >= {(one.host_name, role) for role in one.roles}
        )
    ]


class Hosts:
    """The hosts of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_there = False

    def all(self) -> list[HostState]:
        """Every process of the last day; none on SQLite.

        Raises
        ------
        LedgerUnavailable
        """
        if self._database.is_sqlite:
            return []
        with self._database.read() as connection:
            # Who only looks may meet a ledger that a former version made.
            self._is_there = self._is_there or sa.inspect(connection).has_table(_h.name)
            return all_hosts(connection) if self._is_there else []

    def lose_associations(self, *, of_no_process: bool = False) -> int:
        """Close as ``lost`` every open association of a listener whose process is gone.

        ``of_no_process``: also those by which the node itself fetched something. The names of
        listeners begin with their process and a dot; these have none.
        """
        alive = sa.exists().where(
            _h.c.gone == "", _h.c.process_id == sa.func.split_part(_a.c.listener_id, ".", 1)
        )
        named = [] if of_no_process else [_a.c.listener_id.contains(".")]
        orphaned = (_a.c.ended == "", ~alive, *named)
        with self._database.read() as connection:
            if connection.execute(sa.select(sa.literal(1)).where(*orphaned)).first() is None:
                return 0
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_a).where(*orphaned).values(ended="lost", closed_at=clock.seconds())
            )
            return int(done.rowcount)

    def indexed(self, process_ids: Collection[str]) -> None:
        """The kept files were compared with the ledger since these processes were found gone."""
        with self._database.write(()) as connection:
            connection.execute(
                sa.update(_h)
                .where(_h.c.process_id.in_(list(process_ids)), _h.c.gone != "")
                .values(to_index=0)
            )


def _to_host(row: sa.Row[Any]) -> HostState:
    values = dict(row._mapping)
    for name in ("roles", "devices", "models", "leads"):
        values[name] = tuple(json.loads(values[name]))
    values["to_index"] = bool(values["to_index"])
    return HostState(**values)
