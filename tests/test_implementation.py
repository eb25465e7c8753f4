"""How this implementation names itself to others (PS3.7 D.3.3.2)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from dicom_node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.config import PeerSettings
from dicom_node.delivery.association import Timeouts
from dicom_node.delivery.n_action import CONTEXTS, CommitmentAssociation
from dicom_node.delivery.sender import Sender
from dicom_node.errors import PeerUnavailable
from dicom_node.intake.commitment import Verdict
from dicom_node.intake.query import QueryAssociation
from tests.intake.serving import serving_node

VERIFICATION = "1.2.840.10008.1.1"
PUSH_MODEL = "1.2.840.10008.1.20.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture
def callers() -> Iterator[tuple[PeerSettings, list[tuple[str, str]]]]:
    """A peer, and class UID and version name of whoever asked it for an association."""
    named: list[tuple[str, str]] = []

    def remember(event: Any) -> None:
        requestor = event.assoc.requestor
        named.append(
            (str(requestor.implementation_class_uid), str(requestor.implementation_version_name))
        )

    entity = ApplicationEntity("PEER")
    for uid in (VERIFICATION, PUSH_MODEL, FIND):
        entity.add_supported_context(uid)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_REQUESTED, remember)]
    )
    assert server is not None
    port = server.server_address[1]
    yield PeerSettings(name="peer", ae_title="PEER", host="127.0.0.1", port=port), named
    server.shutdown()


def echo(peer: PeerSettings, _folder: Path) -> None:
    Sender("DICOMNODE").echo(peer)


def query(peer: PeerSettings, _folder: Path) -> None:
    with QueryAssociation("DICOMNODE", peer):
        pass


def ask_for_commitment(peer: PeerSettings, _folder: Path) -> None:
    with CommitmentAssociation(peer, "DICOMNODE", CONTEXTS, Timeouts()):
        pass


def report_commitment(peer: PeerSettings, folder: Path) -> None:
    with serving_node(folder, "streamed") as node, contextlib.suppress(PeerUnavailable):
        node.reports(peer.port)._send(Verdict("1.2.3", (), ()), peer)


@pytest.mark.parametrize("call", [echo, query, ask_for_commitment, report_commitment])
def test_every_association_that_the_node_opens_names_the_node_and_no_library(
    call: Callable[[PeerSettings, Path], None],
    callers: tuple[PeerSettings, list[tuple[str, str]]],
    tmp_path: Path,
) -> None:
    peer, named = callers
    call(peer, tmp_path)
    assert named == [(IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)]


def test_class_uid_is_valid_and_version_name_fits() -> None:
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid
    assert 1 <= len(IMPLEMENTATION_VERSION_NAME) <= 16
