"""Classifiers and regressors: the whole input, or every slice of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends.tiled import TiledBackend
from ai_models.types import ModelError
from tests.ai_models.backends.function_networks import Run, backend_of, image_of

SCORES = [{"name": "effusion", "channel": 0}, {"name": "nodule", "channel": 2}]
QUANTITIES = [{"name": "age", "unit": "a", "minimum": 0, "maximum": 120}]


def judging(folder: Path, run: Run, **changes: object) -> TiledBackend:
    values: dict[str, Any] = {
        "task": "classification", "output": {"channels": 3, "scores": SCORES},
        "input__size": {"edges": [8, 8, 8]}, "runtime__roi": None, **changes}
    return backend_of(folder, run, **values)


def pooled(windows: torch.Tensor) -> torch.Tensor:
    mean = windows.flatten(1).mean(dim=1)
    return torch.stack([mean, mean * 2, mean * 3], dim=1)


def test_whole_input_gives_a_probability_for_each_channel(tmp_path: Path) -> None:
    backend = judging(tmp_path / "m", pooled)
    backend.warm_up()
    image = image_of(1, 8, 8, 8)
    scores = backend.predict(image).scores
    assert scores is not None
    expected = np.exp(image.array.mean() * np.arange(1, 4))
    np.testing.assert_allclose(scores, expected / expected.sum(), atol=1e-5)


def test_calibration_is_of_logits(tmp_path: Path) -> None:
    scores = [{"name": "nodule", "channel": 2,
               "calibration": {"temperature": 2.0, "bias": 0.5}}]
    backend = judging(
        tmp_path / "m", pooled,
        output={"channels": 3, "activation": "sigmoid", "scores": scores})
    image = image_of(1, 8, 8, 8)
    found = backend.predict(image).scores
    assert found is not None
    logits = image.array.mean() * np.array([1, 2, 3])
    logits[2] = (logits[2] - 0.5) / 2
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_flat_classifier_judges_every_slice(tmp_path: Path) -> None:
    sizes = []

    def counted(windows: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(windows.shape))
        return pooled(windows)

    backend = judging(
        tmp_path / "m", counted, input__size={"edges": [8, 6]}, input__ndim=2,
        output={"channels": 3, "per": "slice", "scores": SCORES})
    image = image_of(1, 5, 8, 6)
    scores = backend.predict(image).scores
    assert scores is not None
    assert sizes == [(2, 1, 8, 6), (2, 1, 8, 6), (1, 1, 8, 6)]
    assert scores.shape == (5, 3)
    expected = np.exp(image.array[0].mean(axis=(1, 2))[:, None] * np.arange(1, 4))
    np.testing.assert_allclose(scores, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


def test_image_is_judged_as_one(tmp_path: Path) -> None:
    backend = judging(
        tmp_path / "m", pooled, input__kind="image", input__ndim=2, input__modality=["DX"],
        input__spacing_mm=None, input__size={"edges": [8, 8], "fit": "stretch"}, input__repeat=3,
        input__intensity={"unit": "displayed"})
    backend.warm_up()
    scores = backend.predict(image_of(3, 8, 8)).scores
    assert scores is not None
    assert scores.shape == (3,)


def test_mirrored_inputs_are_averaged_as_scores(tmp_path: Path) -> None:
    def leaning(windows: torch.Tensor) -> torch.Tensor:
        mean = windows[..., :4].flatten(1).mean(dim=1) * 4
        return torch.stack([mean, -mean, mean], dim=1)

    backend = judging(
        tmp_path / "m", leaning,
        output={"channels": 3, "activation": "sigmoid", "scores": SCORES, "mirror": [2]})
    image = image_of(1, 8, 8, 8)
    scores = backend.predict(image).scores
    assert scores is not None
    halves = np.array([image.array[..., :4].mean() * 4, image.array[..., 4:].mean() * 4])
    np.testing.assert_allclose(scores[0], (1 / (1 + np.exp(-halves))).mean(), atol=1e-5)


def test_other_number_of_channels_is_an_error(tmp_path: Path) -> None:
    backend = judging(tmp_path / "m", lambda windows: pooled(windows)[:, :2])
    with pytest.raises(ModelError, match="the card says") as caught:
        backend.predict(image_of(1, 8, 8, 8))
    assert caught.value.reason == "model.wrong_output"


def test_regression_gives_the_numbers_as_they_are(tmp_path: Path) -> None:
    backend = judging(
        tmp_path / "m", lambda windows: pooled(windows)[:, 2:] * 100, task="regression",
        output={"quantities": QUANTITIES})
    image = image_of(1, 8, 8, 8)
    scores = backend.predict(image).scores
    assert scores is not None
    np.testing.assert_allclose(scores, [image.array.mean() * 300], rtol=1e-5)


def test_number_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    backend = judging(
        tmp_path / "m", lambda windows: pooled(windows)[:, 2:] * np.nan, task="regression",
        output={"quantities": QUANTITIES})
    with pytest.raises(ModelError) as caught:
        backend.predict(image_of(1, 8, 8, 8))
    assert caught.value.reason == "model.not_finite"


SEQUENCE: dict[str, Any] = {
    "input__size": None, "output": {"channels": 3, "per": "sequence", "scores": SCORES},
}


def along_slices(windows: torch.Tensor) -> torch.Tensor:
    """Of each slice what all up to it show."""
    before = windows[:, 0].mean(dim=(2, 3)).cumsum(dim=1)
    return torch.stack([before, before * 2, before * 3], dim=2)


def test_a_network_that_sees_the_whole_answers_each_slice(tmp_path: Path) -> None:
    backend = judging(tmp_path / "m", along_slices, **SEQUENCE)
    image = image_of(1, 5, 8, 6)
    scores = backend.predict(image).scores
    assert scores is not None
    assert scores.shape == (5, 3)
    expected = np.exp(image.array[0].mean(axis=(1, 2)).cumsum()[:, None] * np.arange(1, 4))
    np.testing.assert_allclose(scores, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


def test_what_is_said_of_a_mirrored_sequence_comes_back_to_its_slices(tmp_path: Path) -> None:
    def each_alone(windows: torch.Tensor) -> torch.Tensor:
        return windows[:, 0].mean(dim=(2, 3))[:, :, None].repeat(1, 1, 3) * torch.arange(1.0, 4.0)

    output = {**SEQUENCE["output"], "mirror": [0, 2]}
    plain = judging(tmp_path / "a", each_alone, **SEQUENCE).predict(image_of(1, 5, 8, 6)).scores
    backend = judging(tmp_path / "b", each_alone, **{**SEQUENCE, "output": output})
    np.testing.assert_allclose(backend.predict(image_of(1, 5, 8, 6)).scores, plain, atol=1e-6)


def test_a_sequence_of_another_length_is_refused(tmp_path: Path) -> None:
    backend = judging(tmp_path / "m", lambda windows: along_slices(windows)[:, 1:], **SEQUENCE)
    with pytest.raises(ModelError, match=r"\(1, 5, channels\) expected") as caught:
        backend.predict(image_of(1, 5, 8, 6))
    assert caught.value.reason == "model.wrong_output"
