"""``dicom-node models compress``: a table of versions, and 1 where one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ai_models.compress.test_making import bright_card
from tests.ai_models.training.tiny_cases import nifti_folder
from tests.cli.running import Site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bright_card(tmp_path / "tiny").folder


def test_versions_are_told_in_a_table_and_written(site: Site, folder: Path, tmp_path: Path) -> None:
    answer = site(
        "models", "compress", folder, "--variants", "fp16", "--cases",
        nifti_folder(tmp_path / "cases", 2), "--output", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert "bright 1.0 on 1 cases, on cpu; 0.01 may be lost" in answer.out
    assert "Dice of Bright" in answer.out
    assert (tmp_path / "out" / "bright-1.0-fp16" / "model.yaml").is_file()


def test_one_that_cannot_be_made_as_asked_ends_with_1(site: Site, folder: Path) -> None:
    answer = site("models", "compress", folder, "--variants", "int8-dynamic", "--json")
    assert answer.code == 1
    refused = answer.json()["versions"][-1]["refused"]
    assert "has none of MatMul" in refused


def test_cases_that_are_not_there_are_told(site: Site, folder: Path, tmp_path: Path) -> None:
    answer = site("models", "compress", folder, "--cases", tmp_path / "nothing")
    assert answer.code == 2
    assert "neither a folder nor a .csv file" in answer.err
