"""Who may associate: a pure decision with its A-ASSOCIATE-RJ answer (PS3.8 table 9-21).

A caller is known by its AE title. Several peers may bear the same one; the caller is then the
first of them whose addresses and certificate names it fits.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from dicom_node.intake.settings import Caller, ListenerSettings
from dicom_node.tls_context import normalised

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Refusal:
    """``result``, ``source`` and ``diagnostic`` of the A-ASSOCIATE-RJ, and our stable reason."""

    result: int
    source: int
    diagnostic: int
    reason: str


UNKNOWN_CALLED = Refusal(1, 1, 7, "access.called_ae_title")
UNKNOWN_CALLING = Refusal(1, 1, 3, "access.calling_ae_title")
OTHER_ADDRESS = Refusal(1, 1, 3, "access.address")
OTHER_CERTIFICATE = Refusal(1, 1, 3, "access.certificate")
LOCAL_LIMIT = Refusal(2, 3, 2, "access.too_many_associations")
CALLER_LIMIT = Refusal(2, 3, 2, "access.too_many_of_this_caller")
MALFORMED = Refusal(1, 2, 1, "access.malformed_request")
NO_SPACE = Refusal(2, 3, 1, "storage.no_space_for_a_study")


@dataclass(frozen=True)
class Arrival:
    """How a caller came: its IP address, and the names of its certificate (none without TLS)."""

    address: str = ""
    certificate_names: frozenset[str] = frozenset()


def refusal(
    settings: ListenerSettings, called_ae_title: str, calling_ae_title: str,
    arrival: Arrival = Arrival(),
) -> Refusal | None:  # fmt: skip
    """Why an association is refused for its names, None when it is not."""
    if settings.check_called_ae_title and called_ae_title.strip() != settings.ae_title.strip():
        return UNKNOWN_CALLED
    title = calling_ae_title.strip()
    allowed = settings.calling_ae_titles
    if allowed is not None and title not in allowed:
        return UNKNOWN_CALLING
    why_not = [_why_not(one, arrival) for one in settings.callers if one.ae_title == title]
    return why_not[0] if why_not and all(why_not) else None


def caller_of(
    settings: ListenerSettings, calling_ae_title: str, arrival: Arrival = Arrival()
) -> Caller | None:
    """The configured caller that this is; None of one that is not configured."""
    title = calling_ae_title.strip()
    fitting = (one for one in settings.callers if one.ae_title == title)
    return next((one for one in fitting if _why_not(one, arrival) is None), None)


def _why_not(caller: Caller, arrival: Arrival) -> Refusal | None:
    if caller.addresses and not is_within(arrival.address, caller.addresses):
        return OTHER_ADDRESS
    names = normalised(caller.certificate_names)
    if names and names.isdisjoint(arrival.certificate_names):
        return OTHER_CERTIFICATE
    return None


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether an IP address is one of these networks; IPv4 in IPv6 clothes is IPv4."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in map(_network, networks))


@lru_cache(maxsize=4096)
def _network(text: str) -> Network:
    return ipaddress.ip_network(text)
