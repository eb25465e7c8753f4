"""Storage commitment asked of a real archive, which reports on a new association."""

from __future__ import annotations

from pathlib import Path

from dicom_node.delivery.sender import Sender
from dicom_node.records import DeliveryState
from tests.delivery.commitment_site import site, until
from tests.peers import Orthanc


def test_orthanc_commits_what_it_stored(tmp_path: Path) -> None:
    with site(tmp_path) as node:
        modalities = {"node": ("DICOMNODE", "127.0.0.1", node.port)}
        with Orthanc(tmp_path, modalities=modalities) as orthanc:
            outcomes = Sender("DICOMNODE").send(orthanc.peer, node.paths)
            assert all(outcome.stored for outcome in outcomes)
            node.sent()
            asker = node.asker(node.config(orthanc.port, ae_title="ORTHANC"))
            asker.tick()
            until(lambda: node.has(DeliveryState.COMMITTED), "a report")
            asker.stop()


def test_orthanc_does_not_commit_what_it_has_lost(tmp_path: Path) -> None:
    with site(tmp_path) as node:
        modalities = {"node": ("DICOMNODE", "127.0.0.1", node.port)}
        with Orthanc(tmp_path, modalities=modalities) as orthanc:
            Sender("DICOMNODE").send(orthanc.peer, node.paths[:2])
            node.sent()
            asker = node.asker(node.config(orthanc.port, ae_title="ORTHANC"))
            asker.tick()
            until(lambda: ("pending", "") in node.states(), "a report")
            assert node.states() == [("committed", "committed")] * 2 + [("pending", "")]
            assert node.reasons()[2] == "commitment.failed.no_such_instance"
            (shipment,) = node.ledger.deliveries.open_shipments()
            assert shipment.attempt == 2
            asker.stop()
