"""Network, configuration, character sets and security in the conformance statement (PS3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dicom_node.operations.conformance_names import asks_for_commitment
from dicom_node.operations.document import Section, Table, table

if TYPE_CHECKING:
    from dicom_node.config import Config, PeerSettings
    from dicom_node.operations.conformance_facts import Facts

# PS3.8 table 9-21.
_RESULTS = {1: "rejected permanent", 2: "rejected transient"}
_SOURCES = {1: "service user", 2: "service provider (ACSE)", 3: "service provider (presentation)"}


def network_interfaces(config: Config) -> Section:
    """Physical interface, protocols and addresses."""
    anywhere = config.node.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    where = "every interface of the host" if anywhere else config.node.host
    port = str(config.node.port) if config.node.port else "a free port, chosen at each start"
    return Section(
        "Network interfaces",
        (
            "TCP/IP of the operating system, version 4 or 6; the node depends on no kind of "
            "physical network.",
            f"It listens on {where}, port {port}. Host names of peers are resolved by the "
            "operating system.",
        ),
    )


def configuration(config: Config) -> Section:
    """AE titles, addresses and parameters."""
    local = table(
        "Local AE", ("AE title", "Address", "Port"),
        [(config.node.ae_title, config.node.host, config.node.port or "any free one")],
    )  # fmt: skip
    remote = table(
        "Remote applications",
        ("Name", "AE title", "Address", "May call", "Gets results", "Storage commitment asked",
         "Asked by C-FIND", "Missing images by"),
        [_remote(config, peer) for peer in config.peers.values()],
    )  # fmt: skip
    return Section(
        "Configuration",
        (),
        (
            Section("AE titles and presentation addresses", (local, remote)),
            Section("Parameters", (_parameters(config),)),
        ),
    )


def _remote(config: Config, peer: PeerSettings) -> tuple[str, ...]:
    destinations = {name for rule in config.rules for name in rule.send_to}
    policy = peer.storage_commitment or config.delivery.storage_commitment
    is_asked = peer.speaks_dimse and peer.query == "auto"
    return (
        peer.name,
        peer.ae_title or "-",
        _address(peer),
        "Yes" if peer.ae_title else "No",
        "Yes" if peer.name in destinations else "No",
        policy if asks_for_commitment(config, peer) else "No",
        "Yes" if is_asked else "No",
        peer.retrieve if is_asked and peer.retrieve != "off" else "-",
    )


def _address(peer: PeerSettings) -> str:
    if peer.dicomweb is None:
        return f"{peer.host}:{peer.port}"
    parts = urlsplit(peer.dicomweb.url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _parameters(config: Config) -> Table:
    intake, access, delivery = config.intake, config.access, config.delivery
    return table(
        "Parameters",
        ("Setting", "Meaning", "Value"),
        [
            ("intake.max_pdu_bytes", "Maximum PDU length received as acceptor (bytes)",
             intake.max_pdu_bytes),
            ("intake.acse_timeout_s", "Wait while an association is negotiated (s)",
             f"{intake.acse_timeout_s:g}"),
            ("intake.dimse_timeout_s", "Wait for the rest of a message (s)",
             f"{intake.dimse_timeout_s:g}"),
            ("intake.network_timeout_s", "Silence after which an association ends (s)",
             f"{intake.network_timeout_s:g}"),
            ("access.max_associations", "Associations accepted at a time", access.max_associations),
            ("storage.refuse_below_free_bytes", "Free space below which images are refused (bytes)",
             config.storage.refuse_below_free_bytes),
            ("delivery.retry_for_h", "How long a result is offered to a destination (h)",
             f"{delivery.retry_for_h:g}"),
            ("delivery.storage_commitment", "Storage commitment, where a peer says nothing else",
             delivery.storage_commitment),
            ("delivery.commitment_within_s", "Wait for a report on storage commitment (s)",
             f"{delivery.commitment_within_s:g}"),
            ("delivery.commitment_wait_s", "How long the association stays open for the report (s)",
             f"{delivery.commitment_wait_s:g}"),
        ],
    )  # fmt: skip


def character_sets() -> Section:
    """What is read and what is written."""
    return Section(
        "Support of character sets",
        (
            "Received data sets are kept byte for byte, whatever their character set. When a "
            "result takes over text of its images, every set of PS3.3 C.12.1.1.2 is read, with "
            "code extensions (ISO 2022) too; text that cannot be decoded is repaired or left out "
            "and the report says so. All created objects are written in ISO_IR 192 (UTF-8). "
            "DIMSE messages other than C-STORE carry ASCII only.",
        ),
    )


_PROFILES = {
    "bcp195": "BCP 195 RFC 8996 TLS Secure Transport Connection Profile (PS3.15 B.12), with the "
    "cipher suites of RFC 7525 that are not retired",
    "bcp195_rfc9325": "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile "
    "(PS3.15 B.12)",
    "bcp195_extended": "Modified BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile "
    "(PS3.15 B.13), without the Camellia suites, which the TLS library lacks",
}


def _dicom_tls(config: Config) -> tuple[str, ...]:
    tls = config.security.tls
    if tls is None:
        return (
            "DICOM TLS: off in these settings. With `security.tls` the node speaks it as acceptor "
            "and, for the peers with `tls: true`, as requestor, by the profiles of PS3.15 B.12 "
            "and B.13: TLS 1.2 and 1.3, both sides with certificates.",
        )
    own = config.node.port if tls.port is None else tls.port
    called = ", ".join(name for name, peer in config.peers.items() if peer.tls) or "none"
    beside = "" if tls.port is None else f" Port {config.node.port} speaks no TLS."
    callers = (
        "Callers must show a certificate." if tls.client_certificates == "required"
        else "Callers need no certificate."
    )
    return (
        f"DICOM TLS: {_PROFILES[tls.profile]}; TLS 1.2 and 1.3, as acceptor on port {own}."
        f"{beside} {callers} An AE title may be bound to names of certificates.",
        f"As requestor the node calls these peers by TLS, and never otherwise: {called}. A peer's "
        "certificate must be of the host that is called, or of one of the names that the settings "
        "give.",
    )


def _audit(config: Config) -> str:
    settings = config.security.audit
    if not settings.enabled:
        return "No audit messages are made (security.audit.enabled)."
    made = (
        "Messages of the Audit Trail Message Format Profile (PS3.15 A.5): Application Activity, "
        "Audit Log Used, Begin Transferring DICOM Instances, DICOM Instances Accessed, DICOM "
        "Instances Transferred, DICOM Study Deleted, Query, Security Alert, User Authentication. "
        "They are kept in a local file in which each line has the hash of the line before. "
    )
    if settings.syslog is None:
        return made + "They are sent nowhere."
    profile = {
        "tls": "by the Audit Trail Message Transmission Profile SYSLOG-TLS (PS3.15 A.6)",
        "udp": "by the Audit Trail Message Transmission Profile SYSLOG-UDP (PS3.15 A.7)",
        "tcp": "by syslog on TCP, which is of no profile",
    }[settings.syslog.transport]
    return made + f"They are sent to {settings.syslog.host} port {settings.syslog.port} {profile}."


def security(config: Config, facts: Facts) -> Section:
    """Who may associate, and how that is protected."""
    access = config.access
    callers = "Any calling AE title is accepted."
    if not access.accept_unknown_callers:
        callers = "Only the calling AE titles of the configured peers are accepted."
    called = "Any called AE title is accepted."
    if access.check_called_ae_title:
        called = f"The called AE title must be {config.node.ae_title}."
    rejections = table(
        "Association rejection",
        ("Why", "Result", "Source", "Reason/Diag"),
        [
            (reason, f"{result} ({_RESULTS[result]})", f"{source} ({_SOURCES[source]})", diagnostic)
            for reason, result, source, diagnostic in facts.accepted.rejections
        ],
    )
    return Section(
        "Security",
        (),
        (
            Section(
                "Secure transport",
                (
                    *_dicom_tls(config),
                    "DICOMweb: HTTPS with the certificate authorities of the host or of a file; a "
                    "bearer token is read from a file at each use and is refused over plain HTTP, "
                    "except to the host itself.",
                ),
            ),
            Section("Association level", (callers, called, rejections)),
            Section("Audit trail", (_audit(config),)),
            Section(
                "Application level",
                (
                    "Logs hold no patient data, and UIDs as short hashes only. Files of the "
                    "spool and the ledger are not encrypted by the node.",
                ),
            ),
        ),
    )
