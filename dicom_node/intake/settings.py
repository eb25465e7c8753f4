"""What one listener process must know, taken from the configuration and passed on as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from dicom_node.spool import SpoolPlace

if TYPE_CHECKING:
    from dicom_node.config import Config, PeerSettings
    from dicom_node.config_security import TlsSettings


@dataclass(frozen=True)
class Caller:
    """A configured peer as one that calls: from where, with which certificate, how much.

    Empty ``addresses`` and ``certificate_names``: from anywhere, with any; a limit of None: none.
    """

    ae_title: str
    addresses: tuple[str, ...] = ()
    certificate_names: tuple[str, ...] = ()
    associations: int | None = None
    instances_per_minute: int | None = None
    bytes_per_hour: int | None = None

    @classmethod
    def of(cls, peer: PeerSettings) -> Caller:
        """The caller in a peer of the settings."""
        return cls(
            peer.ae_title, tuple(peer.addresses), tuple(peer.certificate_names),
            **peer.limits.model_dump(),
        )


@dataclass(frozen=True)
class ListenerSettings:
    """The part of the configuration that receiving needs; plain values only.

    ``calling_ae_titles`` is None when anyone may call. Times are seconds. With ``tls`` and no
    ``tls_port`` the ``port`` speaks TLS and nothing else.
    """

    ae_title: str
    host: str
    port: int
    spool: SpoolPlace
    calling_ae_titles: tuple[str, ...] | None
    check_called_ae_title: bool
    max_associations: int
    receive_path: str
    max_pdu_bytes: int
    network_timeout_s: float
    dimse_timeout_s: float
    acse_timeout_s: float
    private_sop_classes: tuple[str, ...]
    commitment_report_after_s: float = 1.0
    callers: tuple[Caller, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    max_associations_per_caller: int = 10_000
    max_instance_bytes: int = 16 << 30
    max_sequence_depth: int = 32
    tls: TlsSettings | None = None
    tls_port: int | None = None

    @classmethod
    def of(cls, config: Config) -> ListenerSettings:
        """The listener's part of `config`."""
        access, intake = config.access, config.intake
        # A DICOMweb server may have no AE title, and so let nobody in.
        callers = tuple(sorted({p.ae_title for p in config.peers.values() if p.ae_title}))
        return cls(
            ae_title=config.node.ae_title,
            host=config.node.host,
            port=config.node.port,
            spool=SpoolPlace.of(config),
            calling_ae_titles=None if access.accept_unknown_callers else callers,
            check_called_ae_title=access.check_called_ae_title,
            max_associations=access.max_associations,
            receive_path=intake.receive_path,
            max_pdu_bytes=intake.max_pdu_bytes,
            network_timeout_s=intake.network_timeout_s,
            dimse_timeout_s=intake.dimse_timeout_s,
            acse_timeout_s=intake.acse_timeout_s,
            private_sop_classes=tuple(intake.private_sop_classes),
            commitment_report_after_s=intake.commitment_report_after_s,
            callers=tuple(Caller.of(peer) for peer in config.peers.values() if peer.ae_title),
            allowed_networks=tuple(access.allowed_networks),
            proxies=tuple(access.proxies),
            max_associations_per_caller=access.max_associations_per_caller,
            max_instance_bytes=intake.max_instance_bytes,
            max_sequence_depth=intake.max_sequence_depth,
            tls=config.security.tls,
            tls_port=config.security.tls.port if config.security.tls else None,
        )

    def to_json(self) -> str:
        """One line of JSON; holds the names of the key files and nothing of what is in them."""
        tls = self.tls and self.tls.model_dump(mode="json")
        return json.dumps({**asdict(replace(self, tls=None)), "tls": tls})

    @classmethod
    def from_json(cls, text: str) -> ListenerSettings:
        """The inverse of `to_json`."""
        from dicom_node.config_security import TlsSettings

        fields = json.loads(text)
        for name in (
            "calling_ae_titles", "private_sop_classes", "allowed_networks", "proxies"
        ):
            if fields[name] is not None:
                fields[name] = tuple(fields[name])
        fields["spool"] = SpoolPlace.from_fields(fields["spool"])
        fields["callers"] = tuple(_caller(one) for one in fields["callers"])
        fields["tls"] = fields["tls"] and TlsSettings.model_validate(fields["tls"])
        return cls(**fields)


def _caller(fields: dict[str, Any]) -> Caller:
    for name in ("addresses", "certificate_names"):
        fields[name] = tuple(fields[name])
    return Caller(**fields)


def listener_count(configured: int | None) -> int:
    """How many listener processes: as configured, else one per two cores, at most four."""
    if configured is not None:
        return configured
    return max(1, min(4, len(os.sched_getaffinity(0)) // 2))
