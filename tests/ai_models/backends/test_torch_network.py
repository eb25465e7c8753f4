"""TorchScript, torch.export and state_dict give the same logits; what would run code is refused."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends.torch_network import TorchNetwork
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.tiny_models import write_model

UNET: dict[str, Any] = {
    "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2],
}
NETWORK = {"name": "monai.UNet", "arguments": UNET}
WINDOWS = torch.from_numpy(
    np.random.default_rng(1).random((3, 1, 16, 16, 16), dtype=np.float32)
)


def unet() -> torch.nn.Module:
    from monai.networks.nets import UNet

    torch.manual_seed(3)
    module: torch.nn.Module = UNet(**UNET).eval()
    return module


def saved(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def exported(batch: int | None = None) -> bytes:
    shapes = None if batch else ({0: torch.export.Dim("batch", min=1, max=8)},)
    example = (torch.zeros(batch or 2, 1, 16, 16, 16),)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(unet(), example, dynamic_shapes=shapes), buffer)
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(unet(), torch.zeros(1, 1, 16, 16, 16)), buffer)
    return buffer.getvalue()


def safetensors() -> bytes:
    from safetensors.torch import save

    content: bytes = save(unet().state_dict())
    return content


def network(folder: Path, weights: bytes, path: str, **changes: object) -> TorchNetwork:
    if path.endswith((".pt", ".pth", ".safetensors")):
        changes = {"runtime__backend": "state_dict", "runtime__network": NETWORK, **changes}
    card = load_card(write_model(folder, weights, weights__path=path, **changes))
    return TorchNetwork(card, "cpu", Site())


def expected() -> torch.Tensor:
    with torch.inference_mode():
        answer: torch.Tensor = unet()(WINDOWS)
    return answer


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("make", "path", "backend"),
    [
        (scripted, "w.ts", "torchscript"),
        (exported, "w.pt2", "torch_export"),
        (lambda: exported(batch=2), "w.pt2", "torch_export"),
        (safetensors, "w.safetensors", "state_dict"),
        (lambda: saved(unet().state_dict()), "w.pth", "state_dict"),
        (lambda: saved({"epoch": 3, "state_dict": unet().state_dict()}), "w.pt", "state_dict"),
        (lambda: saved({"best": np.float64(0.9), "model": unet().state_dict()}), "w.pt",
         "state_dict"),
        (lambda: saved({f"module.{key}": value for key, value in unet().state_dict().items()}),
         "w.pt", "state_dict"),
    ],
)
def test_every_kind_of_file_answers_alike(
    tmp_path: Path, make: Callable[[], bytes], path: str, backend: str
) -> None:
    one = network(tmp_path / "m", make(), path, runtime__backend=backend)
    one.load()
    torch.testing.assert_close(one.run(WINDOWS), expected(), atol=1e-5, rtol=0)
    one.close()
    with pytest.raises(ModelError) as caught:
        one.run(WINDOWS)
    assert caught.value.reason == "model.not_loaded"


def test_member_of_an_ensemble_has_its_own_weights(tmp_path: Path) -> None:
    import hashlib

    content = saved({name: value + 1 for name, value in unet().state_dict().items()})
    card = load_card(write_model(
        tmp_path / "m", saved(unet().state_dict()), weights__path="w.pt",
        runtime__backend="state_dict", runtime__network=NETWORK))
    (card.folder / "second.pt").write_bytes(content)
    one = TorchNetwork(card, "cpu", Site(), card.folder / "second.pt",
                       hashlib.sha256(content).hexdigest())
    one.load()
    assert not torch.allclose(one.run(WINDOWS), expected())
    other = TorchNetwork(card, "cpu", Site(), card.folder / "second.pt", "0" * 64)
    with pytest.raises(ModelError) as caught:
        other.load()
    assert caught.value.reason == "model.hash_mismatch"


def test_bf16_is_near_fp32_and_said(tmp_path: Path) -> None:
    one = network(tmp_path / "m", saved(unet().state_dict()), "w.pt", runtime__precision="bf16")
    one.load()
    assert one.notes[0].endswith("bf16")
    torch.testing.assert_close(one.run(WINDOWS), expected(), atol=0.1, rtol=0)


def test_fp16_is_left_to_devices_that_compute_it(tmp_path: Path) -> None:
    one = network(tmp_path / "m", saved(unet().state_dict()), "w.pt", runtime__precision="fp16")
    one.load()
    assert one.notes[0].endswith("fp32")
    assert "fp16 was asked for" in one.notes[1]
    torch.testing.assert_close(one.run(WINDOWS), expected(), atol=1e-6, rtol=0)


def test_half_is_taken_up_and_given_back(tmp_path: Path) -> None:
    one = network(tmp_path / "m", saved(unet().state_dict()), "w.pt")
    one.load()
    assert one.fallbacks == {"batch", "roi", "half"}
    one.settle(half=True, cpu=False)
    assert one.notes[0].endswith("bf16")
    assert not torch.equal(one.run(WINDOWS), expected())
    one.settle(half=False, cpu=False)
    assert torch.equal(one.run(WINDOWS), expected())


def test_channels_last_changes_nothing(tmp_path: Path) -> None:
    one = network(tmp_path / "m", saved(unet().state_dict()), "w.pt", runtime__channels_last=True)
    one.load()
    torch.testing.assert_close(one.run(WINDOWS), expected(), atol=1e-5, rtol=0)


def test_threads_are_those_the_process_may_use(tmp_path: Path) -> None:
    network(tmp_path / "m", saved(unet().state_dict()), "w.pt").load()
    assert torch.get_num_threads() == len(os.sched_getaffinity(0))


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.putenv, ("DICOM_NODE_EVIL", "1"))


@pytest.mark.parametrize(
    ("weights", "architecture", "reason", "words"),
    [
        (saved({"a": _Evil()}), NETWORK, "model.pickle", "putenv"),
        (saved(torch.nn.Linear(2, 2)), NETWORK, "model.pickle", "save the state_dict alone"),
        (saved(torch.zeros(3)), NETWORK, "model.load_failed", "no state_dict"),
        (saved({}), NETWORK, "model.load_failed", "no state_dict"),
        (saved({"a": torch.zeros(3)}), NETWORK, "model.load_failed", "Missing key"),
        (b"nothing", NETWORK, "model.load_failed", "cannot load"),
        (b"nothing", {"name": "os.system"}, "model.architecture_unknown", "there are"),
        (b"nothing", {"name": "monai.UNet", "arguments": {"depth": 3}}, "model.load_failed",
         "depth"),
        (b"nothing", {"name": "monai.resnet18", "arguments": {"pretrained": True}},
         "model.load_failed", "none are fetched"),
    ],
)
def test_what_is_not_weights_of_the_architecture_is_refused(
    tmp_path: Path, weights: bytes, architecture: dict[str, Any], reason: str, words: str
) -> None:
    one = network(tmp_path / "m", weights, "w.pt", runtime__network=architecture)
    with pytest.raises(ModelError, match=words) as caught:
        one.load()
    assert caught.value.reason == reason


def test_cuda_that_is_not_there_is_never_claimed(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    folder = write_model(
        tmp_path / "m", saved(unet().state_dict()), weights__path="w.pt",
        runtime__backend="state_dict", runtime__network=NETWORK)
    one = TorchNetwork(load_card(folder), "cuda:0", Site())
    one.load()
    assert "cpu" in one.notes[0]
    assert "ran on the CPU" in one.notes[1]


def test_export_for_other_windows_is_told_before_any_patient(tmp_path: Path) -> None:
    one = network(tmp_path / "m", exported(), "w.pt2", runtime__backend="torch_export",
                  runtime__roi=[8, 16, 16])
    with pytest.raises(ModelError, match="gives windows of") as caught:
        one.load()
    assert caught.value.reason == "model.wrong_input"


class _Detector(torch.nn.Module):
    """Answers as torchvision's detectors do once they are scripted."""

    def forward(
        self, images: list[torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
        found = {
            "boxes": torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0, 4.0]]),
            "labels": torch.ones(1, dtype=torch.int64),
            "scores": images[0].max().reshape(1),
        }
        return {}, [found]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_detector_is_given_a_list_where_it_takes_one(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(_Detector()), buffer)
    one = network(tmp_path / "m", buffer.getvalue(), "w.ts", runtime__backend="torchscript")
    one.load()
    boxes, scores, labels = one.detect(torch.full((1, 1, 8, 8, 8), 0.5))
    assert boxes.shape == (1, 6)
    assert scores.tolist() == [0.5]
    assert labels.tolist() == [1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_one_tensor_is_no_detection(tmp_path: Path) -> None:
    one = network(tmp_path / "m", scripted(), "w.ts", runtime__backend="torchscript")
    one.load()
    with pytest.raises(ModelError) as caught:
        one.detect(WINDOWS[:1])
    assert caught.value.reason == "model.wrong_output"


def test_network_is_compiled_for_its_device_where_the_card_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []

    def compile_(module: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        compiled.append(module)
        return lambda windows: module(windows) + 1

    monkeypatch.setattr(torch, "compile", compile_)
    one = network(tmp_path / "m", saved(unet().state_dict()), "w.pt", runtime__compile=True)
    one.load()
    assert compiled == [one.module]
    torch.testing.assert_close(one.run(WINDOWS), expected() + 1, atol=1e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_network_goes_to_the_device_and_back(tmp_path: Path, precision: str) -> None:
    folder = write_model(
        tmp_path / "m", saved(unet().state_dict()), weights__path="w.pt",
        runtime__backend="state_dict", runtime__network=NETWORK, runtime__precision=precision)
    one = TorchNetwork(load_card(folder), "cuda:0", Site())
    one.load()
    assert one.fallbacks >= {"batch", "offload", "roi", "cpu"}
    there = one.run(WINDOWS.cuda()).cpu()
    torch.testing.assert_close(there, expected(), atol=1e-3 if precision == "fp32" else 0.1, rtol=0)
    one.settle(half=False, cpu=True)
    assert one.device.type == "cpu"
    torch.testing.assert_close(one.run(WINDOWS), expected(), atol=1e-6, rtol=0)
