"""Certificates of a node: whether each file can be used, fits its key and chain, and for how long.

A chain is tried as it will be used: by a handshake in memory, between the node and itself.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dicom_node.config import Config
from dicom_node.operations.doctor import Finding, failed, ok, warning
from dicom_node.operations.doctor_host import secret_file
from dicom_node.tls_context import client_context, server_context

_SOON_S = 30 * 86400.0
_MOST_ROUNDS = 20
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_RENEW = "renew it; the node takes up new files by itself"


def certificates(config: Config) -> list[Finding]:
    """Every certificate that the settings name; an empty list where there is none."""
    return [*_dicom(config), *_web(config), *_collector(config), *_services(config)]


def _dicom(config: Config) -> Iterator[Finding]:
    tls = config.security.tls
    if tls is None:
        return
    name = "DICOM TLS"
    for secret in (tls.key_file, tls.key_password_file):
        problem = None if secret is None else secret_file(name, secret, "the key")
        if problem is not None:
            yield problem
            return
    # Raises with the key of the file that cannot be used.
    server, client = server_context(tls), client_context(tls)
    yield _tried(name, server, client, tls.certificate_file)
    yield _authorities("DICOM TLS authorities", tls.ca_file)


def _web(config: Config) -> Iterator[Finding]:
    web, name = config.web, "web certificate"
    if web.certificate_file is None or web.key_file is None:
        return
    problem = secret_file(name, web.key_file, "the key")
    yield problem or _on_its_own(name, web.certificate_file, web.key_file)


def _collector(config: Config) -> Iterator[Finding]:
    syslog = config.security.audit.syslog
    if syslog is None:
        return
    if syslog.ca_file is not None:
        yield _authorities("audit collector authorities", syslog.ca_file)
    if syslog.certificate_file is not None and syslog.key_file is not None:
        name = "audit collector certificate"
        problem = secret_file(name, syslog.key_file, "the key")
        yield problem or _on_its_own(name, syslog.certificate_file, syslog.key_file)


def _services(config: Config) -> Iterator[Finding]:
    for peer in config.peers.values():
        if peer.dicomweb is not None and peer.dicomweb.ca_file is not None:
            yield _authorities(f"authorities of {peer.name}", peer.dicomweb.ca_file)


def _tried(
    name: str, server: ssl.SSLContext, client: ssl.SSLContext, certificate_file: Path
) -> Finding:
    """The node's chain as another one sees it that trusts the same authorities."""
    client.check_hostname = False
    try:
        shown = _handshake(server, client)
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or (error.reason or "refused").lower()
        why = why.replace("_", " ")
        todo = _RENEW if "expired" in why else (
            "put the certificates between it and an authority of ca_file behind it in its file"
        )
        return failed(name, f"{certificate_file} is refused: {why}", todo)
    return _dated(name, certificate_file, shown)


def _on_its_own(name: str, certificate_file: Path, key_file: Path) -> Finding:
    """A certificate whose authority is not known here: key and dates only."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        server.load_cert_chain(certificate_file, key_file, lambda: b"")
        # Itself is trusted, so that nothing but its dates can be wrong.
        client.load_verify_locations(certificate_file)
    except (OSError, ValueError) as error:
        return _unusable(name, f"{certificate_file} with the key {key_file}", error)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return _tried(name, server, client, certificate_file)


def _authorities(name: str, ca_file: Path) -> Finding:
    """The certificates that are trusted; one that is over is no failure while others are not."""
    try:
        found = [_read(pem) for pem in _PEM.findall(ca_file.read_text("ascii", "replace"))]
    except (OSError, ValueError) as error:
        return _unusable(name, str(ca_file), error)
    if not found:
        return failed(name, f"{ca_file} holds no certificate", "PEM files of the authorities")
    ends = sorted((end, subject) for end, subject in found if end)
    over = [subject for end, subject in ends if end < time.time()]
    if over and len(over) == len(found):
        return failed(name, f"{ca_file}: {', '.join(over)} is over", "take in its successor")
    if ends and ends[0][0] < time.time() + _SOON_S:
        return warning(name, f"{ca_file}: {ends[0][1]} ends {_day(ends[0][0])}",
                       "take in its successor, beside it until then")
    last = f", the first of which ends {_day(ends[0][0])}" if ends else ""
    return ok(name, f"{len(found)} in {ca_file}{last}")


def _read(pem: str) -> tuple[float, str]:
    """When a certificate of an authority ends, and whose it is; 0 of one that is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem)
    found = context.get_ca_certs()
    return (_end(found[0]), _subject(found[0])) if found else (0.0, "")


def _dated(name: str, path: Path, certificate: Mapping[str, Any]) -> Finding:
    end = _end(certificate)
    text = f"{_subject(certificate)} ({path}) until {_day(end)}, with its key"
    if end < time.time() + _SOON_S:
        return warning(name, text, _RENEW)
    return ok(name, text)


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> Mapping[str, Any]:
    """Between both, in memory; the certificate that the client was shown."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(to_client, to_server)
    sides = [caller, server.wrap_bio(to_server, to_client, server_side=True)]
    for _ in range(_MOST_ROUNDS):
        waiting = []
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting.append(side)
        if not waiting:
            return caller.getpeercert() or {}
    raise ssl.SSLError("the handshake does not end")


def _unusable(name: str, what: str, error: OSError | ValueError) -> Finding:
    if isinstance(error, ssl.SSLError):
        why = (error.reason or "not PEM").replace("_", " ").lower()
    else:
        why = getattr(error, "strerror", None) or type(error).__name__
    return failed(name, f"{what} cannot be used: {why}", "a PEM file, and the key that is its own")


def _end(certificate: Mapping[str, Any]) -> float:
    return float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _subject(certificate: Mapping[str, Any]) -> str:
    names = [value for part in certificate.get("subject", ()) for key, value in part
             if key == "commonName"]
    return str(names[0]) if names else "a certificate without a name"
