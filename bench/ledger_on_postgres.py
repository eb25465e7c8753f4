"""The generated ledger on PostgreSQL instead of SQLite."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.ledger.database import Database, create_engine
from dicom_node.ledger.moving import move
from tests.postgres_server import PostgresServer, database


@contextmanager
def own_database() -> Iterator[str]:
    """URL of an empty database on a server of its own, whose commits wait for the disk."""
    with (
        tempfile.TemporaryDirectory(prefix="postgres-") as folder,
        PostgresServer(Path(folder), options={"shared_buffers": "256MB"}) as server,
    ):
        yield database(server.url, "ledger")


def moved(path: Path, url: str) -> str:
    """Copy the ledger to PostgreSQL, and have it know its tables; says which server that is."""
    source, target = Database(f"sqlite:///{path}"), Database(url)
    begun = time.monotonic()
    move(source, target)
    seconds = time.monotonic() - begun
    source.close()
    target.close()
    engine = create_engine(url, immediate=False)
    with engine.connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
        version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    engine.dispose()
    return f"PostgreSQL {version} (moved there in {seconds:.0f} s)"
