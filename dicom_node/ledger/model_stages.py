"""Which version of each model runs: live, beside the live one, for a share of the series, or not.

    candidate (no row) -> live, shadow, canary -> retired -> live, shadow, canary

One version of a model is live, at most one is its shadow and at most one its canary. Every change
is in the history, under the kind ``model``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import clock, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.records import CANDIDATE, ModelProblem, ModelStage, RuleWithoutModel, Stage

_m, _p, _w = tables.model_stages, tables.model_problems, tables.rules_without_model
BEGUN = "the first version of this model"


class NoFormerVersion(LookupError):
    """There is nothing to go back to."""


class IsLive(ValueError):
    """The live version can be neither shadow nor canary of itself."""


class ModelStages:
    """The stages of model versions in the ledger; what is not here is a candidate."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, list[ModelStage]]:
        """Every version that has a stage, by model."""
        found: dict[str, list[ModelStage]] = {}
        with self._database.read() as connection:
            for row in connection.execute(sa.select(_m).order_by(_m.c.changed_at)):
                found.setdefault(row.model_id, []).append(_to_stage(row))
        return found

    def of(self, model_id: str) -> list[ModelStage]:
        """The versions of one model that have a stage, the latest change last."""
        with self._database.read() as connection:
            return _of(connection, model_id)

    def live(self, model_id: str) -> ModelStage | None:
        """The live version of a model; ``None`` while none ever was."""
        return _in_stage(self.of(model_id), Stage.LIVE)

    def begin(self, model_id: str, version: str) -> bool:
        """Make the first version of a model live; false where one is, or was made so meanwhile."""
        now = _now()
        values = _values(model_id, version, Stage.LIVE, now)
        with self._database.write() as connection:
            if _in_stage(_of(connection, model_id), Stage.LIVE) is not None:
                return False
            insert = self._database.insert(_m).values(values)
            insert = insert.on_conflict_do_update(
                index_elements=["model_id", "version"], set_=values
            )
            connection.execute(insert)
            _record(connection, model_id, version, CANDIDATE, Stage.LIVE, BEGUN, now)
        return True

    def promote(self, model_id: str, version: str, reason: str) -> ModelStage:
        """Make a version live in place of the one that is, which is remembered for `rollback`."""
        with self._database.write() as connection:
            return self._promote(connection, model_id, version, reason)

    def rollback(self, model_id: str, reason: str) -> ModelStage:
        """Make the version live that was so before.

        Raises
        ------
        NoFormerVersion
        """
        with self._database.write() as connection:
            live = _in_stage(_of(connection, model_id), Stage.LIVE)
            if live is None or not live.previous:
                raise NoFormerVersion(model_id)
            before = {one.version: one.previous for one in _of(connection, model_id)}
            # Going back twice goes back two versions, and does not come back to this one.
            return self._promote(
                connection, model_id, live.previous, reason,
                previous=before.get(live.previous, ""),
            )

    def put(self, model_id: str, version: str, stage: Stage, share: float, reason: str) -> None:
        """Make a version the shadow or the canary of a model, in place of any other that is.

        ``share`` is the part of the series that a canary gets, from 0 to 1.

        Raises
        ------
        IsLive
        """
        now = _now()
        with self._database.write() as connection:
            stages = {one.version: one for one in _of(connection, model_id)}
            there = stages.get(version)
            if there is not None and there.stage is Stage.LIVE:
                raise IsLive(f"{model_id} {version}")
            for one in stages.values():
                if one.stage is stage and one.version != version:
                    self._end(connection, one, f"{reason}: {version} takes its place", now)
            self._write(
                connection, model_id, version, stage, now, share=share,
                previous=there.previous if there is not None else "",
            )
            _record(
                connection, model_id, version, there.stage if there else CANDIDATE, stage,
                f"{reason}, share {share:g}" if stage is Stage.CANARY else reason, now,
            )

    def end(self, model_id: str, stage: Stage, reason: str) -> ModelStage | None:
        """Let a model have no shadow or canary any more; returns what was it."""
        with self._database.write() as connection:
            found = _in_stage(_of(connection, model_id), stage)
            if found is not None:
                self._end(connection, found, reason, _now())
        return found

    def end_canary(
        self, connection: sa.Connection, model_id: str, version: str, reason: str, now: float
    ) -> bool:
        """Within another book's transaction: let a version be no canary any more, if it is one."""
        for one in _of(connection, model_id):
            if one.version == version and one.stage is Stage.CANARY:
                self._end(connection, one, reason, now)
                return True
        return False

    def problems(self) -> list[ModelProblem]:
        """The folders that the running node does not use as they are, and why."""
        query = sa.select(_p).order_by(_p.c.folder)
        with self._database.read() as connection:
            return [
                ModelProblem(
                    row.folder, row.model_id, row.message, rows.to_datetime(row.since)
                )
                for row in connection.execute(query)
            ]

    def put_problems(self, problems: Sequence[ModelProblem]) -> None:
        """Keep what is wrong with model folders, in place of what was known of it."""
        with self._database.write() as connection:
            connection.execute(sa.delete(_p))
            for one in {one.folder: one for one in problems}.values():
                connection.execute(
                    sa.insert(_p).values({**vars(one), "since": rows.to_seconds(one.since)})
                )

    def rules_without_model(self) -> list[RuleWithoutModel]:
        """The rules whose model the running node cannot run now, by their names."""
        with self._database.read() as connection:
            return [
                RuleWithoutModel(
                    row.rule, row.model_id, row.reason, row.message, rows.to_datetime(row.since)
                )
                for row in connection.execute(sa.select(_w).order_by(_w.c.rule))
            ]

    def put_rules_without_model(self, found: Sequence[RuleWithoutModel]) -> None:
        """Keep which rules are without their model, in place of what was known of it."""
        with self._database.write() as connection:
            connection.execute(sa.delete(_w))
            for one in found:
                connection.execute(
                    sa.insert(_w).values({**vars(one), "since": rows.to_seconds(one.since)})
                )

    def _promote(
        self, connection: sa.Connection, model_id: str, version: str, reason: str,
        *, previous: str | None = None,
    ) -> ModelStage:
        now = _now()
        stages = _of(connection, model_id)
        live = _in_stage(stages, Stage.LIVE)
        if live is not None and live.version == version:
            return live
        there = next((one for one in stages if one.version == version), None)
        if live is not None:
            self._write(
                connection, model_id, live.version, Stage.RETIRED, now, previous=live.previous
            )
            _record(
                connection, model_id, live.version, Stage.LIVE, Stage.RETIRED,
                f"{reason}: {version} is live", now,
            )
        if previous is None:
            previous = live.version if live is not None else ""
        self._write(connection, model_id, version, Stage.LIVE, now, previous=previous)
        _record(
            connection, model_id, version, there.stage if there else CANDIDATE, Stage.LIVE,
            reason, now,
        )
        return ModelStage(model_id, version, Stage.LIVE, 0.0, rows.to_datetime(now), previous)

    def _end(self, connection: sa.Connection, one: ModelStage, reason: str, now: float) -> None:
        self._write(
            connection, one.model_id, one.version, Stage.RETIRED, now, previous=one.previous
        )
        _record(connection, one.model_id, one.version, one.stage, Stage.RETIRED, reason, now)

    def _write(
        self, connection: sa.Connection, model_id: str, version: str, stage: Stage, now: float,
        *, share: float = 0.0, previous: str = "",
    ) -> None:
        values = _values(model_id, version, stage, now, share=share, previous=previous)
        insert = self._database.insert(_m).values(values)
        connection.execute(
            insert.on_conflict_do_update(index_elements=["model_id", "version"], set_=values)
        )


def _of(connection: sa.Connection, model_id: str) -> list[ModelStage]:
    query = sa.select(_m).where(_m.c.model_id == model_id).order_by(_m.c.changed_at)
    return [_to_stage(row) for row in connection.execute(query)]


def _in_stage(stages: list[ModelStage], stage: Stage) -> ModelStage | None:
    return next((one for one in stages if one.stage is stage), None)


def _values(
    model_id: str, version: str, stage: Stage, now: float, *, share: float = 0.0,
    previous: str = "",
) -> Mapping[str, Any]:
    return {
        "model_id": model_id, "version": version, "stage": str(stage), "share": share,
        "changed_at": now, "previous": previous,
    }


def _record(
    connection: sa.Connection, model_id: str, version: str, from_stage: str, to_stage: str,
    reason: str, now: float,
) -> None:
    rows.record_transition(
        connection, "model", f"{model_id}:{version}", from_stage, to_stage, reason, 0, now
    )


def _to_stage(row: sa.Row[Any]) -> ModelStage:
    return ModelStage(
        row.model_id, row.version, Stage(row.stage), float(row.share),
        rows.to_datetime(row.changed_at), row.previous,
    )


def _now() -> float:
    return clock.seconds()
