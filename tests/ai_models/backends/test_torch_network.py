"""TorchScript and state_dict give the same logits; a pickle that runs code is not read."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends import open_backend
from ai_models.card import load_card
from ai_models.types import FloatArray, ModelError
from tests.ai_models.tiny_models import write_model

UNET: dict[str, Any] = {
    "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2],
}
NETWORK = {"name": "monai.UNet", "arguments": UNET}


def unet() -> torch.nn.Module:
    from monai.networks.nets import UNet

    torch.manual_seed(3)
    module: torch.nn.Module = UNet(**UNET).eval()
    return module


def saved(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def answer(folder: Path, windows: FloatArray) -> FloatArray:
    backend = open_backend(load_card(folder), "cpu")
    backend.load()
    backend.warm_up()
    return backend.predict(windows)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_torchscript_and_state_dict_answer_alike(tmp_path: Path) -> None:
    module = unet()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, 1, 16, 16, 16)), buffer)
    script = write_model(
        tmp_path / "script", buffer.getvalue(), weights__path="w.ts",
        runtime__backend="torchscript",
    )
    state = write_model(
        tmp_path / "state", saved(module.state_dict()), weights__path="w.pt",
        runtime__backend="state_dict", runtime__network=NETWORK,
    )
    windows = np.random.default_rng(1).random((2, 1, 16, 16, 16), dtype=np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(answer(script, windows), expected, atol=1e-5)
    np.testing.assert_allclose(answer(state, windows), expected, atol=1e-5)


def test_bf16_is_near_fp32_and_said(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "state", saved({"state_dict": unet().state_dict()}), weights__path="w.pt",
        runtime__backend="state_dict", runtime__network=NETWORK, runtime__precision="bf16",
    )
    backend = open_backend(load_card(folder), "cpu")
    backend.load()
    windows = np.random.default_rng(1).random((1, 1, 16, 16, 16), dtype=np.float32)
    with torch.inference_mode():
        expected = unet()(torch.from_numpy(windows)).numpy()
    assert backend.notes[0].endswith("bf16")
    np.testing.assert_allclose(backend.predict(windows), expected, atol=0.1)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.putenv, ("DICOM_NODE_EVIL", "1"))


@pytest.mark.parametrize(
    ("weights", "network", "reason"),
    [
        (saved({"a": _Evil()}), NETWORK, "model.load_failed"),
        (saved(torch.zeros(3)), NETWORK, "model.load_failed"),
        (saved({"a": torch.zeros(3)}), NETWORK, "model.load_failed"),
        (b"nothing", NETWORK, "model.load_failed"),
        (b"nothing", {"name": "os.system"}, "model.architecture_unknown"),
        (b"nothing", {"name": "monai.UNet", "arguments": {"depth": 3}}, "model.load_failed"),
    ],
)
def test_what_is_not_weights_of_the_architecture_is_refused(
    tmp_path: Path, weights: bytes, network: dict[str, Any], reason: str
) -> None:
    folder = write_model(
        tmp_path / "m", weights, weights__path="w.pt", runtime__backend="state_dict",
        runtime__network=network,
    )
    with pytest.raises(ModelError) as caught:
        open_backend(load_card(folder), "cpu").load()
    assert caught.value.reason == reason


def test_cuda_that_is_not_there_is_never_claimed(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    folder = write_model(
        tmp_path / "m", saved(unet().state_dict()), weights__path="w.pt",
        runtime__backend="state_dict", runtime__network=NETWORK,
    )
    backend = open_backend(load_card(folder), "cuda:0")
    backend.load()
    assert "cpu" in backend.notes[0]
    assert "ran on the CPU" in backend.notes[1]
