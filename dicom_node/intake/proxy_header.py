"""Reads what a load balancer says of a caller before the caller speaks: the PROXY protocol.

Versions 1 (a line of text) and 2 (binary), as HAProxy's specification of it has them. A balancer
sends the header in one piece before anything else; less than a whole one is taken for none. Pure.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

MOST_BYTES = 536
"""A header that is longer is none of those which are read here: it would not come in one piece."""
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
SIGNATURE_BYTES = len(_SIGNATURE)
_WORD = b"PROXY "
_PREFIX_BYTES = 16
_LINE_BYTES = 107
_LOCAL, _PROXY = 0x20, 0x21
_INET, _INET6 = 1, 2
# Source and destination address, source and destination port.
_BYTES_OF = {_INET: 12, _INET6: 36}


@dataclass(frozen=True)
class ProxyHeader:
    """``length`` bytes to be passed over, and who calls.

    ``address`` is IP address and port; ``None`` where the balancer speaks for itself, as when it
    looks whether the port is open.
    """

    length: int
    address: tuple[str, int] | None


def begins_proxy_header(data: bytes) -> bool:
    """Whether a balancer speaks here, by its first `SIGNATURE_BYTES`; no association begins so."""
    return data.startswith((_SIGNATURE, _WORD))


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of ``data``; ``None`` where there is no whole one."""
    if data.startswith(_SIGNATURE):
        return _binary(data)
    if data.startswith(_WORD):
        return _text(data)
    return None


def _binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _PREFIX_BYTES:
        return None
    command, family = data[12], data[13] >> 4
    length = _PREFIX_BYTES + int.from_bytes(data[14:16], "big")
    if len(data) < length or command not in (_LOCAL, _PROXY):
        return None
    if command == _LOCAL or family not in _BYTES_OF:
        return ProxyHeader(length, None)
    addresses = data[_PREFIX_BYTES:length]
    if len(addresses) < _BYTES_OF[family]:
        return None
    size = 4 if family == _INET else 16
    source = ipaddress.ip_address(addresses[:size])
    port = int.from_bytes(addresses[2 * size : 2 * size + 2], "big")
    return ProxyHeader(length, (str(source), port))


def _text(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:_LINE_BYTES].partition(b"\r\n")
    if not end:
        return None
    length = len(line) + len(end)
    words = line.decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(length, None)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        return None
    try:
        source, port = ipaddress.ip_address(words[2]), int(words[4])
    except ValueError:
        return None
    # Behind a "%" Python takes anything for the name of an interface, which no caller has.
    is_right = (
        source.version == int(words[1][3]) and 0 <= port <= 0xFFFF and "%" not in words[2]
    )
    return ProxyHeader(length, (str(source), port)) if is_right else None
