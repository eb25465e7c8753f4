"""Peers that are called by TLS: DCMTK, Orthanc and our own listener, and none that is not one."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.raw_scu import CT
from dicom_node.config import Config, PeerSettings
from dicom_node.delivery.association import Association, Timeouts
from dicom_node.delivery.capabilities import probe
from dicom_node.delivery.sender import VERIFICATION, Sender
from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.events import Events
from dicom_node.intake.query import QueryAssociation
from dicom_node.intake.settings import Caller
from dicom_node.node import Node
from tests.dicom_samples import ct_series, write_series
from tests.intake.conftest import Node as ListeningNode
from tests.peers import DcmtkStorescp, Orthanc, free_port
from tests.test_node import running, until
from tests.tls_files import Pair, Site, renew, site

QUICK = Timeouts(connect_s=5, association_s=5, write_s=5, response_s=20)


def peer_at(
    certificates: Site, port: int, host: str = "localhost", *, caller: Pair | None = None,
    **more: Any,
) -> PeerSettings:  # fmt: skip
    """A peer of a node whose certificate is the scanner's unless another is given."""
    own = caller or certificates.scanner
    peer = {"ae_title": "DICOMNODE", "host": host, "port": port, "tls": True, **more}
    tls = {"certificate_file": own.certificate, "key_file": own.key, "ca_file": certificates.ca}
    return Config.model_validate({"peers": {"peer": peer}, "security": {"tls": tls}}).peer("peer")


@pytest.fixture
def listening(tmp_path: Path, certificates: Site) -> Iterator[ListeningNode]:
    node = ListeningNode(
        tmp_path / "spool", tls=certificates.settings(),
        callers=(Caller("NODE", certificate_names=("ct1.hospital",)),),
    )
    yield node
    node.listener.close(drain_s=0)


def refusal_of(call: Callable[[], object]) -> str:
    with pytest.raises(PeerUnavailable) as refused:
        call()
    return refused.value.reason


def echo(peer: PeerSettings) -> int:
    with Association(peer, "NODE", [VERIFICATION], QUICK) as association:
        return association.echo(VERIFICATION)


def test_images_go_by_tls_and_the_idle_association_is_used_again(
    listening: ListeningNode, certificates: Site, tmp_path: Path
) -> None:
    peer = peer_at(certificates, listening.port)
    paths = write_series(ct_series((6, 64, 64)), tmp_path / "ct")
    sender = Sender("NODE", QUICK, idle_s=60)
    assert all(one.stored for one in sender.send(peer, paths[:3]))
    assert all(one.stored for one in sender.send(peer, paths[3:]))
    sender.close(0.0)
    assert len(listening.kept()) == 6
    names = [name for name, _ in listening.happened]
    assert names.count("association_accepted") == 1
    assert probe(peer, "NODE", QUICK).accepted


@pytest.mark.parametrize(
    ("host", "own", "more", "reason"),
    [
        ("127.0.0.1", "scanner", {}, ""),
        ("127.0.0.2", "scanner", {}, "tls.ip_address_mismatch_certificate_is_not_valid_for"),
        ("127.0.0.2", "scanner", {"certificate_names": ["NODE.hospital"]}, ""),
        ("localhost", "scanner", {"certificate_names": ["pacs.hospital"]},
         "tls.certificate_of_another_name"),
        ("localhost", "stranger", {}, "tls.tlsv1_alert_unknown_ca"),
        ("localhost", "expired", {}, "tls.sslv3_alert_certificate_expired"),
    ],
)  # fmt: skip
def test_a_peer_is_what_its_certificate_says_and_so_are_we(
    tmp_path: Path, certificates: Site, host: str, own: str, more: dict[str, Any], reason: str
) -> None:
    node = ListeningNode(tmp_path / "spool", host="0.0.0.0", tls=certificates.settings())
    peer = peer_at(certificates, node.port, host, caller=getattr(certificates, own), **more)
    try:
        assert (refusal_of(lambda: echo(peer)) if reason else echo(peer) and "") == (reason or 0)
        with pytest.raises(PeerUnavailable if reason else PeerRefused):
            QueryAssociation("NODE", peer).__enter__()
    finally:
        node.listener.close(drain_s=0)


def test_a_peer_of_another_authority_is_not_spoken_to(
    listening: ListeningNode, certificates: Site, tmp_path: Path
) -> None:
    other = site(tmp_path / "other")
    reason = refusal_of(lambda: echo(peer_at(other, listening.port)))
    assert reason == "tls.self_signed_certificate_in_certificate_chain"


