"""Windows put together again are the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ai_models.backends.sliding_window import (
    Predict,
    sliding_window_logits,
    whole_logits,
)
from ai_models.backends.windows import gaussian
from ai_models.types import ModelError

ROI = (24, 24, 24)
CPU = torch.device("cpu")


def image_of(*shape: int) -> torch.Tensor:
    random = np.random.default_rng(2)
    return torch.from_numpy(random.random((1, 1, *shape), dtype=np.float32))


def slid(image: torch.Tensor, predict: Predict, *, overlap: float = 0.25, batch: int = 2,
         channels: int = 2, roi: tuple[int, ...] = ROI) -> torch.Tensor:
    return sliding_window_logits(
        image, predict, roi=roi, overlap=overlap, batch=batch, channels=channels, padding=0.0,
        windows_on=CPU, sums_on=CPU)


@torch.inference_mode()
def smooth(windows: torch.Tensor) -> torch.Tensor:
    """A network with a receptive field of three voxels and two channels."""
    torch.manual_seed(5)
    answer: torch.Tensor = torch.nn.Conv3d(1, 2, 3, padding=1)(windows)
    return answer


def test_windows_agree_with_the_whole_volume_at_once() -> None:
    image = image_of(40, 52, 61)
    whole = smooth(image).numpy()[0]
    parts = slid(image, smooth, overlap=0.5, batch=3).numpy()[0]
    inside = np.s_[:, 2:-2, 2:-2, 2:-2]
    assert parts.shape == whole.shape
    # Only a voxel at a window's own border sees padding, and there the window weighs little.
    difference = np.abs(parts[inside] - whole[inside])
    assert np.median(difference) < 1e-6
    assert difference.mean() < 0.05 * whole.std()
    assert (parts[inside].argmax(axis=0) == whole[inside].argmax(axis=0)).mean() > 0.99


def test_pointwise_network_agrees_exactly() -> None:
    image = image_of(40, 52, 61)
    parts = slid(image, lambda windows: torch.cat([windows, 1 - windows], dim=1))
    torch.testing.assert_close(parts, torch.cat([image, 1 - image], dim=1), atol=1e-6, rtol=0)


def test_image_smaller_than_a_window_keeps_its_shape_and_values() -> None:
    image = image_of(5, 30, 11)
    parts = slid(image, lambda windows: torch.cat([windows, -windows], dim=1))
    torch.testing.assert_close(parts, torch.cat([image, -image], dim=1), atol=1e-6, rtol=0)


def test_several_inputs_of_two_axes_are_windowed_each_for_itself() -> None:
    slices = torch.cat([image_of(1, 40, 30)[0], image_of(1, 40, 30)[0] + 5])
    parts = slid(slices, lambda windows: windows * 2, channels=1, roi=(16, 16), batch=3)
    torch.testing.assert_close(parts, slices * 2, atol=1e-5, rtol=0)


def test_network_that_hands_its_input_on_does_not_change_the_image() -> None:
    image = image_of(30, 30, 30)
    before = image.clone()
    parts = slid(image, lambda windows: windows, channels=1, batch=1)
    torch.testing.assert_close(image, before, atol=0, rtol=0)
    torch.testing.assert_close(parts, before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch", [1, 3])
def test_windows_of_one_value_are_computed_once(batch: int) -> None:
    image = torch.zeros((1, 1, 24, 24, 240))
    image[..., :20] = image_of(24, 24, 20)
    asked: list[int] = []

    def counted(windows: torch.Tensor) -> torch.Tensor:
        asked.append(len(windows))
        return smooth(windows)

    parts = slid(image, counted, batch=batch)
    assert sum(asked) == 3
    alone = smooth(torch.zeros((1, 1, *ROI)))
    torch.testing.assert_close(
        parts[0, :, 12, 12, 200], alone[0, :, 12, 12, 12], atol=1e-6, rtol=0)


def test_window_is_empty_only_when_every_channel_is() -> None:
    image = torch.cat([torch.zeros((1, 1, 24, 24, 48)), image_of(24, 24, 48)], dim=1)
    parts = slid(image, lambda windows: windows[:, 1:], channels=1)
    torch.testing.assert_close(parts, image[:, 1:], atol=1e-6, rtol=0)


def test_another_shape_than_that_of_the_windows_is_an_error() -> None:
    with pytest.raises(ModelError, match="labels and windows") as caught:
        slid(image_of(24, 24, 24), lambda windows: windows)
    assert caught.value.reason == "model.wrong_output"


def test_whole_inputs_go_through_in_batches_and_in_order() -> None:
    inputs = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 1, 4, 6).clone()
    asked: list[int] = []

    def counted(windows: torch.Tensor) -> torch.Tensor:
        asked.append(len(windows))
        return windows + 1

    answer = whole_logits(
        inputs, counted, batch=2, channels=1, windows_on=CPU, sums_on=CPU)
    assert asked == [2, 2, 1]
    torch.testing.assert_close(answer, inputs + 1)


def test_weights_of_a_window_are_made_once() -> None:
    assert gaussian(ROI, CPU) is gaussian(ROI, CPU)
