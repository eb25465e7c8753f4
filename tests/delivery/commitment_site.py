"""A node's ledger with results that a destination has stored, and a listener it may report to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydicom.uid import UID

from dicom_node.config import Config
from dicom_node.delivery.association import Timeouts
from dicom_node.delivery.commitment import CommitmentAsker
from dicom_node.events import Events
from dicom_node.intake.indexer import Indexer
from dicom_node.intake.listener import Listener
from dicom_node.intake.normalised import NormalisedServices
from dicom_node.intake.settings import ListenerSettings
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import DeliveryState, SendOutcome, SeriesState
from dicom_node.spool import Spool
from tests.dicom_samples import ct_series, write_instance
from tests.ledger.conftest import START, delivery, instance, job, result

PATIENCE_S = 60.0
CT = "1.2.840.10008.5.1.4.1.1.2"


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition that only looks."""
    waiting = threading.Event()
    deadline = datetime.now(UTC) + timedelta(seconds=PATIENCE_S)
    while not condition():
        assert datetime.now(UTC) < deadline, what
        waiting.wait(0.05)


@dataclass
class Site:
    """Results ``2.25.1`` ... of one job, as files and in the ledger, for the peer ``pacs``."""

    folder: Path
    ledger: Ledger
    spool: Spool
    paths: list[Path]
    listener: Listener
    port: int = 0

    def config(self, port: int, *, ae_title: str = "SCRIPTED", **delivery: Any) -> Config:
        """Settings with one peer; by default nothing waits long."""
        settings = {"commitment_wait_s": 0.0, "commitment_within_s": 3600.0, **delivery}
        return Config.model_validate(
            {
                "node": {"ae_title": "DICOMNODE", "data_dir": self.folder},
                "peers": {"pacs": {"ae_title": ae_title, "host": "127.0.0.1", "port": port}},
                "delivery": settings,
            }
        )

    def asker(self, config: Config) -> CommitmentAsker:
        """What asks for commitment; not started."""
        return CommitmentAsker(config, self.ledger, Events(), Timeouts(10, 20, 20, 20))

    def sent(self, *numbers: int) -> None:
        """Say that the destination stored these."""
        for number in numbers or range(1, len(self.paths) + 1):
            self.ledger.deliveries.record(
                f"job-1:pacs:{number:02d}", SendOutcome(f"2.25.{number}", 0, True, False, "stored"),
                retry_at=None,
            )

    def states(self) -> list[tuple[str, str]]:
        """State and commitment of every delivery, in order."""
        found = self.ledger.deliveries.of_job("job-1")
        return [(str(one.state), one.commitment) for one in found]

    def reasons(self) -> list[str]:
        """Why every delivery is in its state."""
        return [one.reason for one in self.ledger.deliveries.of_job("job-1")]

    def has(self, state: DeliveryState) -> bool:
        """Whether all deliveries are in this state."""
        return {found for found, _ in self.states()} == {str(state)}


@contextlib.contextmanager
def site(folder: Path, instances: int = 3, *, listening: bool = True) -> Iterator[Site]:
    """A site whose listener accepts anybody; ``port`` is its port."""
    ledger = Ledger.open(folder / "ledger.db")
    spool = Spool(folder / "spool", 0)
    numbers = range(1, instances + 1)
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.3", [job()], "rules", seen=START)
    ledger.jobs.start("job-1", 1)
    now = datetime.now(UTC)
    results = [replace(result(n), sop_class_uid=CT, created_at=now) for n in numbers]
    ledger.jobs.succeed("job-1", results, [delivery(n) for n in numbers], "result", {})
    settings = ListenerSettings.of(
        Config.model_validate(
            {
                "node": {"ae_title": "DICOMNODE", "host": "127.0.0.1", "port": 0,
                         "data_dir": folder},
                "storage": {"refuse_below_free_bytes": 0},
                "access": {"accept_unknown_callers": True},
            }
        )
    )
    indexer = Indexer(ledger, spool, "test", Events())
    indexer.start()
    services = NormalisedServices(ledger, spool, Events())
    listener = Listener(settings, spool, indexer, Events(), services=services)
    port = listener.start() if listening else 0
    try:
        yield Site(folder, ledger, spool, list(_files(folder, instances)), listener, port)
    finally:
        listener.close(drain_s=1)
        indexer.close()
        ledger.close()


def _files(folder: Path, instances: int) -> Iterator[Path]:
    for number, dataset in enumerate(ct_series((instances, 8, 8)), start=1):
        dataset.SOPInstanceUID = UID(f"2.25.{number}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        yield write_instance(dataset, folder / f"{number}.dcm")
