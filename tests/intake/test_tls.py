"""Callers that come by TLS: who is let in, who is not, and that nobody else notices."""

from __future__ import annotations

import queue
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.raw_scu import CT, Rejected, bare_data_set, store_message
from dicom_node.errors import ConfigurationError
from dicom_node.intake.accepted_socket import IntakeSocket
from dicom_node.intake.settings import Caller, ListenerSettings
from dicom_node.intake.tls import secured, shake_hands
from dicom_node.tls_context import server_context
from tests.dicom_samples import ct_series, write_series
from tests.intake.conftest import Node, slice_of
from tests.intake.test_acceptor import until
from tests.tls_files import Pair, Site, renew, site

Start = Callable[..., Node]

SCANNER = Caller("CT1", certificate_names=("CT1.hospital",))


def client(certificates: Site, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def dcmtk(
    node: Node, program: str, *options: str, calling: str = "CT1", files: list[Path] | None = None
) -> subprocess.CompletedProcess[str]:
    if shutil.which(program) is None:
        pytest.skip("DCMTK is not installed")
    return subprocess.run(
        [program, "-aet", calling, "-aec", "DICOMNODE", "-to", "5", *options, "localhost",
         str(node.port), *map(str, files or [])],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def with_certificate(certificates: Site, pair: Pair) -> list[str]:
    return ["+tls", str(pair.key), str(pair.certificate), "+cf", str(certificates.ca)]


def test_storescu_with_its_certificate_stores_every_slice_byte_for_byte(
    both: Start, certificates: Site, tmp_path: Path
) -> None:
    node = both(tls=certificates.settings(), callers=(SCANNER,))
    paths = write_series(ct_series(), tmp_path / "sent")
    options = with_certificate(certificates, certificates.scanner)
    done = dcmtk(node, "storescu", *options, files=paths)
    assert done.returncode == 0, done.stderr
    kept = {bare_data_set(node.spool.resolve(path))[3] for path in node.kept()}
    assert kept == {bare_data_set(path)[3] for path in paths}
    accepted = next(one for name, one in node.happened if name == "association_accepted")
    assert accepted["tls_identity"] == "ct1.hospital localhost"


@pytest.mark.parametrize("profile", ["bcp195", "bcp195_rfc9325", "bcp195_extended"])
@pytest.mark.parametrize("option", ["+py", "+px", "+pz"])
def test_every_profile_of_dcmtk_is_served_by_every_profile(
    start: Start, certificates: Site, profile: str, option: str
) -> None:
    node = start(tls=certificates.settings(profile=profile))
    options = with_certificate(certificates, certificates.scanner)
    assert dcmtk(node, "echoscu", *options, option).returncode == 0


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ("other", "access.certificate"),
        ("expired", "tls.certificate_has_expired"),
        ("stranger", "tls.unable_to_get_local_issuer_certificate"),
        ("", "tls.peer_did_not_return_a_certificate"),
    ],
)
def test_echoscu_with_a_wrong_certificate_is_refused_told_and_harms_nothing(
    both: Start, certificates: Site, pair: str, reason: str
) -> None:
    node = both(tls=certificates.settings(), callers=(SCANNER,))
    options = ["+tla", "+cf", str(certificates.ca)]
    if pair:
        options = with_certificate(certificates, getattr(certificates, pair))
    assert dcmtk(node, "echoscu", *options).returncode != 0
    assert until(lambda: node.refusals() == [reason])
    good = with_certificate(certificates, certificates.scanner)
    assert dcmtk(node, "echoscu", *good).returncode == 0


