"""Every setting of the node: defaults, the YAML file over them, environment variables over that.

`load` checks everything before anything starts; a mistake is a `ConfigurationError` that names
file, line and key path, what was found and what was expected, and lists further mistakes below
the first. ``config.yaml`` at the top of the project is the commented example.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dicom_node import config_environment, config_problems, config_yaml
from dicom_node.config_conditions import (
    suggestion,
)
from dicom_node.config_database import DatabaseSettings, read_url_file
from dicom_node.config_models import ModelsSettings
from dicom_node.config_peers import (
    AETitle,
    Flag,
    Host,
    ListenPort,
    PeerSettings,
    Seconds,
    Settings,
    Text,
    Whole,
)
from dicom_node.config_rules import PHASES, PRIOR, Name, Rule, RuleInput, WriterFolder
from dicom_node.config_security import (
    AccessSettings,
    SecuritySettings,
    files_below,
    tls_problem,
)
from dicom_node.config_storage import GIBIBYTE, StorageSettings
from dicom_node.config_web import SelftestSettings, ShiftSettings, TracingSettings, WebSettings
from dicom_node.errors import ConfigurationError, UnknownName

__all__ = ["SENDER", "Config", "PeerSettings", "Rule", "describe", "json_schema", "load"]

SENDER = "sender"


def _uid(value: str) -> str:
    if len(value) > 64 or not re.fullmatch(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+", value):
        raise PydanticCustomError(
            "uid", "a DICOM UID: at most 64 digits and dots, no leading zeros (PS3.5 section 9.1)"
        )
    return value


Uid = Annotated[Text, AfterValidator(_uid)]


def _host_name(value: str) -> str:
    if len(value) > 48 or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", value):
        raise PydanticCustomError(
            "host_name", "null, or at most 48 letters, digits, '.', '-' and '_', such as worker-1"
        )
    return value


class NodeSettings(Settings):
    """Who the node is on the network and where it keeps everything.

    ``host_name`` ``None``: what the machine is called.
    """

    ae_title: AETitle = "DICOMNODE"
    host: Host = "0.0.0.0"  # noqa: S104 - a DICOM node listens on the hospital's network
    port: ListenPort = 11112
    data_dir: Path = Path("/var/lib/dicom-node")
    host_name: Annotated[Text, AfterValidator(_host_name)] | None = None


class CompletenessSettings(Settings):
    """When a series counts as complete."""

    quiet_period_s: Seconds = 20
    after_release_s: Seconds = 2
    give_up_after_s: Seconds = 3600


class IntakeSettings(Settings):
    """How images are received; ``listener_processes`` ``None``: one per two cores, at most 4.

    ``commitment_report_after_s``: how long a caller that asks for storage commitment may take to
    release before it gets the report on the same association. What is larger than
    ``max_instance_bytes``, or nests deeper than ``max_sequence_depth``, is refused; what decodes
    to more than ``max_decoded_bytes`` is not decoded.
    """

    receive_path: Literal["streamed", "stock"] = "streamed"
    listener_processes: Annotated[Whole, Field(ge=1, le=64)] | None = None
    max_pdu_bytes: Annotated[Whole, Field(ge=4096, le=16 * 1024**2)] = 131072
    network_timeout_s: Annotated[Seconds, Field(gt=0)] = 60
    dimse_timeout_s: Annotated[Seconds, Field(gt=0)] = 60
    acse_timeout_s: Annotated[Seconds, Field(gt=0)] = 30
    private_sop_classes: list[Uid] = []
    commitment_report_after_s: Annotated[Seconds, Field(le=60)] = 1
    max_instance_bytes: Annotated[Whole, Field(ge=1024)] = 16 * GIBIBYTE
    max_decoded_bytes: Annotated[Whole, Field(ge=1024)] = 16 * GIBIBYTE
    max_sequence_depth: Annotated[Whole, Field(ge=1, le=256)] = 32


class RoutingSettings(Settings):
    """Whether every matching rule runs, or the first one only."""

    match: Literal["first", "all"] = "all"
    honour_requested_priority: Flag = True


class JobsSettings(Settings):
    """Which job runs next, how many at a time, and how often one is tried.

    Waiting ``promote_after_s`` makes a job count as one class more urgent. ``per_model`` limits how
    many jobs of a model run at once. A worker that gives no sign of life for ``heartbeat_s`` is
    replaced. Images that are read before their series is complete take at most ``read_ahead_mib``.
    """

    promote_after_s: Annotated[Seconds, Field(gt=0)] = 1800
    per_model: dict[Name, Annotated[Whole, Field(ge=1, le=1000)]] = {}
    max_attempts: Annotated[Whole, Field(ge=1, le=100)] = 5
    heartbeat_s: Annotated[Seconds, Field(gt=0)] = 30
    read_ahead_mib: Annotated[Whole, Field(ge=0, le=1 << 20)] = 1024


class DeliverySettings(Settings):
    """How long results are offered to a peer, and whether it must commit to keeping them.

    ``commitment_within_s`` is how long a peer may take to report before it is asked again,
    ``commitment_wait_s`` how long the association stays open for the report.
    """

    retry_for_h: Annotated[float, Strict(), Field(gt=0, le=8_760)] = 96
    storage_commitment: Literal["auto", "required", "off"] = "auto"
    commitment_within_s: Annotated[Seconds, Field(gt=0)] = 3600
    commitment_wait_s: Seconds = 5


class ResultsSettings(Settings):
    """What results say to their reader; ``impression`` is the folder of a ``writer.yaml``.

    ``drafts_at_once`` is how many jobs of this host may wait for nothing but their draft. A writer
    whose weights lie in a folder gives its memory back after ``writer_idle_s``.
    """

    language: Literal["en", "de", "fr", "zh"] = "en"
    impression: WriterFolder = None
    drafts_at_once: Annotated[Whole, Field(ge=1, le=64)] = 4
    writer_idle_s: Annotated[Seconds, Field(gt=0)] = 600


class LoggingSettings(Settings):
    """What is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Config(Settings):
    """All settings; every one has a default."""

    node: NodeSettings = NodeSettings()
    database: DatabaseSettings = DatabaseSettings()
    peers: dict[str, PeerSettings] = {}
    access: AccessSettings = AccessSettings()
    completeness: CompletenessSettings = CompletenessSettings()
    storage: StorageSettings = StorageSettings()
    intake: IntakeSettings = IntakeSettings()
    models: ModelsSettings = ModelsSettings()
    rules: list[Rule] = []
    routing: RoutingSettings = RoutingSettings()
    jobs: JobsSettings = JobsSettings()
    delivery: DeliverySettings = DeliverySettings()
    results: ResultsSettings = ResultsSettings()
    web: WebSettings = WebSettings()
    selftest: SelftestSettings = SelftestSettings()
    shift: ShiftSettings = ShiftSettings()
    tracing: TracingSettings = TracingSettings()
    security: SecuritySettings = SecuritySettings()
    logging: LoggingSettings = LoggingSettings()

    @field_validator("peers")
    @classmethod
    def _name_the_peers(cls, peers: dict[str, PeerSettings]) -> dict[str, PeerSettings]:
        for name, peer in peers.items():
            if name == SENDER or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
                raise _at(
                    (name,),
                    f"found the peer name {name!r}, expected 1 to 64 of A-Z a-z 0-9 _ . - and not "
                    f"{SENDER!r}, which means whoever sent the images",
                )
            if peer.name not in ("", name):
                raise _at((name, "name"), f"found {peer.name!r}, expected {name!r} or no such line")
        return {name: peer.model_copy(update={"name": name}) for name, peer in peers.items()}

    @model_validator(mode="after")
    def _tls_is_as_the_peers_need_it(self) -> Config:
        problem = tls_problem(self.security.tls, self.node.port, self.peers)
        if problem is not None:
            raise _at(*problem)
        return self._introduced()

    def _introduced(self) -> Config:
        """With peers that know how they are called by TLS."""
        for name, peer in self.peers.items():
            self.peers[name] = peer.with_tls(self.security.tls)
        return self

    @model_validator(mode="after")
    def _commitment_can_be_had_where_required(self) -> Config:
        if self.delivery.storage_commitment == "required":
            for name, peer in self.peers.items():
                if not peer.speaks_dimse and peer.storage_commitment is None:
                    raise _at(
                        ("peers", name, "storage_commitment"),
                        "found nothing while delivery.storage_commitment is required, expected "
                        "off: STOW-RS has no commitment",
                    )
        return self

    @model_validator(mode="after")
    def _rules_agree_with_the_rest(self) -> Config:
        seen: dict[str, int] = {}
        for index, rule in enumerate(self.rules):
            if rule.name in seen:
                raise _at(
                    ("rules", index, "name"),
                    f"found {rule.name!r}, which is also the name of rules[{seen[rule.name]}], "
                    "expected every name once",
                )
            seen[rule.name] = index
            for position, target in enumerate(rule.send_to):
                if target != SENDER and target not in self.peers:
                    names = [*self.peers, SENDER]
                    raise _at(
                        ("rules", index, "send_to", position),
                        f"found {target!r}, expected one of {', '.join(names)}"
                        f"{suggestion(target, names)}",
                        kind="unknown_name",
                    )
            for role, one in rule.inputs.items():
                self._check_fetch(("rules", index, "inputs", role, "fetch_from"), role, one)
                _check_number(("rules", index, "inputs", role, "series"), role, one)
        return self

    def _check_fetch(self, path: config_yaml.KeyPath, role: str, one: RuleInput) -> None:
        """An earlier examination is fetched from a peer that answers C-FIND; nothing else is."""
        name = one.fetch_from
        if name is None:
            return
        if role != PRIOR:
            raise _at(
                path, f"found {name!r}, expected nothing: only the role {PRIOR!r} is fetched, the "
                "others are of the study that is sent"
            )
        if name not in self.peers:
            names = ", ".join(self.peers) or "the peers that you name"
            raise _at(
                path, f"found {name!r}, expected one of {names}{suggestion(name, self.peers)}",
                kind="unknown_name",
            )
        if not self.peers[name].speaks_dimse:
            raise _at(path, f"found {name!r}, expected a peer with host and port, not DICOMweb")

    def peer(self, name: str) -> PeerSettings:
        """The peer of this name; raises `UnknownName`."""
        if name not in self.peers:
            known = ", ".join(self.peers) or "none is configured"
            raise UnknownName(f"unknown peer {name!r}, expected one of: {known}", key_path="peers")
        return self.peers[name]


