"""Folders that a trained model needs beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ai_models.training.beside import folders_beside, put_folders
from ai_models.training.settings import TrainingError
from ai_models.weights import file_sha256, folder_sha256


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    for name in ("clip", "llama", "lungs"):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "config.json").write_text(f'{{"is": "{name}"}}')
    (tmp_path / "here" / "lungs" / "model.yaml").write_text("id: lungs")
    return tmp_path / "here"


def card(**folders: Any) -> dict[str, Any]:
    named = folders or {"clip": {"path": "clip"}, "llama": {"path": "./llama"}}
    return {"input": {"crop": {"model": "lungs", "labels": [1]}},
            "runtime": {"network": {"name": "PneumoLLM", "folders": named}}}


def test_folders_lie_in_the_model_with_their_digests(beside: Path, tmp_path: Path) -> None:
    values, folder = card(), tmp_path / "model"
    folder.mkdir()
    for _ in range(2):
        put_folders(values, beside, folder)
    parts = values["runtime"]["network"]["folders"]
    assert parts["llama"] == {"path": "llama", "sha256": folder_sha256(beside / "llama")}
    assert values["input"]["crop"]["sha256"] == file_sha256(beside / "lungs" / "model.yaml")
    assert (folder / "lungs" / "config.json").read_text() == '{"is": "lungs"}'
    assert sorted(one.name for one in folder.iterdir()) == ["clip", "llama", "lungs"]


def test_nothing_is_done_where_a_card_names_none(tmp_path: Path) -> None:
    values: dict[str, Any] = {"runtime": {"network": {"name": "LungUNet"}}}
    put_folders(values, tmp_path, tmp_path)
    assert values == {"runtime": {"network": {"name": "LungUNet"}}}
    assert folders_beside({}, tmp_path) == {}


@pytest.mark.parametrize(("folders", "said"), [
    ({"clip": {"path": "nowhere"}}, "no folder"),
    ({"clip": {}}, "a folder expected"),
    ({"clip": {"path": "clip", "sha256": "0" * 64}}, "clip has "),
    ({"clip": "clip"}, "a folder by name"),
])
def test_other_folders_than_the_recipe_means_are_refused(
    folders: dict[str, Any], said: str, beside: Path
) -> None:
    with pytest.raises(TrainingError, match=said):
        folders_beside(card(**folders), beside)


def test_links_in_a_folder_are_not_followed(beside: Path, tmp_path: Path) -> None:
    (beside / "clip" / "elsewhere").symlink_to(tmp_path)
    (tmp_path / "model").mkdir()
    with pytest.raises(TrainingError, match="is a link"):
        put_folders(card(), beside, tmp_path / "model")


def test_two_folders_of_one_name_are_refused(beside: Path, tmp_path: Path) -> None:
    (beside / "other" / "clip").mkdir(parents=True)
    twice = card(clip={"path": "clip"}, llama={"path": "other/clip"})
    with pytest.raises(TrainingError, match="two are called clip"):
        put_folders(twice, beside, tmp_path)
