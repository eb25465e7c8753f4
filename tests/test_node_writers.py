"""The settings name who drafts impressions; a writer that cannot write stops no node."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.drafting.endpoint_writer import EndpointWriter
from ai_models.drafting.impression import impression
from dicom_node.cli.check_models import models
from dicom_node.config import Config, load
from dicom_node.errors import ConfigurationError
from dicom_node.node_models import AbsentWriter, writer_of
from tests.ai_models.drafting.test_impression import TOLD
from tests.ai_models.drafting.writers import writer_folder

HERE = {
    "writer": "huggingface", "endpoint": None,
    "weights": {"path": "model", "sha256": "0" * 64, "licence": "MIT", "source": "test"},
}


def settings(folder: Path, name: str = "language") -> Config:
    path = folder / "config.yaml"
    path.write_text(
        "node: {data_dir: node}\nresults: {impression: writer}\n"
        f"models: {{endpoints: {{{name}: {{url: 'http://127.0.0.1:1'}}}}}}\n"
    )
    return load(path)


def test_nobody_drafts_unless_the_settings_name_a_writer() -> None:
    assert writer_of(Config()) is None


def test_writer_is_looked_for_beside_the_settings(tmp_path: Path) -> None:
    writer_folder(tmp_path / "writer")
    config = settings(tmp_path)
    assert config.results.impression == tmp_path / "writer"
    assert isinstance(writer_of(config), EndpointWriter)


@pytest.mark.parametrize(("changes", "name", "reason"), [
    (None, "language", "card.invalid"), ({}, "another", "model.endpoint_unknown"),
    (HERE, "language", "model.refused"), ({"licence": None}, "language", "card.invalid"),
])
def test_writer_that_cannot_write_is_told_by_check_and_gives_way_to_the_template(
    tmp_path: Path, changes: dict[str, object] | None, name: str, reason: str,
) -> None:
    if changes is not None:
        writer_folder(tmp_path / "writer", **changes)
    config = settings(tmp_path, name)
    writer = writer_of(config)
    assert isinstance(writer, AbsentWriter)
    assert impression(TOLD, writer, "en").fallback == reason
    with pytest.raises(ConfigurationError) as told:
        models(config)
    assert told.value.reason == reason
    assert "results.impression" in str(told.value)
