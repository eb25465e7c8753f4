"""The shipped ``config.yaml``: valid as it is, complete, and commented."""

from __future__ import annotations

from pathlib import Path

import yaml

from dicom_node import config

EXAMPLE = Path(__file__).parents[1] / "config.yaml"


def test_example_loads_and_holds_the_defaults_besides_its_peers_and_rules() -> None:
    settings = config.load(EXAMPLE, {})
    assert settings.model_copy(update={"peers": {}, "rules": []}) == config.Config()
    assert settings.rules[0].send_to == ["pacs"]


def test_example_writes_out_every_key() -> None:
    written = yaml.safe_load(EXAMPLE.read_text())
    effective = yaml.safe_load(config.describe(config.load(EXAMPLE, {})))
    assert written == effective


def test_every_key_of_the_example_has_a_comment() -> None:
    lines = EXAMPLE.read_text().splitlines()
    example_of_peer = {"ae_title: ORTHANC", "host: 127.0.0.1", "port: 4242"}
    before = ""
    for line in lines:
        key = line.startswith("  ") and not line.startswith("   ") and line.strip()[:1].isalpha()
        if key and line.strip() not in {*example_of_peer, "pacs:"}:
            assert before.strip().startswith("#"), f"no comment above {line!r}"
        before = line
