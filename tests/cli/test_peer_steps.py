"""What to do next about a peer depends on what came of calling it."""

from __future__ import annotations

import socket

import pytest

from dicom_node.cli.peer_steps import next_step
from dicom_node.config import Config
from dicom_node.errors import PeerUnavailable

CONFIG = Config.model_validate({
    "node": {"ae_title": "AINODE"},
    "peers": {
        "pacs": {"ae_title": "PACS", "host": "pacs.example", "port": 104},
        "web": {"dicomweb": {"url": "https://pacs.example/dicom-web"}},
    },
})


def step(reason: str, cause: Exception | None = None, peer: str = "pacs") -> str:
    error = PeerUnavailable("in vain", reason=reason)
    error.__cause__ = cause
    return next_step(CONFIG, CONFIG.peer(peer), error)


@pytest.mark.parametrize(("reason", "cause", "says"), [
    ("peer.rejected.calling_ae_title", None, "it is up: enter this node's AE title AINODE there"),
    ("peer.rejected.no_reason", None, "it is up: enter this node's AE title AINODE there"),
    ("peer.rejected.called_ae_title", None, "peers.pacs.ae_title"),
    ("peer.rejected.congestion", None, "it is up and has no room for now"),
    ("peer.unreachable", socket.gaierror(-2, "unknown"), "DNS"),
    ("peer.unreachable", ConnectionRefusedError(), "is it up? is it the right port"),
    ("peer.unreachable", TimeoutError(), "firewall"),
    ("peer.connection_lost", None, "AE title AINODE"),
    ("tls.files", None, "security.tls"),
    ("tls.self_signed_certificate_in_certificate_chain", None, "security.tls.ca_file"),
    ("tls.hostname_mismatch_certificate_is_not_valid_for", None, "certificate_names"),
    ("tls.tlsv1_alert_unknown_ca", None, "does not take this node's certificate"),
    ("tls.wrong_version_number", None, "speaks no TLS on this port"),
    ("tls.certificate_has_expired", None, "not valid"),
])
def test_the_next_step_follows_from_the_code(
    reason: str, cause: Exception | None, says: str
) -> None:
    assert says in step(reason, cause)


@pytest.mark.parametrize(("reason", "cause", "says"), [
    ("peer.tls", None, "peers.web.dicomweb.ca_file"),
    ("peer.not_authorised", None, "token_file"),
    ("peer.http_404", None, "the path of peers.web.dicomweb.url"),
    ("peer.unreachable", socket.gaierror(-2, "unknown"), "DNS"),
    ("peer.unreachable", ConnectionRefusedError(), "peers.web.dicomweb.url"),
])
def test_a_service_has_steps_of_its_own(reason: str, cause: Exception | None, says: str) -> None:
    said = step(reason, cause, "web")
    assert says in said and "AE title" not in said