def test_a_caller_without_tls_is_refused_where_tls_is_spoken(
    both: Start, certificates: Site
) -> None:
    node = both(tls=certificates.settings())
    assert dcmtk(node, "echoscu").returncode != 0
    assert until(lambda: node.refusals() == ["tls.wrong_version_number"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_tls_before_1_2_is_refused(
    start: Start, certificates: Site, version: ssl.TLSVersion
) -> None:
    node = start(tls=certificates.settings())
    old = client(certificates, certificates.scanner)
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = version
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        node.scu(tls=old)
    assert until(lambda: node.refusals() == ["tls.unsupported_protocol"])
    assert node.scu(tls=client(certificates, certificates.scanner)).echo(3) == 0


def test_suites_without_forward_secrecy_are_refused(start: Start, certificates: Site) -> None:
    node = start(tls=certificates.settings())
    weak = client(certificates, certificates.scanner)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("AES128-SHA:AES256-SHA256:ECDHE-ECDSA-AES128-SHA")
    with pytest.raises(ssl.SSLError):
        node.scu(tls=weak)
    assert until(lambda: node.refusals() == ["tls.no_shared_cipher"])


def test_certificates_may_be_left_to_the_network_by_those_who_say_so(
    start: Start, certificates: Site
) -> None:
    node = start(tls=certificates.settings(client_certificates="off"))
    assert node.scu(tls=client(certificates)).echo(3) == 0


def test_an_ae_title_that_is_bound_to_a_certificate_is_refused_without_one(
    start: Start, certificates: Site
) -> None:
    """Also on the port that speaks no TLS, where others may come."""
    node = start(tls=certificates.settings(), tls_port=0, callers=(SCANNER, Caller("MR1")))
    with pytest.raises(Rejected) as rejected:
        node.scu(calling="CT1")
    assert rejected.value.args == (1, 1, 3)
    assert node.refusals() == ["access.certificate"]
    assert node.scu(calling="MR1").echo(3) == 0
    node.port = node.listener.tls_port
    secured = node.scu(calling="CT1", tls=client(certificates, certificates.scanner))
    assert secured.echo(3) == 0


def test_a_handshake_that_does_not_end_holds_up_nobody_and_is_ended(
    both: Start, certificates: Site
) -> None:
    node = both(tls=certificates.settings(), acse_timeout_s=1.0)
    good = client(certificates, certificates.scanner)
    with socket.create_connection(("127.0.0.1", node.port), 20) as slow:
        slow.sendall(b"\x16\x03\x01\x02\x00")
        assert node.scu(tls=good).echo(3) == 0
        assert slow.recv(100) == b""
    assert until(lambda: node.refusals() == ["tls.timeout"])


def test_what_tls_has_read_ahead_is_served_without_another_byte(
    start: Start, certificates: Site
) -> None:
    """Requests that come in one record with the one before wait in no buffer."""
    node = start(tls=certificates.settings())
    scu = node.scu(tls=client(certificates, certificates.scanner))
    slices = [slice_of(number, 900) for number in range(40)]
    for _ in range(2):
        scu.send(b"".join(store_message(1, CT, uid, data, 300) for uid, data in slices))
        assert [scu.status() for _ in slices] == [0] * len(slices)
    large = slice_of(99, 3_000_000)
    assert scu.store(CT, *large) == 0
    scu.release()
    assert len(node.kept()) == 41


def test_what_the_peer_does_not_take_at_once_is_sent_to_its_end(certificates: Site) -> None:
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    context = client(certificates, certificates.scanner)
    sent = bytes(range(256)) * 10_000

    def answer() -> None:
        connection = secured(near, server_context(certificates.settings()))
        shake_hands(connection, time.monotonic() + 20)
        stub: Any = SimpleNamespace(dul=SimpleNamespace(event_queue=queue.Queue()))
        IntakeSocket(stub, client_socket=connection).send(sent)
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with context.wrap_socket(far, server_hostname="localhost") as connection:
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    thread.join(20)
    assert received == sent


def test_renewed_certificates_are_shown_to_the_next_caller_without_a_restart(
    start: Start, tmp_path: Path
) -> None:
    own = site(tmp_path / "own")
    node = start(tls=own.settings(client_certificates="off"))
    before = node.scu(tls=client(own)).socket
    own.node.key.write_text("broken\n")
    kept = node.scu(tls=client(own)).socket
    renew(own.node, own.scanner)
    after = node.scu(tls=client(own)).socket
    shown = [one.getpeercert() for one in (before, kept, after)]  # type: ignore[attr-defined]
    assert shown[0] == shown[1] != shown[2]


def test_withdrawn_certificates_are_refused(start: Start, tmp_path: Path) -> None:
    own = site(tmp_path / "own")
    node = start(tls=own.settings())
    good = client(own, own.scanner)
    assert node.scu(tls=good).echo(3) == 0
    own.authority.withdraw(own.scanner)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        node.scu(tls=good).echo(3)
    assert until(lambda: node.refusals() == ["tls.certificate_revoked"])
    assert node.scu(tls=client(own, own.other)).echo(3) == 0


def test_files_that_cannot_be_used_are_named_before_anything_starts(
    start: Start, certificates: Site, tmp_path: Path
) -> None:
    (tmp_path / "broken.pem").write_text("broken\n")
    settings = certificates.settings()
    broken = {
        "certificate_file": "certificate_file", "key_file": "certificate_file", "ca_file": "ca_file"
    }
    for key, named in broken.items():
        for file in (tmp_path / "broken.pem", tmp_path / "missing.pem"):
            with pytest.raises(ConfigurationError, match=f"security.tls.{named}.*{file.name}"):
                start(tls=settings.model_copy(update={key: file}))
    other = settings.model_copy(update={"key_file": certificates.other.key})
    with pytest.raises(ConfigurationError, match="key values mismatch"):
        start(tls=other)


def test_settings_reach_a_listener_process_whole(certificates: Site, start: Start) -> None:
    settings = start(tls=certificates.settings(), tls_port=0, callers=(SCANNER,)).settings
    assert ListenerSettings.from_json(settings.to_json()) == settings


