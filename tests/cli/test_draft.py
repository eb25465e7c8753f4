"""``dicom-node draft train``: from a file of pairs to a writer that drafts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ai_models.drafting.folder_writer import open_writer
from ai_models.drafting.impression import impression
from ai_models.drafting.writer_card import load_writer_card
from ai_models.training.language.pairs import read_pairs
from ai_models.trust import Site
from dicom_node.cli.main import run_command
from tests.ai_models.training.language.pair_files import lines, write_base, write_pairs


def test_what_is_missing_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["draft", "train"]) == 2
    assert "--data is needed" in capsys.readouterr().err


def test_base_that_is_none_fails_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_pairs(tmp_path / "pairs.jsonl", lines(4))
    assert run_command(["draft", "train", "--data", str(data), "--base", str(tmp_path),
                        "--output", str(tmp_path / "writer")]) == 1
    assert "model.weights_missing" in capsys.readouterr().err
    assert not (tmp_path / "writer").exists()


def test_configuration_of_deepspeed_is_written(tmp_path: Path) -> None:
    place = tmp_path / "zero3.json"
    assert run_command(["draft", "train", "--write-deepspeed", str(place)]) == 0
    assert json.loads(place.read_text())["zero_optimization"]["stage"] == 3


@pytest.mark.long
def test_writer_that_was_trained_drafts_in_the_form_that_the_node_asks_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_pairs(tmp_path / "pairs.jsonl", lines(0, 12))
    base = write_base(tmp_path / "base", data)
    assert run_command([
        "draft", "train", "--data", str(data), "--base", str(base), "--output",
        str(tmp_path / "writer"), "--method", "full", "--steps", "120", "--batch", "8", "--at-once",
        "8", "--rate", "5e-3", "--max-tokens", "64", "--measure", "2", "--id", "tiny",
    ]) == 0
    assert '"guard": {"sentences": ' in capsys.readouterr().out
    writer = open_writer(load_writer_card(tmp_path / "writer"), Site())
    made = [impression(pair.evidence, writer, "en") for pair in read_pairs(data).pairs
            if pair.evidence is not None]
    # So small a model mixes numbers up, and then the guard strikes them.
    assert {one.fallback for one in made} <= {"", None, "all_struck"}
    assert any(one.is_drafted for one in made)