def _at(
    path: config_yaml.KeyPath, text: str, *, kind: Literal["at_path", "unknown_name"] = "at_path"
) -> PydanticCustomError:
    return PydanticCustomError(kind, "{text}", {"path": path, "text": text})


def _check_number(path: config_yaml.KeyPath, role: str, one: RuleInput) -> None:
    """Every role is one series, but phases: how many series they are in is the rule's to say."""
    if role == PHASES and one.series is None:
        raise _at(path, "not there, expected how many further series the phases are in")
    if role != PHASES and one.series is not None:
        raise _at(
            path, f"found {one.series}, expected nothing: only the role {PHASES!r} is of several"
        )


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the settings from `path` (``None``: the defaults) and from ``DICOM_NODE__*`` variables.

    Relative paths in the settings start at the file's folder.

    Raises
    ------
    ConfigurationError
        For the first mistake, by line; `UnknownName` when a rule names a peer that is not there.
    """
    file = "" if path is None else str(path)
    tree = config_yaml.parse("" if path is None else config_yaml.read_text(path), file)
    if tree.values is None:
        tree.values = {}
    if not isinstance(tree.values, dict):
        raise ConfigurationError(
            "found no settings, expected lines such as `node: {port: 11112}`", line=1, file=file
        )
    # A section whose every line is commented out reads as null; it means its defaults.
    values = {key: value for key, value in tree.values.items() if value is not None}
    variables = config_environment.overlay(values, environ, Config)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise config_problems.first_error(error, tree, file, variables, Config) from None
    config = _anchored(config, Path() if path is None else path.parent)
    return config.model_copy(update={"database": read_url_file(config.database)})


def _anchored(config: Config, folder: Path) -> Config:
    base = folder.absolute()
    node = config.node.model_copy(update={"data_dir": base / config.node.data_dir})
    models = config.models.anchored(base)
    peers = {name: peer.anchored(base) for name, peer in config.peers.items()}
    return config.model_copy(
        update={
            "node": node, "models": models, "peers": peers,
            "security": config.security.anchored(base), "web": files_below(base, config.web),
            "database": files_below(base, config.database),
            "storage": config.storage.anchored(base),
            "rules": [rule.anchored(base) for rule in config.rules],
            "results": files_below(base, config.results),
        }
    )._introduced()


def describe(config: Config) -> str:
    """The effective settings as YAML that `load` reads back, the database password masked."""
    values = config.model_dump(mode="json", exclude={"peers": {"__all__": {"name"}}})
    for peer in values["peers"].values():
        for key in ("ae_title", "host", "port"):
            # Left out beside dicomweb; their empty default is no value that may be written.
            if not peer[key]:
                del peer[key]
    if config.database.url_file is not None:
        values["database"]["url"] = None
    elif values["database"]["url"]:
        values["database"]["url"] = config_problems.without_password(values["database"]["url"])
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
