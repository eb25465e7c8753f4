"""A listener with ledger and spool that serves DIMSE-N, for modalities and archives to talk to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.intake.commitment_reports import CommitmentReports
from dicom_node.intake.indexer import Indexer
from dicom_node.intake.listener import Listener
from dicom_node.intake.normalised import NormalisedServices
from dicom_node.intake.settings import ListenerSettings
from dicom_node.ledger.ledger import Ledger
from dicom_node.spool import Spool


@dataclass
class ServingNode:
    """A listener with its ledger and spool."""

    folder: Path
    ledger: Ledger
    spool: Spool
    port: int

    def reports(self, modality_port: int) -> CommitmentReports:
        """What reports to the modality on a new association; not started."""
        config = Config.model_validate(
            {
                "node": {"ae_title": "DICOMNODE", "data_dir": self.folder},
                "peers": {"ct": {"ae_title": "CT01", "host": "127.0.0.1", "port": modality_port}},
            }
        )
        return CommitmentReports(config, self.ledger, self.spool, Events())


@contextmanager
def serving_node(folder: Path, receive_path: str) -> Iterator[ServingNode]:
    """A node that listens on a free port and lets anybody in."""
    config = Config.model_validate(
        {
            "node": {"ae_title": "DICOMNODE", "host": "127.0.0.1", "port": 0, "data_dir": folder},
            "storage": {"refuse_below_free_bytes": 0},
            "intake": {"receive_path": receive_path, "commitment_report_after_s": 0.2},
            "access": {"accept_unknown_callers": True},
        }
    )
    ledger = Ledger.open(folder / "ledger.db")
    spool = Spool(folder / "spool", 0)
    indexer = Indexer(ledger, spool, "test", Events())
    indexer.start()
    services = NormalisedServices(ledger, spool, Events())
    settings = ListenerSettings.of(config)
    listener = Listener(settings, spool, indexer, Events(), services=services)
    try:
        yield ServingNode(folder, ledger, spool, listener.start())
    finally:
        listener.close(drain_s=1)
        indexer.close()
        ledger.close()
