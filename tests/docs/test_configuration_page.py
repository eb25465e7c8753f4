"""The page of settings says what the schema and ``config.yaml`` say."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from dicom_node.config import Config, describe
from dicom_node.operations.configuration_reference import reference

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "config.yaml").read_text("utf-8")


def test_the_page_is_made_from_the_settings_as_they_are() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert written == reference(EXAMPLE), (
        "write it anew: .venv/bin/python -m dicom_node.operations.configuration_reference "
        "config.yaml > docs/configuration.md"
    )


def test_every_setting_is_on_the_page_with_a_meaning() -> None:
    page = reference(EXAMPLE)
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    settings = {path: (value, default, meaning) for path, value, default, meaning in rows}
    for section, keys in yaml.safe_load(describe(Config())).items():
        for key in keys:
            assert f"{section}.{key}" in settings or section in ("peers", "rules")
    assert settings["node.port"] == (
        "whole number from 0 to 65535", "`11112`",
        "DICOM port; 104 is the official one but needs privileges. 0 takes any free port.",
    )
    assert "rules[].send_to" in settings
    assert "peers.<name>.dicomweb.url" in settings
    assert all(meaning.strip() for _, _, meaning in settings.values())
