"""A process's place among the hosts of a node: a connection of its own, and the locks it holds.

Who lives and who leads is said by session advisory locks of PostgreSQL (PostgreSQL 13.3.5): they
end with the connection. The server ends it when the process ended, when its host is cut off
(keepalives, a few seconds), and when nothing came over it for `_IDLE_S`, so also when the process
stands still. The process for its part trusts a lock for `PROVEN_S` after it last asked the server
with success, which is shorter: it stops before another one begins.

Every round (`HostSession.round`), about once a second:

0.  at first, and whenever the connection is a new one, the locks of its own name are taken: a name
    with a role is one process's;
1.  its own row is written, or written anew where it was taken for gone, and the clock is set;
2.  of the duties that it wants, those that are free are taken;
3.  of processes that were silent for a while the lock is tried: who gets it knows that the process
    is gone, and writes that into its row.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.errors import HostNameTaken, LedgerUnavailable
from dicom_node.ledger import clock, host_tables
from dicom_node.ledger.database import create_engine, unavailable
from dicom_node.ledger.hosts import ENDED, SILENT, HostState, all_hosts, database_now

PROVEN_S = 5.0
"""How long a lock counts after the server was last asked."""
SILENT_AFTER_S = 4.0
"""A process that gave no sign of life for so long may be gone."""
_IDLE_S = 8
_STATEMENT_S = 3
# After the database was away everybody comes back, one a little later than another.
_OTHERS_COME_BACK_S = 10.0
_ROWS_KEPT_S = 86_400.0
_PROCESS = "process "
# By its name a host has its queues and its half-received files.
_NAME = "name {host} {role}"
_h = host_tables.hosts
# Each is refused by servers that do not know it: the first came with version 14.
_SESSION = (
    f"SET idle_session_timeout = '{_IDLE_S}s'",
    f"SET statement_timeout = '{_STATEMENT_S}s'",
    f"SET lock_timeout = '{_STATEMENT_S}s'",
    "SET tcp_keepalives_idle = 2",
    "SET tcp_keepalives_interval = 1",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = '5s'",
    # A sign of life need not outlive the server.
    "SET synchronous_commit = off",
)


@dataclass(frozen=True)
class Process:
    """What a process tells of itself; see `HostState`."""

    process_id: str
    host_name: str
    roles: tuple[str, ...]
    version: str


class HostSession:
    """The session of one process; `round` from one thread, everything else from any.

    Parameters
    ----------
    url
        PostgreSQL, directly or through a pool that gives each client a connection for itself.
    process
        Who this is.
    """

    def __init__(self, url: str, process: Process) -> None:
        self.process = process
        self._engine = create_engine(url, immediate=False)
        self._connection: sa.Connection | None = None
        self._lock = threading.Lock()
        self._held: frozenset[str] = frozenset()
        self._proven_s = self._connected_s = 0.0
        self._others: tuple[float, tuple[HostState, ...]] = (0.0, ())
        self._has_row = False
        self._devices: tuple[str, ...] = ()
        self._models: tuple[str, ...] = ()

    def holds(self, duty: str) -> bool:
        """Whether this process holds a duty, as far as it can know."""
        return duty in self._held and time.monotonic() - self._proven_s < PROVEN_S

    def is_here(self) -> bool:
        """Whether the others can know that this process lives."""
        return self.holds(_PROCESS + self.process.process_id)

    def hosts(self) -> tuple[tuple[HostState, ...], float]:
        """All processes as of the last round, and how many seconds ago that was."""
        read_s, found = self._others
        return found, time.monotonic() - read_s

    def say(self, devices: Collection[str], models: Collection[str]) -> None:
        """From the next round on the others know that this process has these."""
        self._devices, self._models = tuple(devices), tuple(sorted(models))

    def round(self, wanted: Iterable[str], waiting_s: float = 0.0) -> list[HostState]:
        """One round of the module; returns the processes that it found gone.

        Parameters
        ----------
        wanted
            Duties to be taken where they are free.
        waiting_s
            See `HostState.waiting_s`.

        Raises
        ------
        LedgerUnavailable
            The connection is lost and every lock with it, or will be when the server notices.
        HostNameTaken
            Another process that has a connection does the same under the same name.
        """
        try:
            with unavailable("the place among the hosts is not kept"):
                return self._round(set(wanted), waiting_s)
        # Whatever it was: what is not known to be held is not held.
        except BaseException:
            self._drop()
            raise

    def _round(self, wanted: set[str], waiting_s: float) -> list[HostState]:
        began_s = time.monotonic()
        connection = self._connected()
        own = _PROCESS + self.process.process_id
        if own not in self._held:
            self._take_place(connection, own)
        self._write_row(connection, waiting_s)
        taken = _try_all(connection, sorted(wanted - self._held))
        found = tuple(all_hosts(connection))
        with self._lock:
            self._held = self._held | taken | {own}
            self._proven_s = began_s
            self._others = (time.monotonic(), found)
        return self._find_gone(connection, found)

    def _take_place(self, connection: sa.Connection, own: str) -> None:
        who = self.process
        if not _try(connection, own):
            # The server has not noticed yet that the former connection is gone.
            raise LedgerUnavailable("the former connection of this process still has its place")
        names = {_NAME.format(host=who.host_name, role=role): role for role in who.roles}
        lacking = names.keys() - _try_all(connection, sorted(names))
        if lacking:
            # At once: the next attempt is not to meet what this one took.
            connection.execute(sa.select(sa.func.pg_advisory_unlock_all()))
            roles = ", ".join(sorted(names[one] for one in lacking))
            raise HostNameTaken(
                f"another process that lives is called {who.host_name} and does {roles};"
                " expected another name for each host (null: that of the machine)",
                key_path="node.host_name",
            )

    def give_back(self, duty: str) -> None:
        """Let another process have a duty."""
        with self._lock:
            self._held -= {duty}
        if self._connection is not None:
            with unavailable("a duty is not given back"):
                self._connection.execute(sa.select(sa.func.pg_advisory_unlock(_key(duty))))

    def end(self, *, to_index: bool = False) -> None:
        """Give everything back and say that this process left, as far as the database answers."""
        with self._lock:
            self._held = frozenset()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                connection.execute(
                    sa.update(_h)
                    .where(_h.c.process_id == self.process.process_id)
                    .values(gone=ENDED, seen_at=database_now(), to_index=int(to_index))
                )
                # The server would do it as well, when it has noticed: the next one waits for it.
                connection.execute(sa.select(sa.func.pg_advisory_unlock_all()))
        self._drop()
        self._engine.dispose()

    def _connected(self) -> sa.Connection:
        if self._connection is not None:
            return self._connection
        connection = self._engine.connect()
        # Not to be given back to anybody else: the locks are its.
        connection.detach()
        for statement in _SESSION:
            with contextlib.suppress(sa.exc.DBAPIError):
                connection.exec_driver_sql(statement)
        self._connection, self._connected_s = connection, time.monotonic()
        return connection

    def _write_row(self, connection: sa.Connection, waiting_s: float) -> None:
        told = {
            "seen_at": database_now(), "waiting_s": waiting_s, "gone": "", "to_index": 0,
            "devices": json.dumps(self._devices), "models": json.dumps(self._models),
            "clock_ahead_s": time.time() - clock.seconds(),
            "leads": json.dumps(sorted(d for d in self._held if not d.startswith(_PROCESS))),
        }
        asked_s = time.monotonic()
        this = _h.c.process_id == self.process.process_id
        update = sa.update(_h).where(this).values(**told)
        seen_at = connection.execute(update.returning(_h.c.seen_at)).scalar_one_or_none()
        if seen_at is None:
            who = self.process
            insert = sa.insert(_h).values(
                **told, process_id=who.process_id, host_name=who.host_name,
                roles=json.dumps(who.roles), version=who.version, started_at=database_now(),
            )
            seen_at = connection.execute(insert.returning(_h.c.seen_at)).scalar_one()
            connection.execute(
                sa.delete(_h).where(
                    _h.c.gone != "", _h.c.to_index == 0,
                    _h.c.seen_at < database_now() - _ROWS_KEPT_S,
                )
            )
        answered_s = time.monotonic()
        clock.set_by_database(float(seen_at), (asked_s + answered_s) / 2)

    def _find_gone(
        self, connection: sa.Connection, found: Iterable[HostState]
    ) -> list[HostState]:
        # The database was away, or this process was: the others may be coming back as well.
        is_early = time.monotonic() - self._connected_s < _OTHERS_COME_BACK_S
        silent_s = SILENT_AFTER_S + _OTHERS_COME_BACK_S * is_early
        return [
            other for other in found
            if other.process_id != self.process.process_id and other.lives
            # Either way: after the server's clock was set back the last sign lies in the future.
            and (abs(other.age_s) > silent_s or self._is_former(other))
            and self._is_gone(connection, other)
        ]

    def _is_former(self, other: HostState) -> bool:
        """Whether it is likely what was here before this process: its folder's locks are ours."""
        who = self.process
        return other.host_name == who.host_name and bool(set(other.roles) & set(who.roles))

    def _is_gone(self, connection: sa.Connection, other: HostState) -> bool:
        """Whether another process has no connection any more; then its row says so."""
        name = _PROCESS + other.process_id
        if not _try(connection, name):
            return False
        try:
            done = connection.execute(
                sa.update(_h)
                .where(
                    _h.c.process_id == other.process_id, _h.c.gone == "",
                    _h.c.seen_at == other.seen_at,
                )
                .values(gone=SILENT, to_index=int("intake" in other.roles))
            )
            return bool(done.rowcount)
        finally:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(_key(name))))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        with self._lock:
            self._held = frozenset()
        if connection is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                connection.invalidate()
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                connection.close()


def _try(connection: sa.Connection, name: str) -> bool:
    return bool(_try_all(connection, [name]))


def _try_all(connection: sa.Connection, names: list[str]) -> set[str]:
    """Those that are locked from now on, by one question."""
    if not names:
        return set()
    asked = sa.text(
        "SELECT place, pg_try_advisory_lock(key) FROM unnest(CAST(:keys AS bigint[]))"
        " WITH ORDINALITY AS one(key, place)"
    )
    answers = connection.execute(asked, {"keys": [_key(name) for name in names]})
    return {names[place - 1] for place, is_taken in answers if is_taken}


def _key(name: str) -> int:
    """A number of 64 bits with a sign: this family of keys is nobody else's in the ledger."""
    digest = hashlib.sha256(f"dicom-node {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
