"""ONNX Runtime loads only what the card vouches for, and says what it really runs on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ai_models.backends import open_backend
from ai_models.card import load_card
from ai_models.types import ModelError
from tests.ai_models.tiny_models import threshold_onnx, write_model


def test_logits_have_the_shape_of_the_windows(tmp_path: Path) -> None:
    backend = open_backend(load_card(write_model(tmp_path / "m", threshold_onnx(0.5))), "cpu")
    backend.probe()
    backend.load()
    backend.warm_up()
    windows = np.random.default_rng(0).random((3, 1, 16, 16, 16), dtype=np.float32)
    logits = backend.predict(windows)
    assert logits.shape == (3, 2, 16, 16, 16)
    np.testing.assert_allclose(logits[:, 1], 40 * (windows[:, 0] - 0.5), atol=1e-4)


def test_file_with_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", threshold_onnx(0.5, batch=2))
    backend = open_backend(load_card(folder), "cpu")
    backend.load()
    windows = np.random.default_rng(0).random((3, 1, 16, 16, 16), dtype=np.float32)
    np.testing.assert_allclose(
        backend.predict(windows)[:, 1], 40 * (windows[:, 0] - 0.5), atol=1e-4)


def test_altered_weights_are_not_loaded(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", threshold_onnx(0.5))
    (folder / "weights.onnx").write_bytes(threshold_onnx(0.51))
    with pytest.raises(ModelError, match="the card says") as caught:
        open_backend(load_card(folder), "cpu").load()
    assert caught.value.reason == "model.hash_mismatch"


@pytest.mark.parametrize("step", ["probe", "load"])
def test_missing_weights_are_named(tmp_path: Path, step: str) -> None:
    folder = write_model(tmp_path / "m", b"")
    (folder / "weights.onnx").unlink()
    with pytest.raises(ModelError, match=r"weights\.onnx") as caught:
        getattr(open_backend(load_card(folder), "cpu"), step)()
    assert caught.value.reason == "model.weights_missing"


def test_weights_that_are_no_plain_file_are_not_waited_for(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", b"")
    (folder / "weights.onnx").unlink()
    os.mkfifo(folder / "weights.onnx")
    with pytest.raises(ModelError, match="plain file") as caught:
        open_backend(load_card(folder), "cpu").load()
    assert caught.value.reason == "model.weights_missing"


def test_file_that_is_no_onnx_is_an_error(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", b"not a network")
    with pytest.raises(ModelError, match="cannot load") as caught:
        open_backend(load_card(folder), "cpu").load()
    assert caught.value.reason == "model.load_failed"


def test_file_for_other_windows_than_the_card_is_an_error(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", threshold_onnx(0.5, roi=(8, 16, 16)))
    with pytest.raises(ModelError, match="windows of") as caught:
        open_backend(load_card(folder), "cpu").load()
    assert caught.value.reason == "model.wrong_input"


def test_cuda_that_is_not_there_is_never_claimed(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is there")
    backend = open_backend(load_card(write_model(tmp_path / "m", threshold_onnx(0.5))), "cuda:0")
    backend.load()
    assert "CPUExecutionProvider" in backend.notes[0]
    assert "ran on the CPU" in backend.notes[1]


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:x", "cpu:1", ""])
def test_unknown_device_is_an_error(tmp_path: Path, device: str) -> None:
    folder = write_model(tmp_path / "m", threshold_onnx(0.5))
    with pytest.raises(ModelError) as caught:
        open_backend(load_card(folder), device).load()
    assert caught.value.reason == "model.device_unknown"
