"""What `check` says of a PostgreSQL server that the ledger is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_node.operations import doctor_host
from dicom_node.operations.doctor import Finding, failed, ok, warning

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.ledger.database_server import DatabaseServer

NAME = "database"
TODO = "is the server up, may this user connect to this database, and is it PostgreSQL 14 or later?"
# A transaction asks a few times: at more than this a job waits for the database and not for a disk.
_FAR_S = 0.01
_FULL = 0.8


def is_on_a_server(config: Config) -> bool:
    """Whether the ledger is on PostgreSQL."""
    return (config.database.url or "").startswith("postgresql")


def database(config: Config) -> Finding:
    """Whether it answers, which it is, and whether what it has committed outlives a power cut."""
    from dicom_node.ledger.database_server import look_at

    server = look_at(config.database.url or "")
    found = (
        f"PostgreSQL {server.version}, {1000 * server.round_trip_s:.1f} ms away,"
        f" {server.connections} of {server.most_connections} connections"
    )
    return _refusal(server, found) or _read_by_others(config) or _doubt(server, found) or ok(
        NAME, found
    )


def _read_by_others(config: Config) -> Finding | None:
    """What is wrong with the file that holds the password."""
    file = config.database.url_file
    return None if file is None else doctor_host.secret_file(NAME, file, "the URL")


def _refusal(server: DatabaseServer, found: str) -> Finding | None:
    if server.is_read_only:
        return failed(NAME, f"{found}; it follows another server and takes no writes",
                      "name both servers in the URL, with target_session_attrs=read-write")
    if not server.may_create:
        return failed(NAME, f"{found}; this user may make no tables in it",
                      "ALTER DATABASE ... OWNER TO the user of the URL")
    return None


def _doubt(server: DatabaseServer, found: str) -> Finding | None:
    from dicom_node.ledger.database_server import OLDEST_MAJOR

    off = [name for name in ("fsync", "full_page_writes") if server.settings[name] == "off"]
    if off:
        return warning(NAME, f"{found}; {' and '.join(off)} off: a power cut may destroy it",
                       "ALTER SYSTEM RESET " + "; ALTER SYSTEM RESET ".join(off))
    if server.settings["synchronous_commit"] == "off":
        return warning(NAME, f"{found}; synchronous_commit is off: the node turns it on for itself,"
                       " and others that write there lose their last half second",
                       "ALTER SYSTEM, ALTER DATABASE or ALTER ROLE ... RESET synchronous_commit")
    if server.major < OLDEST_MAJOR:
        return warning(NAME, f"{found}; it is older than what the node is tried on",
                       f"PostgreSQL {OLDEST_MAJOR} or later")
    if server.settings["server_encoding"] != "UTF8":
        return warning(NAME, f"{found}; its encoding is {server.settings['server_encoding']}: a"
                       " reason with other characters cannot be recorded",
                       "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0")
    if server.connections > _FULL * server.most_connections:
        return warning(NAME, f"{found}: who comes next may be refused", "raise max_connections")
    if server.round_trip_s > _FAR_S:
        return warning(NAME, f"{found}: every step of every job waits for it several times",
                       "a server in the same building")
    return None
