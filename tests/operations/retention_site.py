"""A ledger and a spool with studies in every state, without the node around them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.intake.inventory import take_inventory
from dicom_node.ledger import tables
from dicom_node.ledger.ledger import Ledger
from dicom_node.operations.retention import Retention, settle_removals
from dicom_node.records import DeliveryState, Instance, JobState, SeriesState
from dicom_node.spool import Spool
from tests.ledger.conftest import delivery, instance, job, result

CT = "1.2.840.10008.5.1.4.1.1.2"
LONG_AGO = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
S, J, D = SeriesState, JobState, DeliveryState


def config_of(folder: Path, **storage: Any) -> Config:
    return Config.model_validate(
        {
            "node": {"data_dir": folder},
            "peers": {
                "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 1},
                "strict": {"ae_title": "STRICT", "host": "127.0.0.1", "port": 1,
                           "storage_commitment": "required"},
                "plain": {"ae_title": "PLAIN", "host": "127.0.0.1", "port": 1,
                          "storage_commitment": "off"},
            },
            "storage": {"refuse_below_free_bytes": 0, "make_room_below_free_bytes": 0, **storage},
        }
    )


class Site:
    """A ledger and a spool, without the node around them."""

    def __init__(self, folder: Path, **storage: Any) -> None:
        self.folder = folder
        self.config = config_of(folder, **storage)
        self.ledger = Ledger.open(folder / "ledger.db")
        self.spool = Spool(folder / "spool")
        self.told: list[Mapping[str, object]] = []
        self.events = Events(lambda name, fields: self.told.append({"event": name, **fields}))
        self.retention = Retention(self.config, self.ledger, self.spool, self.events)
        self.numbers = itertools.count(1)

    def put(self, path: str, content: bytes = b"pixels") -> str:
        """Write a file of the spool; its fingerprint."""
        target = self.spool.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        # The folder says when something last came.
        os.utime(target.parent, (LONG_AGO.timestamp(),) * 2)
        found = target.stat()
        return f"{found.st_size}-{found.st_mtime_ns}"

    def received(self, study: str, series: str, number: int, **changes: Any) -> Instance:
        """One image, on disk and in the ledger."""
        path = f"instances/{study}/{series}/{number}.dcm"
        one = replace(
            instance(number, series=series, fingerprint=self.put(path), at=LONG_AGO), path=path,
            study_instance_uid=study, **changes,
        )
        self.ledger.index([one])
        return one

    def study(
        self,
        *,
        series: SeriesState = S.ROUTED,
        reason: str = "",
        jobs: Mapping[str, tuple[JobState, str]] | None = None,
        deliveries: Mapping[str, list[tuple[DeliveryState, str, str]]] | None = None,
        at: datetime = LONG_AGO,
    ) -> str:
        """A study in some state: jobs by name, and their deliveries (state, commitment, to)."""
        number = next(self.numbers)
        study, uid = f"1.2.{number}", f"1.2.{number}.1"
        for slice_number in (1, 2):
            self.received(study, uid, slice_number)
        with self.ledger._database.write() as connection:
            def insert(table: sa.Table, record: Any, **more: Any) -> None:
                values = {**vars(record), **more}
                for name, value in values.items():
                    if isinstance(value, datetime):
                        values[name] = value.timestamp()
                    if isinstance(value, tuple):
                        values[name] = '["' + '", "'.join(value) + '"]'
                connection.execute(sa.insert(table).values(values))

            uids = itertools.count(1)
            for name, (state, why) in (jobs or {}).items():
                name = f"{number}-{name}"
                sent = (deliveries or {}).get(name.partition("-")[2], [])
                made = replace(
                    job(name, series=uid), study_instance_uid=study, state=state, reason=why,
                    destinations=tuple(dict.fromkeys(to for _, _, to in sent)) or ("pacs",),
                    changed_at=at, created_at=at,
                )
                insert(tables.jobs, made, seconds_by_stage="{}", shadow=int(made.shadow))
                for position, (how, commitment, to) in enumerate(sent):
                    object_number = number * 100 + next(uids)
                    one = replace(result(object_number, name), study_instance_uid=study)
                    self.put(one.path, b"result")
                    insert(tables.results, one)
                    insert(
                        tables.deliveries,
                        replace(
                            delivery(position, name, to, uid=object_number), state=how,
                            commitment=commitment, changed_at=at,
                        ),
                        created_at=at,
                    )
            connection.execute(
                sa.update(tables.series)
                .where(tables.series.c.series_instance_uid == uid)
                .values(state=str(series), reason=reason, changed_at=at.timestamp())
            )
        return study

    def delivered(self, **changes: Any) -> str:
        given: dict[str, Any] = {
            "jobs": {"a": (J.SUCCEEDED, "produced")},
            "deliveries": {"a": [(D.COMMITTED, "", "pacs")]}, **changes,
        }
        return self.study(**given)

    def is_here(self, study: str) -> bool:
        folder = self.spool.root / "instances" / study
        files = sorted(folder.rglob("*.dcm")) if folder.exists() else []
        assert len(files) in (0, 2), "by half"
        (series,) = self.ledger.receipts.series_of_study(study)
        assert (series.state is S.REMOVED) == (not files)
        return bool(files)

    def work(self) -> None:
        """Tick until everything was looked at."""
        self.retention._rest_until_s = 0.0
        while not self.retention._rest_until_s:
            self.retention.tick()

    def start_again(self) -> None:
        """What a start of the node does before it opens its doors."""
        settle_removals(self.ledger, self.spool)
        found = take_inventory(self.ledger, self.spool, "restart", self.events, forget=True)
        assert (found.indexed, found.missing) == (0, 0)
        assert not list((self.spool.root / "removing").glob("*"))
