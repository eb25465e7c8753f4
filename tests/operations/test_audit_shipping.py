"""Audit messages on their way to a collector, which may be away, or be somebody else."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.operations import audit_shipping, syslog
from dicom_node.operations.audit_shipping import AuditShipping
from dicom_node.operations.audit_trail import AuditTrail
from dicom_node.operations.syslog import Collector, format_message
from tests.intake.test_acceptor import until
from tests.operations.collector import RecordingCollector, collecting
from tests.tls_files import Authority, Pair

GOOD, BAD = '<A EventOutcomeIndicator="0"/>', '<A EventOutcomeIndicator="4"/>'


class Shipping:
    """What is sent of one trail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trail = AuditTrail(folder)
        self.told: list[str] = []
        self._running: list[AuditShipping] = []

    def to(self, collector: Collector) -> AuditShipping:
        made = AuditShipping(self.folder, collector, self.told.append)
        self._running.append(made)
        made.start()
        return made

    def end(self) -> None:
        for one in self._running:
            one.close()
        self._running.clear()


@pytest.fixture
def shipping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shipping]:
    monkeypatch.setattr(audit_shipping, "_FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(audit_shipping, "_LONGEST_WAIT_S", 0.1)
    monkeypatch.setattr(audit_shipping, "_LOOK_EVERY_S", 0.05)
    made = Shipping(tmp_path / "audit")
    yield made
    made.end()


def tcp(collector: RecordingCollector) -> Collector:
    return Collector("127.0.0.1", collector.port, "tcp")


def test_a_message_is_one_of_rfc_5424() -> None:
    made = format_message("<é/>", "2026-11-26T08:00:00.000+00:00", is_warning=False, hostname="h")
    head, _, text = made.partition(b"\xef\xbb\xbf")
    assert head.startswith(b"<85>1 2026-11-26T08:00:00.000+00:00 h dicom-node ")
    assert head.endswith(b" DICOM+RFC3881 - ")
    assert text == "<é/>".encode()
    assert format_message("", "-", is_warning=True, hostname="h").startswith(b"<84>1 ")


def test_everything_arrives_in_order_whatever_the_collector_is_away_for(
    shipping: Shipping,
) -> None:
    with collecting() as collector:
        shipping.trail.append([GOOD, BAD])
        sending = shipping.to(tcp(collector))
        assert until(lambda: collector.messages() == [GOOD, BAD])
        assert collector.priorities() == [85, 84]
        assert until(lambda: sending.backlog_bytes() == 0)
        collector.stop()
        shipping.trail.append([f"<B{n}/>" for n in range(5)])
        assert until(lambda: sending.is_up is False and sending.backlog_bytes() > 0)
        collector.start()
        assert until(lambda: collector.messages()[-1] == "<B4/>")
        assert until(lambda: sending.backlog_bytes() == 0)
        assert shipping.told[0] == "" and shipping.told[-1] == "" and len(shipping.told) >= 3
        # What may have been lost with the connection came twice, and nothing was left out.
        assert list(dict.fromkeys(collector.messages())) == [
            GOOD, BAD, *(f"<B{n}/>" for n in range(5))
        ]


def test_a_restart_goes_on_where_the_collector_has_it(shipping: Shipping) -> None:
    with collecting() as collector:
        shipping.trail.append(["<A1/>"])
        shipping.to(tcp(collector))
        assert until(lambda: collector.messages() == ["<A1/>"])
        shipping.end()
        shipping.trail.append(["<A2/>"])
        shipping.to(tcp(collector))
        assert until(lambda: collector.messages() == ["<A1/>", "<A2/>"])


@pytest.mark.parametrize("kept", [
    '{"file": "FILE", "offset": -7}',
    '{"file": "FILE", "offset": 1e300}',
    '{"file": "FILE", "offset": Infinity}',
    '{"file": "FILE", "offset": 99999}',
    '{"file": "zzz", "offset": 0}',
    '{"file": "audit-9999-12-31.jsonl", "offset": 0}',
    "[" * 100_000,
    "[]",
])
def test_a_place_that_cannot_be_is_none_and_everything_is_sent(
    shipping: Shipping, kept: str
) -> None:
    shipping.trail.append(["<A1/>", "<A2/>"])
    [file] = shipping.trail.files()
    (shipping.folder / "collector.json").write_text(kept.replace("FILE", file.name))
    with collecting() as collector:
        sending = shipping.to(tcp(collector))
        assert until(lambda: collector.messages() == ["<A1/>", "<A2/>"])
        assert until(lambda: sending.backlog_bytes() == 0)


def test_a_line_that_cannot_be_sent_is_told_and_ends_nothing(shipping: Shipping) -> None:
    shipping.trail.append(["<A1/>"])
    [file] = shipping.trail.files()
    whole = file.read_bytes()
    # Half of a surrogate pair is text in JSON, and none in UTF-8.
    file.write_bytes(whole.replace(b"<A1/>", rb"<A\ud800/>"))
    with collecting() as collector:
        sending = shipping.to(tcp(collector))
        assert until(lambda: "UnicodeEncodeError" in shipping.told)
        assert sending.is_up is False
        file.write_bytes(whole)
        assert until(lambda: collector.messages() == ["<A1/>"])


def test_of_two_processes_one_sends_and_the_other_takes_over(shipping: Shipping) -> None:
    with collecting() as collector:
        first = shipping.to(tcp(collector))
        assert until(lambda: first.is_up is True)
        second = shipping.to(tcp(collector))
        shipping.trail.append(["<A1/>"])
        assert until(lambda: collector.messages() == ["<A1/>"])
        assert second.is_up is None
        first.close()
        shipping.trail.append(["<A2/>"])
        assert until(lambda: collector.messages()[1:] == ["<A2/>"])


def test_what_was_sent_to_a_connection_that_had_ended_is_sent_again(shipping: Shipping) -> None:
    with collecting() as collector:
        shipping.to(tcp(collector))
        assert until(lambda: shipping.told == [""])
        collector.stop()
        collector.received.clear()
        shipping.trail.append(["<A/>"])
        collector.start()
        assert until(lambda: "<A/>" in collector.messages())


def test_what_a_collector_took_and_never_read_is_sent_again(
    shipping: Shipping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syslog, "_PATIENCE_S", 1.0)
    monkeypatch.setattr(audit_shipping, "_MAY_BE_LOST_S", 0.5)
    long = [f'<A n="{n}" EventOutcomeIndicator="0">{"x" * 200_000}</A>' for n in range(60)]
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        shipping.trail.append(long)
        sending = shipping.to(Collector("127.0.0.1", port, "tcp"))
        deaf.accept()
        assert until(lambda: sending.is_up is False)
        shipping.end()
    with collecting() as collector:
        shipping.to(tcp(collector))
        assert until(lambda: collector.messages() == long)


def test_a_trail_that_cannot_be_read_stops_no_metrics(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("no folder")
    sending = AuditShipping(tmp_path / "audit", Collector("127.0.0.1", 1, "tcp"))
    assert sending.backlog_bytes() == 0


def test_datagrams_carry_a_message_each(shipping: Shipping) -> None:
    with collecting(udp=True) as collector:
        shipping.trail.append([GOOD, "<B/>"])
        shipping.to(Collector("127.0.0.1", collector.port, "udp"))
        assert until(lambda: collector.messages() == [GOOD, "<B/>"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def server_side(authority: Authority, pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_by_tls_both_sides_show_who_they_are(shipping: Shipping, authority: Authority) -> None:
    server = authority.issue("collector", "collector", ["IP:127.0.0.1"])
    node = authority.issue("node", "node", ["DNS:node"])
    with collecting(server_side(authority, server)) as collector:
        shipping.trail.append([GOOD])
        shipping.to(Collector(
            "127.0.0.1", collector.port, "tls", authority.certificate, node.certificate, node.key
        ))
        assert until(lambda: collector.messages() == [GOOD])
        assert shipping.told == [""]


@pytest.mark.parametrize("wrong", ["another name", "another authority", "no certificate"])
def test_nothing_is_sent_to_who_is_not_the_collector_or_does_not_know_the_node(
    shipping: Shipping, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    node = authority.issue("node", "node", ["DNS:node"])
    name = "DNS:elsewhere" if wrong == "another name" else "IP:127.0.0.1"
    server = authority.issue("collector", "collector", [name])
    trusted = authority.certificate
    if wrong == "another authority":
        trusted = Authority(tmp_path / "other", "Other").certificate
    pair = (None, None) if wrong == "no certificate" else (node.certificate, node.key)
    with collecting(server_side(authority, server)) as collector:
        shipping.trail.append([GOOD])
        sending = shipping.to(Collector("127.0.0.1", collector.port, "tls", trusted, *pair))
        assert until(lambda: len(collector.problems) >= 2)
        shipping.end()
        assert sending.backlog_bytes() > 0
    assert "" not in shipping.told and sending.is_up is False
    assert collector.received == []
