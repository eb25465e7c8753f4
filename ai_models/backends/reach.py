"""Where another host is that serves a model: its address, and nothing but its address.

A node's settings name the hosts (``models.endpoints``), a card names one of them. Nothing else may
be reached, and what is written here decides what that is. No library of a back-end is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ai_models.card import Card
from ai_models.trust import Endpoint, Site
from ai_models.types import ModelError

# Where no port is given: RFC 9110 for HTTP, Triton's own for gRPC, which has none registered.
_PORTS = {"http": 80, "https": 443, "grpc": 8001, "grpcs": 8001}


@dataclass(frozen=True)
class Address:
    """Where an endpoint is. ``path`` begins with a slash, or is empty."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is asked for."""
        return self.scheme in ("https", "grpcs")

    @property
    def authority(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def address_of(endpoint: Endpoint) -> Address:
    """The parts of an endpoint's URL; the host in lower case, IPv6 without brackets.

    Raises
    ------
    ModelError
        ``model.endpoint_wrong``: the URL is none that a model can be asked of.
    """
    try:
        parts = urlsplit(endpoint.url)
        port = parts.port
    except ValueError as error:
        raise ModelError(f"an endpoint's url is not usable: {error}", reason=_WRONG) from error
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise ModelError(
            "an endpoint's url begins with http://, https://, grpc:// or grpcs:// and a host",
            reason=_WRONG,
        )
    if not parts.hostname.isascii():
        raise ModelError(
            "the host in an endpoint's url is written in ASCII (xn--...): as it is asked for",
            reason=_WRONG,
        )
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ModelError(
            "an endpoint's url has no user, query or fragment: a key has its own file",
            reason=_WRONG,
        )
    return Address(
        parts.scheme, parts.hostname, port or _PORTS[parts.scheme], parts.path.rstrip("/")
    )


def endpoint_of(card: Card, site: Site) -> Endpoint:
    """The endpoint that a card names, as the site knows it.

    Raises
    ------
    ModelError
        ``model.endpoint_unknown``: the card names none, or one that the site does not have.
    """
    options = card.runtime.endpoint
    if options is None:
        raise ModelError(f"{card.id} names no runtime.endpoint", reason=_UNKNOWN)
    if options.name not in site.endpoints:
        known = ", ".join(sorted(site.endpoints)) or "none"
        raise ModelError(
            f"{card.id} is served by {options.name!r}, which is not in models.endpoints "
            f"(there: {known})", reason=_UNKNOWN,
        )
    return site.endpoints[options.name]


def reachable(card: Card, site: Site) -> frozenset[tuple[str, int]]:
    """The ``(host, port)`` pairs that running this card may reach: one, or none for most models.

    The host is as the settings have it, in lower case: a name, or an address as text (IPv6
    without brackets). Names are not resolved here.

    Raises
    ------
    ModelError
        ``model.endpoint_unknown`` or ``model.endpoint_wrong``.
    """
    if card.runtime.backend not in _SERVED:
        return frozenset()
    address = address_of(endpoint_of(card, site))
    return frozenset({(address.host, address.port)})


_SERVED = ("open_inference", "openai")
_WRONG = "model.endpoint_wrong"
_UNKNOWN = "model.endpoint_unknown"
