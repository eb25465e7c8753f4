"""An outbox with real results and real peers, whose clock and engine the test holds in its hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.uid import UID

from dicom_node.config import Config
from dicom_node.delivery.association import Timeouts
from dicom_node.delivery.dispatch import KIND, DeliveryDispatch
from dicom_node.delivery.sender import Sender
from dicom_node.delivery.shipping import Shipping
from dicom_node.events import Events
from dicom_node.ledger.engine import Handler, QueueLimits, Standing
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import (
    Delivery,
    DeliveryState,
    DestinationProfile,
    Priority,
    SeriesState,
)
from dicom_node.spool import Spool
from tests.dicom_samples import ct_series, write_instance
from tests.ledger.conftest import START, delivery, instance, job, result

IMPATIENT = Timeouts(connect_s=5.0, association_s=0.3, write_s=5.0, response_s=0.3)


class Clock:
    """A time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def catch_up(self) -> None:
        """Reach the time by which the ledger dates what operators ask for."""
        self.reach(datetime.now(UTC))

    def reach(self, at: datetime) -> None:
        self.now = max(self.now, at)


class HeldEngine:
    """A `JobEngine` that runs what it was given when the test says so."""

    def __init__(self) -> None:
        self.handlers: Mapping[str, Handler] = {}
        self.given: list[tuple[str, int]] = []
        self.waiting: list[tuple[str, int]] = []
        self.lost: set[tuple[str, int]] = set()

    def start(self, handlers: Mapping[str, Handler], queues: Mapping[str, QueueLimits]) -> None:
        self.handlers = handlers

    def submit(self, kind: str, key: str, attempt: int, **_: object) -> None:
        if (key, attempt) not in self.given:
            self.given.append((key, attempt))
            self.waiting.append((key, attempt))

    def start_here(self, kind: str, key: str, attempt: int) -> None:
        """Deliveries begin in their queue."""

    def standing(self, kind: str, key: str, attempt: int) -> Standing:
        if (key, attempt) not in self.given or (key, attempt) in self.lost:
            return Standing.UNKNOWN
        return Standing.OPEN if (key, attempt) in self.waiting else Standing.FINISHED

    def sweep(self) -> int:
        return 0

    def prune(self, older_than: timedelta) -> int:
        return 0

    def stop(self) -> None:
        """Nothing runs."""

    def run(self) -> None:
        """Do what waits, each thing as a thread of the engine would."""
        while self.waiting:
            self.handlers[KIND](*self.waiting.pop(0))


class Outbox:
    """A ledger, a spool, and what takes results from them to the peers ``ports`` names."""

    def __init__(
        self,
        folder: Path,
        ports: Mapping[str, int],
        *,
        retry_for_h: float = 96.0,
        associations: int = 2,
        timeouts: Timeouts | None = None,
        idle_s: float = 0.0,
    ) -> None:
        peers = {
            name: {"ae_title": name.upper(), "host": "127.0.0.1", "port": port,
                   "associations": associations}
            for name, port in ports.items()
        }
        self.config = Config.model_validate(
            {"peers": peers, "delivery": {"retry_for_h": retry_for_h}}
        )
        self._folder = folder
        self.clock = Clock()
        self.engine = HeldEngine()
        self.ledger = Ledger.open(folder / "ledger.db")
        know_what_is_taken(self.ledger, *ports)
        self.spool = Spool(folder / "spool")
        self.draw: Callable[[], float] = random.Random(7).random
        self.sender = Sender("NODE", timeouts, idle_s=idle_s)
        self.shipping = Shipping(
            self.config, self.ledger, self.spool, Events(), sender=self.sender,
            clock=self.clock, draw=self.draw,
        )
        self.dispatch = self.dispatch_for(self.engine)
        self.engine.start({KIND: self.dispatch.run_attempt}, {KIND: self.dispatch.limits})

    def dispatch_for(self, engine: Any, **options: Any) -> DeliveryDispatch:
        """What hands out deliveries to this engine; probes are done on the spot."""
        return DeliveryDispatch(
            self.ledger, engine, self.config, self.shipping, Events(), clock=self.clock,
            in_background=lambda work: work(), share=1.0, **options,
        )

    def add_job(
        self,
        number: int,
        destinations: tuple[str, ...] = ("pacs",),
        *,
        results: int = 1,
        study: str | None = None,
        priority: Priority = Priority.ROUTINE,
    ) -> str:
        """A succeeded job with results ``2.25.<number>01`` and on, waiting for destinations."""
        job_id, series = f"job-{number}", f"1.2.{number}"
        study = study or f"1.3.{number}"
        self.ledger.index([replace(instance(1, series=series), study_instance_uid=study)])
        self.ledger.receipts.change(series, SeriesState.COMPLETE, "quiet_period")
        made = replace(job(job_id, series=series), study_instance_uid=study, priority=priority)
        self.ledger.jobs.route(series, [made], "rules", seen=START)
        self.ledger.jobs.start(job_id, 1)
        numbers = [number * 100 + position for position in range(1, results + 1)]
        for one, dataset in zip(numbers, ct_series((results, 8, 8)), strict=True):
            dataset.SOPInstanceUID = UID(f"2.25.{one}")
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            path = write_instance(dataset, self._folder / f"{one}.dcm")
            self.spool.put_result(job_id, dataset.SOPInstanceUID, _copy_of(path))
        self.ledger.jobs.succeed(
            job_id,
            [result(one, job_id) for one in numbers],
            [
                replace(delivery(one, job_id, to), not_before=datetime.now(UTC))
                for to in destinations for one in numbers
            ],
            "result", {},
        )
        self.clock.catch_up()
        return job_id

    def round(self) -> None:
        """One look at what waits, and everything that was handed out done."""
        self.dispatch.submit_open()
        self.engine.run()

    def of_job(self, number: int, destination: str = "pacs") -> list[Delivery]:
        found = self.ledger.deliveries.of_job(f"job-{number}")
        return [one for one in found if one.destination == destination]

    def states(self, number: int, destination: str = "pacs") -> list[DeliveryState]:
        return [one.state for one in self.of_job(number, destination)]


def know_what_is_taken(ledger: Ledger, *names: str) -> None:
    """Let peers count as asked, so that the first shipment does not ask them."""
    taken = {result(1).sop_class_uid: ("1.2.840.10008.1.2.1",)}
    for name in names:
        ledger.profiles.put(DestinationProfile(name, taken, frozenset(), START))


def _copy_of(path: Path) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(path.read_bytes())


@contextmanager
def outbox(folder: Path, ports: Mapping[str, int], **options: Any) -> Iterator[Outbox]:
    """An `Outbox` that is closed at the end."""
    opened = Outbox(folder, ports, **options)
    try:
        yield opened
    finally:
        opened.sender.close(0.0)
        opened.ledger.close()
