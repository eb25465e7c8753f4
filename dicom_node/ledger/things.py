"""What transactions decide by, by name: see `dicom_node.ledger.database.Database.write`.

A transaction begins on series or circuits, and may come to a model or a profile afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from dicom_node.ledger import tables
from dicom_node.ledger.database import Database

_j = tables.jobs


def series(series_instance_uid: str) -> str:
    """A series, with its images, its jobs, and what these made, send and owe."""
    return f"series {series_instance_uid}"


def circuit(destination: str) -> str:
    """Whether a destination answers."""
    return f"circuit {destination}"


def model(model_id: str) -> str:
    """How many jobs of a model run."""
    return f"model {model_id}"


def profile(destination: str) -> str:
    """What a destination takes."""
    return f"profile {destination}"


@contextmanager
def writing_on_job(database: Database, job_id: str) -> Iterator[sa.Connection]:
    """One transaction on the series of a job, which never changes; see `Database.write`."""
    query = sa.select(_j.c.series_instance_uid).where(_j.c.job_id == job_id)
    with database.write(on=()) as connection:
        if not database.is_sqlite:
            found = connection.execute(query).scalars()
            database.write_more(connection, [series(uid) for uid in found])
        yield connection


def job_of(delivery_id: str) -> str:
    """The job of a delivery, by its name."""
    return delivery_id.partition(":")[0]
