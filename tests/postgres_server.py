"""A PostgreSQL server of the tests' own: Debian's programs, a port on loopback, a fresh cluster.

The server refuses to run as root. Then it is run as ``postgres``, or as ``nobody``; where root is
only this user under another name (``unshare -r``), in a user namespace in which it is not root.
Its texts are sorted by the rules of a language, as in most hospitals' clusters, and every
connection needs the password.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import sqlalchemy as sa

from tests.ports import free_port

USER, NAME = "node", "postgres"
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: -int(p.parent.name))
_UNPRIVILEGED = ("postgres", "nobody")
_READY_WITHIN_S = 60.0
_STOPPED_WITHIN_S = 30.0
_LAST_OF_UIDS = 65_534


def need_postgres() -> Path:
    """The folder of the server's programs; skips the test, naming the package, without them."""
    for folder in _FOLDERS:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    pytest.skip("PostgreSQL's server is not installed (Debian package postgresql)")


class PostgresServer:
    """A server that can be stopped, killed and started again with the data that it has.

    Parameters
    ----------
    folder
        Where its log goes, and its data where the server's user may enter it.
    host, port
        Where it listens; a port of the tests without one.
    durable
        Whether a commit is on disk when it returns, as in a hospital.
    options
        Further settings of the server, such as ``{"max_connections": "20"}``.
    """

    def __init__(
        self, folder: Path, host: str = "127.0.0.1", port: int | None = None, *,
        durable: bool = True, options: Mapping[str, str] | None = None,
    ) -> None:
        self._programs = need_postgres()
        folder.mkdir(parents=True, exist_ok=True)
        self.host, self.port = host, port or free_port()
        self.log_path = folder / "postgres.log"
        self._user, self._before = _unprivileged()
        self._own = None if self._may_enter(folder) else Path(tempfile.mkdtemp(prefix="postgres-"))
        self._data = (self._own or folder) / "postgres"
        self._password = secrets.token_urlsafe(12)
        self._settings = {
            "listen_addresses": host, "port": str(self.port), "unix_socket_directories": "",
            "shared_buffers": "32MB", "max_connections": "100", "lc_messages": "C",
            **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
            **(options or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """``postgresql://`` with user and password, of the database that every cluster has."""
        return f"postgresql://{USER}:{self._password}@{self.host}:{self.port}/{NAME}"

    def __enter__(self) -> Self:
        try:
            self._make_cluster()
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def start(self) -> None:
        """Start, also again after :meth:`stop` or :meth:`kill`, and wait until it answers."""
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._as_user("postgres", "-D", str(self._data), *options),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                **self._credentials(),
            )
        deadline = time.monotonic() + _READY_WITHIN_S
        while not _answers(self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as an update of its package does: connections are cut, nothing is lost."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(_STOPPED_WITHIN_S)

    def kill(self) -> None:
        """End all its processes at once, as a machine without power would."""
        process, self._process = self._process, None
        if process is None:
            return
        # A server that is left alone by its first process holds its memory, and the next start.
        for pid in [process.pid, *_children(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def log_text(self) -> str:
        """What the server has logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def remove(self) -> None:
        """End the server and remove its data."""
        self.kill()
        shutil.rmtree(self._own or self._data, ignore_errors=True)

    def _make_cluster(self) -> None:
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            for path in filter(None, (self._own, self._data)):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        with tempfile.NamedTemporaryFile("w") as password:
            password.write(self._password)
            password.flush()
            if self._user is not None:
                os.chown(password.name, self._user.pw_uid, self._user.pw_gid)
            arguments = [
                "-D", str(self._data), "-U", USER, "--encoding=UTF8", "--no-sync", "--locale=C",
                "--auth=scram-sha-256", f"--pwfile={password.name}",
                "--locale-provider=icu", "--icu-locale=en-US",
            ]
            done = subprocess.run(
                self._as_user("initdb", *arguments), capture_output=True, text=True, check=False,
                **self._credentials(),
            )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")
        with (self._data / "pg_hba.conf").open("a") as file:
            file.write("host all all all scram-sha-256\n")

    def _as_user(self, program: str, *arguments: str) -> list[str]:
        return [*self._before, str(self._programs / program), *arguments]

    def _credentials(self) -> dict[str, Any]:
        of_user: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
        if self._user is not None:
            of_user |= {
                "user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": [],
            }
        return of_user

    def _may_enter(self, folder: Path) -> bool:
        if self._user is None:
            return True
        above = [folder.resolve(), *folder.resolve().parents]
        return all(path.stat().st_mode & stat.S_IXOTH for path in above)


@contextmanager
def postgres_server(
    folder: Path, host: str = "127.0.0.1", port: int | None = None, *,
    durable: bool = True, options: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A running server; gives the URL of its first database. See `PostgresServer`."""
    with PostgresServer(folder, host, port, durable=durable, options=options) as server:
        yield server.url


def database(url: str, name: str, *, template: str | None = None) -> str:
    """Make an empty database, or a copy of ``template``, in the server of ``url``; its URL."""
    copied = "" if template is None else f' TEMPLATE "{template}"'
    with _connected(url) as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"{copied}')
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


_EMPTY = """
DO $$ DECLARE one record; BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    SET LOCAL session_replication_role = replica;
    FOR one IN SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
            WHERE schemaname IN ('public', 'dbos') AND tablename NOT LIKE '%migrations' LOOP
        EXECUTE 'DELETE FROM ' || one.name;
    END LOOP;
    FOR one IN SELECT format('%I.%I', schemaname, sequencename) AS name FROM pg_sequences LOOP
        EXECUTE 'ALTER SEQUENCE ' || one.name || ' RESTART';
    END LOOP;
END $$
"""


def empty_database(url: str) -> None:
    """Delete every row in the database of ``url``; who is connected to it is cut off."""
    with _connected(url) as connection:
        # As it is: a colon would begin a parameter's name.
        connection.exec_driver_sql(_EMPTY.replace("%", "%%"), ())


def drop_database(url: str) -> None:
    """Remove the database of ``url``; who is connected to it is cut off."""
    named = sa.make_url(url)
    with _connected(named.set(database=NAME).render_as_string(hide_password=False)) as connection:
        connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{named.database}" WITH (FORCE)')


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    parsed = sa.make_url(url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(
        parsed, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool,
        connect_args={"connect_timeout": 10},
    )
    with engine.connect() as connection:
        yield connection


def _answers(url: str) -> bool:
    try:
        with _connected(url):
            return True
    except sa.exc.OperationalError:
        return False


def _unprivileged() -> tuple[pwd.struct_passwd | None, Sequence[str]]:
    """Whom the server runs as, if it is not this user, and what to put before its commands."""
    if os.geteuid() != 0:
        return None, ()
    mapped = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    if not any(int(first) == 0 and int(count) >= _LAST_OF_UIDS for first, _, count in mapped):
        return None, ("unshare", "--user", f"--map-user={_LAST_OF_UIDS}")
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name), ()
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _children(pid: int) -> list[int]:
    """Processes that a process has started (proc(5): state, ppid)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.parent.name))
    return found
