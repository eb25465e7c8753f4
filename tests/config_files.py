"""Small configuration files for tests, and the refusal that a bad one ends in."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node import config
from dicom_node.errors import ConfigurationError

PACS = "peers:\n  pacs: {ae_title: ORTHANC, host: 127.0.0.1, port: 4242}\n"
RULE = PACS + "rules:\n  - name: lungs\n    model: lungs-ct\n    send_to: [pacs]\n    when:\n"
WHEN_LINE = 8


def when(line: str) -> str:
    """A file whose one rule has this condition, on line `WHEN_LINE`."""
    return f"{RULE}      {line}\n"


def load(folder: Path, text: str, **environ: str) -> config.Config:
    file = folder / "node.yaml"
    file.write_text(text, encoding="utf-8")
    return config.load(file, environ)


def refusal(folder: Path, text: str, **environ: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, **environ)
    return caught.value
