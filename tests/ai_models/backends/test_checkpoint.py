from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends.checkpoint import PickledProgramError, read_checkpoint
from ai_models.types import ModelError


class _Program:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.mkdir, ("never",))


def test_tensors_and_numbers_of_numpy_are_read(tmp_path: Path) -> None:
    values = {
        "weights": torch.arange(3), "best": np.float64(0.5), "fast": np.float32(0.25),
        "done": np.bool_(True), "curve": np.arange(4.0), "device": torch.device("cpu"),
    }
    torch.save(values, tmp_path / "one.pth")
    found = read_checkpoint(tmp_path / "one.pth")
    assert found["best"] == 0.5 and found["fast"] == 0.25 and found["done"]
    assert torch.equal(found["weights"], torch.arange(3))
    assert np.array_equal(found["curve"], np.arange(4.0))


def test_an_archive_that_inflates_to_many_times_its_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    torch.save({"weights": torch.zeros(1 << 20)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {one: archive.read(one) for one in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError, match="would become") as refused:
        read_checkpoint(path)
    assert refused.value.reason == "model.load_failed"


def test_numbers_that_numpy_1_wrote_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"best": np.float64(0.5)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multi", b"numpy.core.multi"))
    assert read_checkpoint(path)["best"] == 0.5


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("value", [_Program(), argparse.Namespace(a=1)])
def test_a_program_is_refused_by_name(
    tmp_path: Path, value: object, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": value}, "one.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(PickledProgramError) as raised:
        read_checkpoint(Path("one.pth"))
    assert raised.value.reason == "model.pickle"
    assert "mkdir" in str(raised.value) or "argparse.Namespace" in str(raised.value)
    assert not Path("never").exists()


def test_a_bare_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.pth").write_bytes(pickle.dumps(_Program(), protocol=2))
    with pytest.raises(ModelError):
        read_checkpoint(Path("one.pth"))
    assert not Path("never").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.pth").write_bytes(content)
    with pytest.raises(ModelError) as raised:
        read_checkpoint(tmp_path / "one.pth")
    assert raised.value.reason == "model.load_failed"


def test_a_missing_checkpoint_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as raised:
        read_checkpoint(tmp_path / "one.pth")
    assert raised.value.reason == "model.weights_missing"


def test_a_torchscript_file_is_refused_without_advice_to_read_it_blindly(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "one.pth"))
    with pytest.raises(ModelError) as raised:
        read_checkpoint(tmp_path / "one.pth")
    assert raised.value.reason == "model.load_failed"
    assert "trusted" not in str(raised.value)
