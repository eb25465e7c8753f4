"""Whom the node knows: DICOM applications and DICOMweb servers, and the words settings are made of.

Part of `dicom_node.config`, which reads them from the file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    Strict,
    model_validator,
)
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from dicom_node.config_security import TlsSettings

Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Seconds = Annotated[float, Strict(), Field(ge=0, le=31_536_000, allow_inf_nan=False)]


def _ae_title(value: str) -> str:
    title = value.strip(" ")
    if not 1 <= len(title) <= 16 or not re.fullmatch(r"[ -\[\]-~]+", title):
        raise PydanticCustomError(
            "ae_title",
            "an AE title: 1 to 16 printable ASCII characters without a backslash (PS3.5, VR AE)",
        )
    return title


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:%\[\]-]{1,253}", value):
        raise PydanticCustomError("host", "a host name or an IP address")
    return value


def _service_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole or parts.query or parts.fragment or parts.username or not value.isascii():
        raise PydanticCustomError(
            "service_url",
            "a DICOMweb service: https://host[:port]/path or http://..., without user, ? and #",
        )
    return value.rstrip("/")


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise PydanticCustomError(
            "network", "an address or a network, such as 10.1.2.3 or 10.1.0.0/16"
        ) from None


AETitle = Annotated[Text, AfterValidator(_ae_title)]
Network = Annotated[Text, AfterValidator(_network)]
Host = Annotated[Text, AfterValidator(_host)]
ListenPort = Annotated[Whole, Field(ge=0, le=65535)]


def _unless_left_out(check: Callable[[str], str]) -> Callable[[str], str]:
    return lambda value: check(value) if value else value


class Settings(BaseModel):
    """A section of the settings: fixed once read, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DicomWebSettings(Settings):
    """A DICOMweb service that results are sent to by STOW-RS (PS3.18 section 10.5).

    ``token_file`` holds a bearer token and is read at each use, so that it can be renewed.
    """

    url: Annotated[Text, AfterValidator(_service_url)]
    token_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: Annotated[Seconds, Field(gt=0)] = 60

    @model_validator(mode="after")
    def _keep_the_token_secret(self) -> Self:
        parts = urlsplit(self.url)
        on_this_host = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if self.token_file is not None and parts.scheme == "http" and not on_this_host:
            text = "found http:// beside a token_file, expected https://: anybody could read it"
            raise PydanticCustomError("at_path", "{text}", {"path": ("url",), "text": text})
        return self


class ResultForms(Settings):
    """What a destination gets of a result, and in which form.

    ``auto`` is the best form that the destination takes. A form that is named here and that the
    destination does not take is replaced by the next best. ``dicom_node.results.profile`` chooses.
    """

    segmentation: Literal[
        "auto", "binary", "labelmap", "structure_set", "presentation_state", "off"
    ] = "auto"
    report: Literal["auto", "comprehensive_3d", "comprehensive", "enhanced", "text", "off"] = "auto"
    secondary_capture: Literal["auto", "always", "off"] = "auto"
    parametric_map: Flag = True
    probability_map: Flag = True
    key_objects: Flag = False
    presentation_state: Flag = False
    pdf: Flag = False
    rejection_notes: Flag = False
    compression: Literal["none", "rle", "deflated", "jpeg_ls", "jpeg_2000"] = "none"


class PeerLimits(Settings):
    """What a caller may take of the node; ``None``: no limit of its own."""

    associations: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    instances_per_minute: Annotated[Whole, Field(ge=1)] | None = None
    bytes_per_hour: Annotated[Whole, Field(ge=1)] | None = None


class PeerSettings(Settings):
    """A DICOM application that may call the node and that results can be sent to.

    With ``dicomweb`` results go there instead, and host and port may be left out.
    ``storage_commitment`` ``None`` is as ``delivery.storage_commitment`` says. With ``addresses``
    its AE title may call from there only, with ``certificate_names`` only with a certificate of
    one of these names. ``tls``: the node calls it by DICOM TLS, as its ``tls_settings`` say.
    """

    # `security.tls` of the same file: whoever has a peer can call it as it must be called.
    _tls_settings: Any = PrivateAttr(default=None)

    name: Text = ""
    ae_title: Annotated[Text, AfterValidator(_unless_left_out(_ae_title))] = ""
    host: Annotated[Text, AfterValidator(_unless_left_out(_host))] = ""
    port: Annotated[Whole, Field(ge=1, le=65535)] = 0
    associations: Annotated[Whole, Field(ge=1, le=16)] = 2
    tls: Flag = False
    addresses: list[Network] = []
    certificate_names: list[Text] = []
    limits: PeerLimits = PeerLimits()
    storage_commitment: Literal["auto", "required", "off"] | None = None
    query: Literal["auto", "off"] = "auto"
    retrieve: Literal["auto", "c-move", "c-get", "off"] = "auto"
    dicomweb: DicomWebSettings | None = None
    results: ResultForms = ResultForms()

    def with_tls(self, settings: TlsSettings | None) -> Self:
        """The same peer, to be called as ``settings`` say where it has ``tls``."""
        introduced = self.model_copy()
        introduced._tls_settings = settings if self.tls else None
        return introduced

    @property
    def tls_settings(self) -> TlsSettings | None:
        """How it is called by TLS; ``None`` of a peer without ``tls``."""
        settings: TlsSettings | None = self._tls_settings
        return settings

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.dicomweb is None:
            for key in ("ae_title", "host", "port"):
                if not getattr(self, key):
                    text = "is missing, expected one, or dicomweb in its place"
                    raise PydanticCustomError("at_path", "{text}", {"path": (key,), "text": text})
        if self.dicomweb is not None and self.storage_commitment == "required":
            raise PydanticCustomError(
                "at_path", "{text}",
                {
                    "path": ("storage_commitment",),
                    "text": "found 'required', expected auto or off: STOW-RS has no commitment",
                },
            )
        return self

    def anchored(self, folder: Path) -> Self:
        """With the paths of its files starting at ``folder``."""
        if self.dicomweb is None:
            return self
        files = {
            key: folder / path
            for key in ("token_file", "ca_file")
            if (path := getattr(self.dicomweb, key)) is not None
        }
        return self.model_copy(update={"dicomweb": self.dicomweb.model_copy(update=files)})

    @property
    def speaks_dimse(self) -> bool:
        """Whether it can be called by DIMSE."""
        return self.dicomweb is None
