"""Settings of security: TLS, who may call from where, what a caller may take, and the audit trail.

Part of `dicom_node.config`, which reads them from the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from pydantic import Field

from dicom_node.config_peers import Flag, Host, ListenPort, Network, Settings, Text, Whole

if TYPE_CHECKING:
    from dicom_node.config_peers import PeerSettings

Port = Annotated[Whole, Field(ge=1, le=65535)]

_WithFiles = TypeVar("_WithFiles", bound=Settings)


class AccessSettings(Settings):
    """Who may open an association, from where, and how many at a time.

    ``allowed_networks`` empty: from everywhere. Load balancers in ``proxies`` say who calls.
    """

    accept_unknown_callers: Flag = False
    max_associations: Annotated[Whole, Field(ge=1, le=10_000)] = 64
    max_associations_per_caller: Annotated[Whole, Field(ge=1, le=10_000)] = 32
    check_called_ae_title: Flag = True
    allowed_networks: list[Network] = []
    proxies: list[Network] = []


class TlsSettings(Settings):
    """DICOM TLS by the profiles of PS3.15 B.12 and B.13 (BCP 195), in and out.

    ``port`` ``None``: ``node.port`` speaks TLS and nothing else. With ``client_certificates``
    ``required`` a caller without a certificate that ``ca_file`` vouches for is refused.
    """

    certificate_file: Path
    key_file: Path
    key_password_file: Path | None = None
    ca_file: Path
    client_certificates: Literal["required", "off"] = "required"
    profile: Literal["bcp195", "bcp195_rfc9325", "bcp195_extended"] = "bcp195"
    port: ListenPort | None = None


class SyslogSettings(Settings):
    """Where audit messages go besides the local file: RFC 5424 over TLS (RFC 5425) or UDP."""

    host: Host
    port: Port = 6514
    transport: Literal["tls", "tcp", "udp"] = "tls"
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class AuditSettings(Settings):
    """The audit trail of PS3.15 A.5: a chained file in ``node.data_dir``, and a collector."""

    enabled: Flag = True
    site: Text = ""
    syslog: SyslogSettings | None = None


class SecuritySettings(Settings):
    """Encryption and the audit trail."""

    tls: TlsSettings | None = None
    audit: AuditSettings = AuditSettings()

    def anchored(self, base: Path) -> Self:
        """The same with relative paths below ``base``."""
        tls = self.tls and files_below(base, self.tls)
        syslog = self.audit.syslog and files_below(base, self.audit.syslog)
        audit = self.audit.model_copy(update={"syslog": syslog})
        return self.model_copy(update={"tls": tls, "audit": audit})


def tls_problem(
    tls: TlsSettings | None, node_port: int, peers: Mapping[str, PeerSettings]
) -> tuple[tuple[str, ...], str] | None:
    """Key path and text of what the peers ask of TLS that ``tls`` does not give, if anything."""
    for name, peer in peers.items():
        if peer.tls and peer.dicomweb is not None:
            return ("peers", name, "tls"), "found true beside dicomweb, whose url says https://"
        if peer.tls and tls is None:
            return ("peers", name, "tls"), "found true while security.tls is null, expected both"
        if peer.certificate_names and not (peer.tls or _asks_certificates(tls)):
            return ("peers", name, "certificate_names"), (
                "found names while callers show no certificate, expected security.tls with "
                "client_certificates: required"
            )
    if tls is not None and tls.port is not None and tls.port == node_port != 0:
        return ("security", "tls", "port"), (
            f"found {tls.port}, which is node.port, expected another port, or null: node.port "
            "then speaks TLS"
        )
    return None


def _asks_certificates(tls: TlsSettings | None) -> bool:
    return tls is not None and tls.client_certificates == "required"


def files_below(base: Path, settings: _WithFiles) -> _WithFiles:
    """A section whose relative paths begin at ``base``."""
    files = {
        name: base / value for name in type(settings).model_fields
        if isinstance(value := getattr(settings, name), Path)
    }
    return settings.model_copy(update=files)
