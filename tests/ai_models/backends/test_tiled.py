"""A network as a back-end: what is asked of it, and what is made of its answers."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from ai_models.backends import open_backend
from ai_models.backends.protocol import NetworkInput
from ai_models.backends.tiled import TiledBackend
from ai_models.card import load_card
from ai_models.types import FloatArray, ModelError
from tests.ai_models.backends.function_networks import Run, backend_of, image_of, label, two
from tests.ai_models.tiny_models import VALUES, write_model


def plain(run: Run, image: FloatArray, roi: tuple[int, ...]) -> torch.Tensor:
    """MONAI as a developer would call it."""
    with torch.inference_mode():
        answer = sliding_window_inference(
            torch.from_numpy(image)[None], roi, 1, run, overlap=0.25, mode="gaussian")
    assert isinstance(answer, torch.Tensor)
    return answer[0]


def saved_unet(seed: int = 3) -> tuple[torch.nn.Module, bytes, dict[str, Any]]:
    from monai.networks.nets import UNet

    arguments: dict[str, Any] = {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8, 8],
        "strides": [2, 2], "num_res_units": 1}
    torch.manual_seed(seed)
    module: torch.nn.Module = UNet(**arguments).eval()
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    return module, buffer.getvalue(), {"name": "monai.UNet", "arguments": arguments}


def unet_backend(folder: Path, **changes: object) -> tuple[torch.nn.Module, TiledBackend]:
    module, weights, network = saved_unet()
    values = {
        "weights__path": "w.pt", "runtime__backend": "state_dict", "runtime__network": network,
        "output__labels": [label(1), label(2)], **changes}
    backend = open_backend(load_card(write_model(folder, weights, **values)), "cpu")
    assert isinstance(backend, TiledBackend)
    backend.load()
    return module, backend


@pytest.mark.parametrize("batch", [1, 4])
def test_windows_give_what_plain_monai_gives(tmp_path: Path, batch: int) -> None:
    module, backend = unet_backend(tmp_path / "m", runtime__batch=batch)
    backend.warm_up()
    image = image_of(1, 20, 40, 37)
    image.array[:, :, 20:] = 0.25
    logits = plain(module, image.array, (16, 16, 16))
    scores = backend.predict(image).scores
    assert scores is not None
    np.testing.assert_allclose(scores, torch.softmax(logits, dim=0).numpy(), atol=1e-5)
    assert (scores.argmax(axis=0) == logits.argmax(dim=0).numpy()).all()


def dice(one: FloatArray, other: FloatArray) -> float:
    first, second = one.argmax(axis=0) > 0, other.argmax(axis=0) > 0
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_bf16_marks_the_same_things(tmp_path: Path) -> None:
    from monai.networks.nets import BasicUNet

    arguments: dict[str, Any] = {"features": [4, 4, 8, 8, 8, 4], "out_channels": 2}
    torch.manual_seed(0)
    module = BasicUNet(**arguments).eval()
    # Logits that grow with what is there: a network with structure, not noise.
    with torch.no_grad():
        module.final_conv.weight.zero_()
        module.final_conv.weight[1].fill_(1.0)
        module.final_conv.bias.copy_(torch.tensor([0.0, -1.5]))
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    grid = np.indices((32, 32, 32)) - 16
    ball = (np.square(grid).sum(axis=0) < 90).astype(np.float32)
    image = NetworkInput(ball[None], np.eye(4), (2.0,) * 3, 0.0)
    answers = []
    for precision in ("fp32", "bf16"):
        folder = write_model(
            tmp_path / precision, buffer.getvalue(), weights__path="w.pt",
            runtime__backend="state_dict", runtime__precision=precision,
            runtime__network={"name": "monai.BasicUNet", "arguments": arguments},
            runtime__roi=[32, 32, 32])
        backend = open_backend(load_card(folder), "cpu")
        backend.load()
        answers.append(backend.predict(image).scores)
    assert answers[0] is not None and answers[1] is not None
    assert 0.01 < (answers[0].argmax(axis=0) > 0).mean() < 0.9
    assert not np.array_equal(*answers)
    assert dice(answers[0], answers[1]) >= 0.99


@pytest.mark.parametrize(
    ("activation", "ignored", "channels"),
    [("softmax", [], 3), ("sigmoid", [], 2), ("none", [], 3), ("softmax", [3], 4),
     ("sigmoid", [2, 3], 4)],
)
def test_network_answers_a_channel_for_every_label(
    tmp_path: Path, activation: str, ignored: list[int], channels: int
) -> None:
    changes = {"output__activation": activation, "output__ignored": ignored,
               "output__labels": [label(1), label(2)]}
    right = backend_of(
        tmp_path / "right", lambda windows: windows.expand(-1, channels, -1, -1, -1) * 1.0,
        **changes)
    scores = right.predict(image_of(1, 16, 16, 16)).scores
    assert scores is not None
    assert scores.shape == (channels, 16, 16, 16)
    assert scores.dtype == np.float32
    wrong = backend_of(
        tmp_path / "wrong", lambda windows: windows.expand(-1, channels + 1, -1, -1, -1) * 1.0,
        **changes)
    asked = "labels and windows.*output.activation: sigmoid expects one channel for each"
    with pytest.raises(ModelError, match=asked) as caught:
        wrong.predict(image_of(1, 16, 16, 16))
    assert caught.value.reason == "model.wrong_output"


@pytest.mark.parametrize(("activation", "expected"), [
    ("softmax", lambda x: 1 / (1 + np.exp(0.5 - x))), ("none", lambda x: x - 0.5)])
def test_scores_are_those_of_the_activation(
    tmp_path: Path, activation: str, expected: Callable[[FloatArray], FloatArray]
) -> None:
    image = image_of(1, 20, 24, 30)
    scores = backend_of(tmp_path / "m", two, output__activation=activation).predict(image).scores
    assert scores is not None
    np.testing.assert_allclose(scores[1], expected(image.array[0]), atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("activation", ["softmax", "none"])
def test_values_that_are_not_finite_are_an_error(
    tmp_path: Path, bad: float, activation: str
) -> None:
    def one_bad(windows: torch.Tensor) -> torch.Tensor:
        answer = two(windows)
        answer[0, 1, 3, 3, 3] = bad
        return answer

    backend = backend_of(tmp_path / "m", one_bad, output__activation=activation)
    with pytest.raises(ModelError) as caught:
        backend.predict(image_of(1, 16, 16, 16))
    assert caught.value.reason == "model.not_finite"


def test_mirrored_windows_are_averaged(tmp_path: Path) -> None:
    seen = []

    def leaning(windows: torch.Tensor) -> torch.Tensor:
        """Sees only one half of a window: mirrors make it whole."""
        seen.append(len(windows))
        half = windows.clone()
        half[..., 8:] = 0
        return two(half) * 4

    image = image_of(1, 16, 16, 16)
    backend = backend_of(tmp_path / "m", leaning, output__mirror=[2], output__activation="none")
    scores = backend.predict(image).scores
    assert scores is not None
    np.testing.assert_allclose(scores[1], image.array[0] * 2 - 2, atol=1e-5)
    seen.clear()
    three = backend_of(tmp_path / "n", leaning, output__mirror=[0, 1, 2])
    three.predict(image)
    assert sum(seen) == 8


def test_ensemble_is_the_mean_of_its_scores(tmp_path: Path) -> None:
    members = [{"path": f"{number}.ts", "sha256": "0" * 64} for number in (2, 4)]
    backend = backend_of(
        tmp_path / "m", two, weights__ensemble=members, output__activation="none")
    image = image_of(1, 20, 20, 20)
    scores = backend.predict(image).scores
    assert scores is not None
    np.testing.assert_allclose(scores[1], image.array[0] - 0.5 + 2, atol=1e-5)
    assert "mean of 3 networks" in backend.notes


def test_flat_network_slides_in_every_slice(tmp_path: Path) -> None:
    shapes = set()

    def flat(windows: torch.Tensor) -> torch.Tensor:
        shapes.add(tuple(windows.shape[1:]))
        return two(windows)

    backend = backend_of(
        tmp_path / "m", flat, input__ndim=2, runtime__roi=[16, 16], output__activation="none")
    backend.warm_up()
    image = image_of(1, 7, 30, 20)
    scores = backend.predict(image).scores
    assert scores is not None
    assert shapes == {(1, 16, 16)}
    np.testing.assert_allclose(scores[1], image.array[0] - 0.5, atol=1e-5)


def test_input_of_a_size_goes_through_in_one_piece(tmp_path: Path) -> None:
    shapes = []

    def whole(windows: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(windows.shape))
        return two(windows)

    backend = backend_of(
        tmp_path / "m", whole, input__size={"edges": [24, 20, 28]}, runtime__roi=None,
        input__channels=[
            {"name": name, "intensity": VALUES["input"]["intensity"]} for name in ("a", "b")],
        input__intensity={"unit": "HU"})
    backend.warm_up()
    scores = backend.predict(image_of(2, 24, 20, 28)).scores
    assert scores is not None
    assert scores.shape == (2, 24, 20, 28)
    assert shapes == [(1, 2, 24, 20, 28)] * 2


def test_a_whole_volume_is_not_computed_on_a_processor_to_warm_up(tmp_path: Path) -> None:
    shapes = []

    def whole(windows: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(windows.shape))
        return two(windows)

    backend = backend_of(
        tmp_path / "m", whole, input__size={"edges": [256, 256, 256]}, runtime__roi=None)
    backend.warm_up()
    assert shapes == []


def test_slices_of_a_size_go_through_in_batches(tmp_path: Path) -> None:
    shapes = []

    def whole(windows: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(windows.shape))
        return two(windows)

    backend = backend_of(
        tmp_path / "m", whole, input__ndim=2, input__size={"edges": [20, 28]}, runtime__roi=None,
        output__activation="none")
    image = image_of(1, 5, 20, 28)
    scores = backend.predict(image).scores
    assert scores is not None
    assert shapes == [(2, 1, 20, 28), (2, 1, 20, 28), (1, 1, 20, 28)]
    np.testing.assert_allclose(scores[1], image.array[0] - 0.5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 16, 16, 16), (1, 16, 16)])
def test_array_that_is_not_the_cards_is_an_error(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ModelError) as caught:
        backend_of(tmp_path / "m", two).predict(image_of(*shape))
    assert caught.value.reason == "model.wrong_input"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_device_gives_what_the_cpu_gives(tmp_path: Path) -> None:
    module, weights, network = saved_unet()
    folder = write_model(
        tmp_path / "m", weights, weights__path="w.pt", runtime__backend="state_dict",
        runtime__network=network, output__labels=[label(1), label(2)])
    backend = open_backend(load_card(folder), "cuda:0")
    backend.load()
    image = image_of(1, 40, 40, 40)
    scores = backend.predict(image).scores
    assert scores is not None
    logits = plain(module, image.array, (16, 16, 16))
    np.testing.assert_allclose(scores, torch.softmax(logits, dim=0).numpy(), atol=1e-3)
    again = backend.predict(image).scores
    np.testing.assert_array_equal(scores, again)
