"""Settings of models: where they are, what runs them, and what this site lets them do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from dicom_node.config_peers import Seconds, Settings, Text, Whole

_DEVICE = r"cpu|cuda:[0-9]{1,2}|(MIG|GPU)-[0-9A-Za-z/-]{1,80}"


def _devices(value: object) -> object:
    if value == "auto":
        return value
    listed = value if isinstance(value, list) else []
    known = all(isinstance(d, str) and re.fullmatch(_DEVICE, d) for d in listed)
    if listed and known and len(set(listed)) == len(listed):
        return value
    raise PydanticCustomError(
        "devices", "auto, or a list of different devices: cpu, cuda:0, MIG-<uuid>, ..."
    )


def _url(value: str) -> str:
    if not re.fullmatch(r"(https?|grpc|grpcs)://[^\s/@?#]+(/[^\s?#]*)?", value):
        raise PydanticCustomError(
            "endpoint_url", "http://, https://, grpc:// or grpcs://, a host, and no user or query"
        )
    return value.rstrip("/")


class EndpointSettings(Settings):
    """A host that serves models; ``api_key_file`` holds nothing but its key."""

    url: Annotated[str, AfterValidator(_url)]
    api_key_file: Path | None = None
    timeout_s: Annotated[Seconds, Field(gt=0)] = 60


class ModelsSettings(Settings):
    """Where models are and what runs them; ``site_use`` says for what the site uses results.

    ``device_memory_mib`` is how much of a device warm models may fill together. Models below
    ``trusted_folders`` may bring code of their own. ``endpoints`` are the only hosts that a
    model may be asked of.
    """

    directories: list[Path] = []
    devices: Annotated[Literal["auto"] | list[Text], BeforeValidator(_devices)] = "auto"
    device_memory_mib: dict[Text, Annotated[Whole, Field(ge=1)]] = {}
    site_use: Literal["research", "clinical"] = "research"
    deadline_s: Annotated[Seconds, Field(gt=0)] = 1800
    trusted_folders: list[Path] = []
    endpoints: dict[Text, EndpointSettings] = {}

    def anchored(self, base: Path) -> ModelsSettings:
        """The same with relative paths below ``base``."""
        endpoints = {
            name: one if one.api_key_file is None
            else one.model_copy(update={"api_key_file": base / one.api_key_file})
            for name, one in self.endpoints.items()
        }
        return self.model_copy(
            update={
                "directories": [base / one for one in self.directories],
                "trusted_folders": [base / one for one in self.trusted_folders],
                "endpoints": endpoints,
            }
        )