def test_a_peer_that_speaks_no_tls_gets_nothing_in_the_clear(certificates: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard = b""

        def listen() -> None:
            nonlocal heard
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                heard = connection.recv(65536)
                connection.sendall(b"\x03\x00\x00\x00\x00\x04\x00\x01\x01\x01")
                connection.recv(65536)

        thread = threading.Thread(target=listen)
        thread.start()
        reason = refusal_of(lambda: echo(peer_at(certificates, server.getsockname()[1])))
        thread.join(10)
    assert reason == "tls.wrong_version_number"
    assert heard[:1] == b"\x16"
    assert b"DICOMNODE" not in heard


def test_a_handshake_that_the_peer_does_not_end_is_given_up(certificates: Site) -> None:
    quick = Timeouts(connect_s=1, association_s=0.3, write_s=1, response_s=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = peer_at(certificates, server.getsockname()[1])
        assert refusal_of(lambda: Association(peer, "N", [VERIFICATION], quick)) == "tls.timeout"


def test_a_peer_to_be_called_by_tls_without_settings_for_it_is_not_called() -> None:
    peer = PeerSettings(ae_title="PACS", host="127.0.0.1", port=free_port(), tls=True)
    assert refusal_of(lambda: echo(peer)) == "tls.files"
    assert refusal_of(lambda: QueryAssociation("NODE", peer).__enter__()) == "tls.files"


def test_renewed_certificates_are_shown_to_the_next_peer_and_broken_ones_are_not(
    listening: ListeningNode, tmp_path: Path, certificates: Site
) -> None:
    mine = Pair(tmp_path / "mine.pem", tmp_path / "mine.key")
    shutil.copy(certificates.other.certificate, mine.certificate)
    shutil.copy(certificates.other.key, mine.key)
    peer = peer_at(certificates, listening.port, caller=mine)
    assert refusal_of(lambda: echo(peer)) == "peer.rejected.calling_ae_title"
    mine.key.write_text("half a k")
    assert refusal_of(lambda: echo(peer)) == "peer.rejected.calling_ae_title"
    renew(mine, certificates.scanner)
    assert echo(peer) == 0


@pytest.mark.network
def test_dcmtk_takes_images_by_tls(certificates: Site, tmp_path: Path) -> None:
    options = ("+tls", str(certificates.node.key), str(certificates.node.certificate),
               "+cf", str(certificates.ca), "--verify-peer-cert")
    paths = write_series(ct_series((3, 16, 16)), tmp_path / "ct")
    with DcmtkStorescp(tmp_path, options=options) as storescp:
        peer = peer_at(certificates, storescp.port, ae_title="STORESCP")
        assert all(one.stored for one in Sender("NODE", QUICK).send(peer, paths))
        assert len(storescp.files()) == 3
        stranger = peer_at(certificates, storescp.port, caller=certificates.stranger)
        # By TLS 1.3 the refusal comes behind our first words, or with the end of the connection.
        refused = {"peer.connection_lost", "tls.tlsv1_alert_unknown_ca"}
        assert refusal_of(lambda: echo(stranger)) in refused


@contextmanager
def orthanc_with_tls(
    folder: Path, certificates: Site, node_port: int
) -> Iterator[tuple[Orthanc, PeerSettings]]:
    own = certificates.other
    configuration = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(own.certificate),
        "DicomTlsPrivateKey": str(own.key),
        "DicomTlsTrustedCertificates": str(certificates.ca),
        "DicomTlsRemoteCertificateRequired": True,
        "DicomModalities": {
            "node": {"AET": "DICOMNODE", "Host": "127.0.0.1", "Port": node_port,
                     "UseDicomTls": True},
        },
    }
    with Orthanc(folder, configuration=configuration) as orthanc:
        yield orthanc, peer_at(
            certificates, orthanc.port, ae_title="ORTHANC", certificate_names=["mr1.hospital"]
        )


@pytest.mark.network
def test_orthanc_and_the_node_speak_tls_in_both_directions(
    certificates: Site, tmp_path: Path
) -> None:
    """C-STORE, C-FIND, C-MOVE to us, and storage commitment that it asks for and gets."""
    port = free_port()
    series = ct_series((3, 8, 8))
    paths = write_series(series, tmp_path / "series")
    study = str(series[0].StudyInstanceUID)
    kept = [str(one.SOPInstanceUID) for one in series]
    with orthanc_with_tls(tmp_path, certificates, port) as (orthanc, peer):
        assert all(one.stored for one in Sender("CT01", QUICK).send(peer, paths))
        config = Config.model_validate(
            {
                "node": {"host": "127.0.0.1", "port": port, "data_dir": tmp_path / "node"},
                "storage": {"refuse_below_free_bytes": 0},
                "intake": {"listener_processes": 1, "commitment_report_after_s": 0.2},
                "models": {"devices": ["cpu"]},
                "peers": {"pacs": peer.model_dump(exclude={"name"})},
                "security": {"tls": certificates.settings().model_dump()},
            }
        )
        node = Node(config, Events(), roles={"intake"})
        with running(node):
            with QueryAssociation("DICOMNODE", config.peer("pacs")) as query:
                assert len(query.list_instances(study)) == 3
                assert query.move("DICOMNODE", study).completed == 3
            until(lambda: len(list(node.spool.stored())) == 3, "the images")
            answer = orthanc.post(
                "/modalities/node/storage-commitment",
                {"DicomInstances": [{"SOPClassUID": CT, "SOPInstanceUID": uid} for uid in kept]},
            )

            def report() -> Any:
                return json.loads(orthanc.get(answer["Path"]))

            until(lambda: report()["Status"] != "Pending", "a report")
            assert report()["Status"] == "Success"
