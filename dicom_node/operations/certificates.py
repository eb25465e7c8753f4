"""Watches the certificate files of ``security.tls``: renewed, unusable, soon over.

Connections look for renewed files by themselves (`dicom_node.tls_context`); here it is told, once
for all processes, and before a node starts with files that nobody could be called with.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.config_security import TlsSettings
from dicom_node.events import Events
from dicom_node.tls_context import Renewed, client_context, server_context

_LOOK_EVERY_S = 10.0
_TELL_EVERY_S = 86_400.0
SOON_S = 30 * 86_400.0
_LONGEST_FILE_BYTES = 1 << 20
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _UTC_TIME, _GENERAL_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


class CertificateWatch:
    """Looks at the files now and then.

    Raises
    ------
    ConfigurationError
        When it is made: the files cannot be used.
    """

    def __init__(
        self, settings: TlsSettings, events: Events,
        monotonic: Callable[[], float] = time.monotonic, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._events = events
        self._monotonic = monotonic
        self._clock = clock
        self._callers = Renewed(server_context, settings, self._tell)
        client_context(settings)
        self._next_look_s = 0.0
        self._next_warning_s = 0.0

    def start(self) -> None:
        """There is nothing to begin."""

    def tick(self) -> None:
        """Look at the files, every ten seconds."""
        now = self._monotonic()
        if now < self._next_look_s:
            return
        self._next_look_s = now + _LOOK_EVERY_S
        self._callers.get()
        ends_at = self.ends_at().get("dicom")
        if ends_at is None or now < self._next_warning_s:
            return
        left_s = ends_at - self._clock()
        if left_s < SOON_S:
            self._next_warning_s = now + _TELL_EVERY_S
            days = int(left_s // 86_400)
            self._events.certificates_changed("end", f"in {days} days" if days > 0 else "now")

    def stop(self) -> None:
        """There is nothing to end."""

    def ends_at(self) -> Mapping[str, float]:
        """When the node's certificate ends (s since the epoch), as ``dicom``; empty: unreadable."""
        try:
            return {"dicom": ends_at(self._settings.certificate_file)}
        except (OSError, ValueError):
            return {}

    def _tell(self, problem: str) -> None:
        self._next_warning_s = 0.0
        if problem:
            self._events.certificates_changed("are kept as they were", problem)
        else:
            self._events.certificates_changed("are renewed")


def ends_at(file: Path) -> float:
    """When the first of the certificates of a PEM file ends (s since the epoch).

    Raises
    ------
    OSError, ValueError
        The file cannot be read, or holds no certificate.
    """
    with file.open("rb") as opened:
        text = opened.read(_LONGEST_FILE_BYTES).decode("ascii", "replace")
    blocks = [block.partition(_END)[0] for block in text.split(_BEGIN)[1:]]
    if not blocks:
        raise ValueError("no certificate")
    return min(
        _not_after(ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{block}{_END}")) for block in blocks
    )


def _not_after(der: bytes) -> float:
    """The end of the validity of a certificate (RFC 5280 section 4.1)."""
    at, _ = _inside(der, 0, _SEQUENCE)
    at, _ = _inside(der, at, _SEQUENCE)
    # [version], serialNumber, signature and issuer stand before.
    for _ in range(4 if der[at : at + 1] == bytes([_VERSION]) else 3):
        at = _behind(der, at)
    at, _ = _inside(der, at, _SEQUENCE)
    at = _behind(der, at)
    kind = der[at] if at < len(der) else 0
    start, end = _inside(der, at, _UTC_TIME if kind == _UTC_TIME else _GENERAL_TIME)
    text = der[start:end].decode("ascii")
    if kind == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _inside(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the value of an element begins and ends (X.690 section 8.1)."""
    if der[at : at + 1] != bytes([tag]) or at + 2 > len(der):
        raise ValueError("not a certificate")
    return _value(der, at)


def _behind(der: bytes, at: int) -> int:
    return _value(der, at)[1]


def _value(der: bytes, at: int) -> tuple[int, int]:
    length = der[at + 1] if at + 2 <= len(der) else 0
    start = at + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(der[start : start + count], "big")
        start += count
    if start + length > len(der):
        raise ValueError("not a certificate")
    return start, start + length
