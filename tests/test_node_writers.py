"""The settings name who drafts impressions; a writer that cannot write stops no node."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.backends import huggingface_folder
from ai_models.drafting.endpoint_writer import EndpointWriter
from ai_models.drafting.folder_writer import FolderWriter
from ai_models.drafting.impression import impression
from ai_models.trust import Site
from ai_models.types import ModelError
from dicom_node import node_models
from dicom_node.cli.check_models import models
from dicom_node.cli.writers import drafting_by_rule, impressions
from dicom_node.config import Config, describe, load
from dicom_node.errors import ConfigurationError
from dicom_node.events import Events
from dicom_node.node_models import AbsentWriter, open_writers, writer_of, writers_of
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.punctual_writer import PunctualWriter
from dicom_node.pipeline.writer_process import WriterProcess
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
    writer = writer_of(config)
    assert isinstance(writer, PunctualWriter) and isinstance(writer.writer, EndpointWriter)


@pytest.mark.parametrize(("changes", "name", "reason"), [
    (None, "language", "card.invalid"), ({}, "another", "model.endpoint_unknown"),
    (HERE, "language", "model.weights_missing"), ({"licence": None}, "language", "card.invalid"),
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


def test_writer_whose_weights_lie_in_its_folder_writes_in_a_process_of_its_own(
    tmp_path: Path,
) -> None:
    writer_folder(tmp_path / "writer", **HERE)
    (tmp_path / "writer" / "model").mkdir()
    config, pool = settings(tmp_path), InferencePool(["cpu"], Site(), tmp_path / "s", Events())
    writer, _ = open_writers(config, pool, Events())
    assert isinstance(writer, WriterProcess)
    assert isinstance(writer_of(config), FolderWriter)
    with pytest.raises(ConfigurationError, match="SHA-256") as told:
        models(config)
    assert told.value.reason == "model.hash_mismatch"
    assert pool.pids == []
    pool.close()


def test_check_tries_the_library_of_a_writer_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer_folder(tmp_path / "writer", **HERE)
    monkeypatch.setattr(node_models, "check_folders", lambda card, content=False: None)

    def fail() -> None:
        raise ModelError("transformers can make no model", reason="model.backend_missing")

    monkeypatch.setattr(huggingface_folder, "check_library", fail)
    with pytest.raises(ConfigurationError, match="can make no model") as told:
        models(settings(tmp_path))
    assert told.value.reason == "model.backend_missing"


def rules_with(folder: Path, *impressions: str, language: str = "en") -> Config:
    writer_folder(folder / "writer")
    writer_folder(folder / "other", id="another", name="Another")
    rules = "".join(
        f"  - {{name: rule {number}, model: lungs-ct, send_to: [sender], when: {{Modality: CT}}"
        f"{', impression: ' + one if one else ''}}}\n"
        for number, one in enumerate(impressions)
    )
    path = folder / "config.yaml"
    path.write_text(
        "node: {data_dir: node}\n"
        f"results: {{impression: writer, language: {language}}}\nrules:\n{rules}"
        "models: {endpoints: {language: {url: 'http://127.0.0.1:1'}}}\n"
    )
    return load(path)


def test_a_rule_names_its_own_writer_or_none_or_has_that_of_all(tmp_path: Path) -> None:
    config = rules_with(tmp_path, "", "none", "other", "other", "null")
    assert load_again(config, tmp_path) == config
    writers = writers_of(config)
    ids = [None if one is None else one.identity.id for one in writers.values()]
    assert ids == ["radiology-llama", None, "another", "another", "radiology-llama"]
    assert writers["rule 2"] is writers["rule 3"]


def load_again(config: Config, folder: Path) -> Config:
    (folder / "again.yaml").write_text(describe(config))
    return load(folder / "again.yaml")


def test_writer_of_a_rule_that_cannot_write_is_told_with_its_key(tmp_path: Path) -> None:
    config = rules_with(tmp_path, "", "missing")
    assert isinstance(writers_of(config)["rule 1"], AbsentWriter)
    with pytest.raises(ConfigurationError, match=r"rules\[1\]\.impression: .*writer\.yaml"):
        models(config)


@pytest.mark.parametrize("written", ["[writer]", "3", "''", "true"])
def test_what_is_no_folder_is_refused_with_its_key(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        rules_with(tmp_path, "", written)
    assert told.value.key_path == "rules[1].impression"
    assert "writer.yaml" in str(told.value)


def test_check_and_explain_say_who_drafts_by_which_rule(tmp_path: Path) -> None:
    config = rules_with(tmp_path, "", "none", "other")
    (finding,) = impressions(config)
    assert finding.found == (
        "Radiology Llama 1.0 drafts the impression, by 'rule 0'; "
        "Another 1.0 drafts the impression, by 'rule 2'"
    )
    assert set(drafting_by_rule(config)) == {"rule 0", "rule 2"}
    assert impressions(Config()) == []


def test_check_warns_where_a_writer_cannot_write(tmp_path: Path) -> None:
    (finding,) = impressions(rules_with(tmp_path, "", "missing", "other"))
    assert finding.outcome == "warning"
    assert "nobody drafts the impression: " in finding.found and "rule 2" in finding.found


def test_check_warns_of_a_writer_in_a_language_that_the_guard_does_not_read(
    tmp_path: Path,
) -> None:
    config = rules_with(tmp_path, "", "none", language="de")
    (finding,) = impressions(config)
    assert finding.outcome == "warning"
    assert "results.language is de" in finding.found and "templates" in finding.found
    assert "does not read de" in drafting_by_rule(config)["rule 0"]
