"""What to do next about a peer that was called in vain, by what came of it: `check`, `echo`."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicom_node.config import Config, PeerSettings
    from dicom_node.errors import NodeError

_NO_TLS = ("tls.wrong_version_number", "tls.http_request", "tls.record_layer_failure",
           "tls.packet_length_too_long")
_AS_IT_IS = "host and port as it says? its log may say why"


def next_step(config: Config, peer: PeerSettings, error: NodeError) -> str:
    """One line for the person who has to mend it."""
    reason, title = error.reason, config.node.ae_title
    if reason.startswith("tls."):
        return _tls_step(peer, reason)
    if reason.startswith("peer.rejected"):
        return _rejected_step(peer, reason, title)
    if peer.dicomweb is not None:
        step = _service_step(peer, error)
    elif reason in ("peer.connection_lost", "peer.aborted"):
        step = f"it is up and hung up: enter this node's AE title {title} and address there"
        if peer.tls:
            step += ("; or it does not trust this node's certificate: its list of authorities, "
                     "security.tls.certificate_file")
        else:
            step += "; or it speaks TLS on this port: peers.<name>.tls"
    elif reason == "peer.context_rejected":
        step = "it is up and takes no C-ECHO; whether it stores: `dicom-node send` to it"
    else:
        step = ""
    return step or _network_step(peer, error)


def _tls_step(peer: PeerSettings, reason: str) -> str:
    if reason == "tls.files":
        return "the files of security.tls: there, readable for this user, key of that certificate?"
    if reason in _NO_TLS:
        return f"it is up and speaks no TLS on this port: its TLS port, or peers.{peer.name}.tls"
    if "alert" in reason:
        return ("it is up and does not take this node's certificate: enter the authority there; "
                "security.tls.certificate_file")
    if reason in ("tls.timeout", "tls.connection_lost"):
        return (f"something is there and ended the TLS handshake: does it speak TLS on this port "
                f"(peers.{peer.name}.tls)? does it trust the authority of this node's certificate?")
    if reason in ("tls.unsupported_protocol", "tls.no_shared_cipher"):
        return "its TLS is older than security.tls.profile takes: TLS 1.2 or 1.3 there"
    if "expired" in reason or "revoked" in reason or "not_yet_valid" in reason:
        return "it is up and its certificate is not valid: a new one there; the clock here"
    names = f"peers.{peer.name}.certificate_names"
    if "hostname" in reason or "ip_address" in reason or "another_name" in reason:
        return (f"it is up and its certificate is of another name: peers.{peer.name}.host as the "
                f"certificate has it, or that name in {names}")
    return (f"it is up and its certificate is not trusted: the authority that signed it into "
            f"security.tls.ca_file; host name as in the certificate, or {names}")


def _rejected_step(peer: PeerSettings, reason: str, title: str) -> str:
    if reason.endswith("called_ae_title"):
        return (f"it is up and is not called {peer.ae_title}: its own AE title into "
                f"peers.{peer.name}.ae_title")
    if reason.endswith(("congestion", "local_limit")):
        return "it is up and has no room for now: its disk, its limit of associations; try again"
    return f"it is up: enter this node's AE title {title} there, with this machine's address"


def _service_step(peer: PeerSettings, error: NodeError) -> str:
    at = f"peers.{peer.name}.dicomweb"
    if error.reason in ("peer.tls", "peer.ca_file"):
        return (f"it is up and its certificate is not trusted: {at}.ca_file, and the host name of "
                f"{at}.url as in the certificate")
    if error.reason in ("peer.not_authorised", "peer.token_file"):
        return f"it is up and wants to know who asks: {at}.token_file"
    if error.reason == "peer.http_404":
        return f"a web server is there and no DICOMweb: the path of {at}.url"
    if error.reason.startswith("peer.http_5"):
        return "it is up and fails by itself: its log"
    if error.reason.startswith(("peer.http_", "peer.redirects", "peer.dicomweb", "peer.protocol")):
        return f"something is there and no DICOMweb that answers: {at}.url; its log"
    return ""


def _network_step(peer: PeerSettings, error: NodeError) -> str:
    web = peer.dicomweb
    key = f"peers.{peer.name}." + ("host" if web is None else "dicomweb.url")
    port = f"peers.{peer.name}.port" if web is None else key
    cause = error.__cause__
    if isinstance(cause, (socket.gaierror, UnicodeError)):
        return f"this machine knows no such name: DNS, /etc/hosts, or {key}"
    if isinstance(cause, ConnectionRefusedError):
        return f"nothing listens there: is it up? is it the right port ({port})?"
    if error.reason in ("peer.timeout", "peer.unreachable"):
        return f"is it up? right address ({key})? does a firewall let this machine through?"
    return f"{_AS_IT_IS}; does it know this node's AE title and address?"
