"""Modality Performed Procedure Steps: what an N-SET refers to that its N-CREATE has said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.database import Database

_p = tables.procedure_steps


@dataclass(frozen=True)
class ProcedureStep:
    """One step; ``status`` is IN PROGRESS, COMPLETED or DISCONTINUED."""

    sop_instance_uid: str
    study_instance_uid: str
    calling_ae_title: str
    status: str


class ProcedureSteps:
    """Procedure steps of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, step: ProcedureStep, now: datetime) -> bool:
        """Keep a new step, durably; False when there is another one under its UID."""
        at = rows.to_seconds(now)
        insert = self._database.insert(_p).values(
            sop_instance_uid=step.sop_instance_uid, study_instance_uid=step.study_instance_uid,
            calling_ae_title=step.calling_ae_title, status=step.status, created_at=at,
            changed_at=at,
        )  # fmt: skip
        with self._database.write() as connection:
            connection.execute(insert.on_conflict_do_nothing())
            query = sa.select(_p).where(_p.c.sop_instance_uid == step.sop_instance_uid)
            return _to_step(connection.execute(query).one()) == step

    def find(self, sop_instance_uid: str) -> ProcedureStep | None:
        """The step of this UID; None when its N-CREATE did not come here."""
        query = sa.select(_p).where(_p.c.sop_instance_uid == sop_instance_uid)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _to_step(row)

    def change(self, sop_instance_uid: str, status: str, now: datetime) -> None:
        """Record the latest status of a step."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(_p)
                .where(_p.c.sop_instance_uid == sop_instance_uid)
                .values(status=status, changed_at=rows.to_seconds(now))
            )


def _to_step(row: sa.Row[tuple[str, ...]]) -> ProcedureStep:
    names = ("sop_instance_uid", "study_instance_uid", "calling_ae_title", "status")
    return ProcedureStep(*(row._mapping[name] for name in names))
