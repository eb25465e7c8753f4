"""Windows put together again are the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ai_models.backends.sliding_window import sliding_window_scores
from ai_models.types import FloatArray, ModelError

ROI = (24, 24, 24)


def smooth(windows: FloatArray) -> FloatArray:
    """A network with a receptive field of three voxels and two channels."""
    torch.manual_seed(5)
    layer = torch.nn.Conv3d(1, 2, 3, padding=1)
    with torch.inference_mode():
        answer: FloatArray = layer(torch.from_numpy(windows)).numpy()
    return answer


def test_windows_agree_with_the_whole_volume_at_once() -> None:
    image = np.random.default_rng(2).random((40, 52, 61), dtype=np.float32)
    whole = smooth(image[None, None])[0]
    parts = sliding_window_scores(
        image, smooth, roi=ROI, overlap=0.5, batch=3, channels=2, padding=0.0)
    inside = np.s_[:, 2:-2, 2:-2, 2:-2]
    assert parts.shape == whole.shape
    # Only a voxel at a window's own border sees padding, and there the window weighs little.
    difference = np.abs(parts[inside] - whole[inside])
    assert np.median(difference) < 1e-6
    assert difference.mean() < 0.05 * whole.std()
    assert (parts[inside].argmax(axis=0) == whole[inside].argmax(axis=0)).mean() > 0.99


def test_pointwise_network_agrees_exactly() -> None:
    image = np.random.default_rng(2).random((40, 52, 61), dtype=np.float32)
    parts = sliding_window_scores(
        image, lambda windows: np.concatenate([windows, 1 - windows], axis=1), roi=ROI,
        overlap=0.25, batch=2, channels=2, padding=0.0)
    np.testing.assert_allclose(parts, np.stack([image, 1 - image]), atol=1e-6)


def test_image_smaller_than_a_window_keeps_its_shape_and_values() -> None:
    image = np.random.default_rng(2).random((5, 30, 11), dtype=np.float32)
    parts = sliding_window_scores(
        image, lambda windows: np.concatenate([windows, -windows], axis=1), roi=ROI, overlap=0.25,
        batch=2, channels=2, padding=0.0)
    np.testing.assert_allclose(parts[0], image, atol=1e-6)
    np.testing.assert_allclose(parts[1], -image, atol=1e-6)


def test_windows_of_one_value_are_computed_once() -> None:
    image = np.zeros((24, 24, 240), dtype=np.float32)
    image[:, :, :20] = np.random.default_rng(2).random((24, 24, 20), dtype=np.float32)
    asked: list[int] = []

    def counted(windows: FloatArray) -> FloatArray:
        asked.append(len(windows))
        return smooth(windows)

    parts = sliding_window_scores(
        image, counted, roi=ROI, overlap=0.25, batch=1, channels=2, padding=0.0)
    assert sum(asked) == 3
    np.testing.assert_allclose(parts[:, 12, 12, 200], smooth(np.zeros((1, 1, 24, 24, 24),
                               dtype=np.float32))[0, :, 12, 12, 12], atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(bad: float) -> None:
    with pytest.raises(ModelError) as caught:
        sliding_window_scores(
            np.random.default_rng(2).random((24, 24, 24), dtype=np.float32),
            lambda windows: np.full((len(windows), 2, *ROI), bad, dtype=np.float32),
            roi=ROI, overlap=0.25, batch=1, channels=2, padding=0.0)
    assert caught.value.reason == "model.not_finite"
