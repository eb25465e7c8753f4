"""Settings of what people and machines look at: web page, API, tracing, the nightly self-test.

Part of `dicom_node.config`, which reads them from the file.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from dicom_node.config_peers import Flag, Host, ListenPort, Network, Settings, Text


def _header(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", value):
        raise PydanticCustomError("header", "the name of an HTTP header, such as X-Remote-User")
    return value


def _clock(value: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
        raise PydanticCustomError("clock", 'null, or a time of the day in quotes, such as "02:30"')
    return value


def _collector(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", value):
        raise PydanticCustomError("collector", "null, or http(s)://host:4318 of an OTLP collector")
    return value.rstrip("/")


class ProxySettings(Settings):
    """A reverse proxy that has authenticated the user: which header names them, from where.

    Who is in ``operators`` may act; everybody else that the proxy names may look.
    """

    user_header: Annotated[Text, AfterValidator(_header)] = "X-Remote-User"
    networks: Annotated[list[Network], Field(min_length=1)]
    operators: list[Text] = []


class WebSettings(Settings):
    """Where the status page and its API listen, and who is let in.

    Without ``tokens_file`` and ``proxy`` nobody is authenticated: then it may listen on the
    loopback only, shows no patient data, and changes nothing.
    """

    enabled: Flag = True
    host: Host = "127.0.0.1"
    port: ListenPort = 8042
    tokens_file: Path | None = None
    proxy: ProxySettings | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _strangers_stay_outside(self) -> Self:
        if not self.is_on_loopback and self.tokens_file is None and self.proxy is None:
            raise PydanticCustomError(
                "at_path", "{text}",
                {"path": ("host",), "text": f"found {self.host!r} without authentication, "
                 "expected 127.0.0.1, or web.tokens_file or web.proxy beside it"},
            )
        if (self.certificate_file is None) != (self.key_file is None):
            raise PydanticCustomError(
                "at_path", "{text}",
                {"path": ("key_file",), "text": "expected certificate_file and key_file together"},
            )
        return self

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this host can reach it."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"


class TracingSettings(Settings):
    """OpenTelemetry: where spans go by OTLP over HTTP; ``None``: nowhere."""

    otlp_endpoint: Annotated[Text, AfterValidator(_collector)] | None = None


class SelftestSettings(Settings):
    """The daily test of models on phantoms; ``models`` empty: those of the rules."""

    at: Annotated[Text, AfterValidator(_clock)] | None = None
    models: list[Text] = []


class ShiftSettings(Settings):
    """When a scanner whose images look unlike what a model knows is told of; ``every_h`` of
    ``None``: only by ``dicom-node shift`` and on the page."""

    every_h: Annotated[float, Field(gt=0, le=720)] | None = 6.0
    at_least: Annotated[int, Field(ge=5, le=500)] = 20
    baseline: Annotated[int, Field(ge=5, le=500)] = 50
    newest: Annotated[int, Field(ge=5, le=500)] = 100
    level: Annotated[float, Field(gt=0, lt=1)] = 0.01
    silhouette: Annotated[float, Field(ge=-1, le=1)] = 0.1

    @model_validator(mode="after")
    def _enough(self) -> ShiftSettings:
        for key in ("baseline", "newest"):
            if getattr(self, key) < self.at_least:
                raise ValueError(f"{key} below at_least: no scanner would ever be compared")
        return self
