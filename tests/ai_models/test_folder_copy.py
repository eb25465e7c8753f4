"""Of a model's folder only what lies in it is copied for a version that is made from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ai_models.card import load_card
from ai_models.folder_copy import copy_beside, copy_cropping
from ai_models.types import ModelError
from tests.ai_models.prediction.test_cropping import write_cropped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.pem").write_text("of the site")
    made = tmp_path / "model"
    (made / "notes").mkdir(parents=True)
    (made / "lungs.yaml").write_text("title: Lungs")
    (made / "notes" / "how.md").write_text("so")
    (made / "notes" / "old.onnx").write_text("weights")
    return made


def test_files_and_folders_are_copied_without_what_is_left_out(folder: Path) -> None:
    (folder / "lungs.yaml").chmod(0o640)
    copy_beside(folder, folder.parent / "new", ("*.onnx", "how.*"), "model.cannot_adapt")
    copied = {one.relative_to(folder.parent / "new").as_posix()
              for one in (folder.parent / "new").rglob("*")}
    assert copied == {"lungs.yaml", "notes"}
    assert (folder.parent / "new" / "lungs.yaml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("leads_to", [
    "../secret/key.pem", "../secret", ".", "lungs.yaml", "/etc/hostname", "nowhere",
])
def test_a_link_is_refused_wherever_it_leads(folder: Path, leads_to: str) -> None:
    (folder / "notes" / "more").symlink_to(leads_to)
    with pytest.raises(ModelError, match="more is a link, which is not followed") as refused:
        copy_beside(folder, folder.parent / "new", (), "model.cannot_adapt")
    assert refused.value.reason == "model.cannot_adapt"


def test_a_link_that_is_left_out_is_not_looked_at(folder: Path) -> None:
    (folder / "weights.onnx").symlink_to("../secret/key.pem")
    copy_beside(folder, folder.parent / "new", ("*.onnx",), "model.cannot_adapt")
    assert not (folder.parent / "new" / "weights.onnx").exists()


def test_a_pipe_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(ModelError, match="pipe is neither a file nor a folder"):
        copy_beside(folder, folder.parent / "new", (), "model.cannot_adapt")


def test_the_model_that_crops_is_copied_whole(tmp_path: Path) -> None:
    card = load_card(write_cropped(tmp_path / "model"))
    copy_beside(card.folder, tmp_path / "copy", ("model.yaml", "*.onnx"), "model.x")
    copy_cropping(card, tmp_path / "copy", "model.x")
    found = {one.relative_to(tmp_path / "copy").as_posix() for one in tmp_path.rglob("copy/**/*")}
    assert found == {"lungs", "lungs/model.yaml", "lungs/weights.onnx"}
