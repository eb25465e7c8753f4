"""How inputs looked to models, by scanner: numbers without the patient, the series or the study.

They outlast the study that they are of, so that a change of scanners is seen over months; only the
newest of each version are kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import clock, rows, tables
from dicom_node.ledger.database import Database

_f = tables.encoder_features
MOST_KEPT = 2000
"""Rows of one version of a model."""


@dataclass(frozen=True)
class SeenInput:
    """How one input looked to a version of a model; ``scanner`` tells no single device."""

    model_id: str
    model_version: str
    scanner: str
    features: tuple[float, ...]
    at: datetime


class EncoderFeatures:
    """Features of the input of each job whose model's card watches them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(
        self, job_id: str, model_id: str, model_version: str, scanner: str,
        features: Sequence[float],
    ) -> None:
        """Keep those of a job, in place of an earlier attempt's; the oldest make way."""
        values = {
            "job_id": job_id, "model_id": model_id, "model_version": model_version,
            "scanner": scanner, "at": clock.seconds(),
            "vector": json.dumps([float(f"{value:.7g}") for value in features]),
        }
        insert = self._database.insert(_f).values(values)
        own = (_f.c.model_id == model_id) & (_f.c.model_version == model_version)
        with self._database.write(on=()) as connection:
            connection.execute(
                insert.on_conflict_do_update(index_elements=["job_id"], set_=values)
            )
            old = (
                sa.select(_f.c.job_id).where(own).order_by(_f.c.at.desc(), _f.c.job_id)
                .offset(MOST_KEPT).limit(100)
            )
            gone = list(connection.execute(old).scalars())
            if gone:
                connection.execute(sa.delete(_f).where(_f.c.job_id.in_(gone)))

    def of(self, model_id: str, model_version: str) -> list[SeenInput]:
        """What is kept of a version of a model, the oldest first."""
        query = (
            sa.select(_f)
            .where(_f.c.model_id == model_id, _f.c.model_version == model_version)
            .order_by(_f.c.at, _f.c.job_id)
        )
        with self._database.read() as connection:
            return [_to_seen(row) for row in connection.execute(query)]

    def newest(self, model_id: str, model_version: str) -> float:
        """When the newest of a version came, in seconds since 1970; 0 where there is none."""
        query = sa.select(sa.func.max(_f.c.at)).where(
            _f.c.model_id == model_id, _f.c.model_version == model_version
        )
        with self._database.read() as connection:
            return float(connection.execute(query).scalar() or 0.0)

    def counts(self) -> dict[tuple[str, str], int]:
        """How many inputs are kept of each version of each model."""
        query = sa.select(_f.c.model_id, _f.c.model_version, sa.func.count()).group_by(
            _f.c.model_id, _f.c.model_version
        )
        with self._database.read() as connection:
            return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}


def _to_seen(row: sa.Row[Any]) -> SeenInput:
    return SeenInput(
        row.model_id, row.model_version, row.scanner, tuple(json.loads(row.vector)),
        rows.to_datetime(row.at),
    )
