"""What a run goes on from: a damaged one, one of another run, and a disk that is full."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ai_models.training.checkpoints import only_one_in, read_checkpoint, write_checkpoint
from ai_models.training.settings import TrainingError

CONTENT = {"step": 7, "network": {"weight": torch.arange(4096.0)}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "checkpoint.pt", CONTENT)
    return tmp_path / "checkpoint.pt"


def test_a_checkpoint_is_read_as_it_was_written(path: Path) -> None:
    found = read_checkpoint(path)
    assert found["step"] == 7
    assert torch.equal(found["network"]["weight"], CONTENT["network"]["weight"])  # type: ignore[index]


class Runs:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_one_that_is_cut_off_is_refused(path: Path, part: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(TrainingError, match=r"checkpoint.pt cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_one_with_a_single_bit_of_the_weights_turned_over_is_refused(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(TrainingError, match=r"checkpoint.pt cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_nothing_in_it_is_run(path: Path, tmp_path: Path) -> None:
    torch.save({"format": 1, "network": Runs(tmp_path / "ran")}, path)
    with pytest.raises(TrainingError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_leaves_the_checkpoint_before_and_is_said(path: Path) -> None:
    before = path.read_bytes()
    path.with_name(".checkpoint.pt.new").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match=r"checkpoint.pt cannot be written: No space left"):
        write_checkpoint(path, {**CONTENT, "step": 8})
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_second_training_in_a_folder_is_refused_and_a_later_one_is_not(tmp_path: Path) -> None:
    refused = pytest.raises(TrainingError, match="another training runs in")
    with only_one_in(tmp_path), refused, only_one_in(tmp_path):
        pass
    with only_one_in(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
