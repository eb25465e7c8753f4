"""A marker in the patient stays where it is, however the scanner laid its grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ai_models.card import load_card
from ai_models.predictor import Predictor
from ai_models.types import ModelError, Volume
from tests.ai_models.marked_phantom import (
    AXIAL,
    CENTRE_MM,
    CORNERS_MM,
    SIGNED_PERMUTATIONS,
    found_markers_mm,
    phantom,
    rotation,
)
from tests.ai_models.tiny_models import threshold_onnx, write_model


def assert_markers_stay(predictor: Predictor, volume: Volume, tolerance_mm: float) -> None:
    prediction = predictor.predict(volume)
    assert prediction.label_map.shape == volume.array.shape
    assert prediction.label_map.dtype == np.uint8
    found = found_markers_mm(prediction.label_map, volume.affine_lps)
    assert len(found) == 8
    distances = np.linalg.norm(found[:, None] - (CORNERS_MM + CENTRE_MM)[None], axis=-1)
    assert sorted(distances.argmin(axis=1)) == list(range(8))
    assert distances.min(axis=1).max() <= tolerance_mm


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = write_model(
        tmp_path_factory.mktemp("bright") / "bright", threshold_onnx(0.5, roi=(24, 24, 24)),
        runtime__roi=[24, 24, 24],
    )
    predictor = Predictor(load_card(folder))
    predictor.load()
    return predictor


@pytest.mark.parametrize(("order", "signs"), SIGNED_PERMUTATIONS)
def test_markers_stay_in_every_permutation_and_flip_of_the_axes(
    bright: Predictor, order: tuple[int, ...], signs: tuple[float, ...]
) -> None:
    directions = np.eye(3)[:, order] * np.array(signs)
    assert_markers_stay(bright, phantom(directions, (2.5, 1.6, 1.6)), tolerance_mm=1.25)


@pytest.mark.parametrize("degrees", [3.0, 20.0, 44.0])
def test_markers_stay_in_oblique_stacks(bright: Predictor, degrees: float) -> None:
    directions = rotation(0, degrees) @ rotation(2, degrees / 2) @ AXIAL
    assert_markers_stay(bright, phantom(directions, (2.0, 1.5, 1.5)), tolerance_mm=1.0)


@pytest.mark.parametrize("degrees", [-25.0, 4.0, 15.0])
def test_markers_stay_under_gantry_tilt(bright: Predictor, degrees: float) -> None:
    sheared = AXIAL.copy()
    sheared[:, 0] = [0.0, np.tan(np.radians(degrees)), 1.0]
    assert_markers_stay(bright, phantom(sheared, (2.0, 1.5, 1.5)), tolerance_mm=1.0)


@pytest.mark.parametrize("spacing", [(6.0, 0.9, 0.9), (0.8, 3.0, 1.1), (4.0, 4.0, 4.0)])
def test_markers_stay_on_anisotropic_grids(
    bright: Predictor, spacing: tuple[float, float, float]
) -> None:
    assert_markers_stay(bright, phantom(AXIAL, spacing), tolerance_mm=max(spacing) / 2)


def test_two_runs_give_the_same_bytes(bright: Predictor) -> None:
    volume = phantom(rotation(1, 30) @ AXIAL, (2.0, 1.5, 1.5))
    first, second = bright.predict(volume), bright.predict(volume)
    assert first.label_map.tobytes() == second.label_map.tobytes()


def test_prediction_says_how_long_what_took_and_what_ran(bright: Predictor) -> None:
    prediction = bright.predict(phantom(rotation(0, 20) @ AXIAL, (2.0, 2.0, 2.0)))
    assert set(prediction.seconds_by_stage) == {"prepare", "infer", "restore", "postprocess"}
    assert "CPUExecutionProvider" in prediction.notes[0]
    assert prediction.notes[1] == "turned by 20.0 degrees to the patient's axes"
    assert prediction.algorithm.weights_sha256 == bright.card.weights.sha256


def test_volume_with_nothing_bright_gives_an_empty_label_map(bright: Predictor) -> None:
    volume = Volume(np.full((20, 30, 30), -1000, dtype=np.int16), np.diag([2.0, 2, 2, 1]))
    assert not bright.predict(volume).label_map.any()


def test_foreground_crop_does_not_change_the_answer(bright: Predictor, tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "cropped", threshold_onnx(0.5, roi=(24, 24, 24)), runtime__roi=[24, 24, 24],
        input__foreground={"above": -900.0, "margin_mm": 8.0},
    )
    cropped = Predictor(load_card(folder))
    cropped.load()
    volume = phantom(AXIAL, (2.0, 2.0, 2.0))
    one_ball = np.where(np.arange(volume.array.shape[0])[:, None, None] > 40, volume.array, -1000)
    volume = Volume(one_ball.astype(np.int16), volume.affine_lps)
    found = cropped.predict(volume).label_map
    parts, count = ndimage.label(bright.predict(volume).label_map)
    assert count > 1
    assert found.any()
    assert not (found & (parts == 0)).any()


@pytest.mark.parametrize(
    "directions",
    [AXIAL, AXIAL[:, [1, 2, 0]], AXIAL * [-1, 1, -1], rotation(2, 25) @ AXIAL],
    ids=["axial", "turned", "flipped", "oblique"],
)
def test_probabilities_lie_on_the_grid_of_the_volume_and_agree_with_the_label_map(
    tmp_path: Path, directions: np.ndarray
) -> None:
    folder = write_model(
        tmp_path / "asked", threshold_onnx(0.5, roi=(24, 24, 24), gain=4.0),
        runtime__roi=[24, 24, 24], output__probabilities=True,
    )
    predictor = Predictor(load_card(folder))
    predictor.load()
    volume = phantom(directions, (3.0, 2.0, 1.5))
    prediction = predictor.predict(volume)
    assert list(prediction.probabilities) == [1]
    scores = prediction.probabilities[1]
    assert (scores.shape, scores.dtype) == (volume.array.shape, np.float32)
    assert scores.min() >= 0
    assert scores.max() <= 1
    sure = np.abs(scores - 0.5) > 1e-4
    assert np.array_equal((scores > 0.5)[sure], (prediction.label_map == 1)[sure])


def test_probabilities_are_given_only_where_the_card_asks_for_them(bright: Predictor) -> None:
    assert bright.predict(phantom(AXIAL, (3.0, 3.0, 3.0))).probabilities == {}


def test_sigmoid_model_needs_no_background_channel(tmp_path: Path) -> None:
    weights = threshold_onnx(0.5, channels=2, roi=(24, 24, 24))
    labels = [
        {"value": value, "name": f"label {value}", "color_rgb": [value, 0, 0],
         "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"},
         "type": {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}}
        for value in (1, 2)
    ]
    folder = write_model(
        tmp_path / "sigmoid", weights, runtime__roi=[24, 24, 24], output__labels=labels,
        output__activation="sigmoid",
    )
    predictor = Predictor(load_card(folder))
    predictor.load()
    label_map = predictor.predict(phantom(AXIAL, (2.0, 2.0, 2.0))).label_map
    assert np.unique(label_map).tolist() == [0, 2]


def test_answer_of_another_shape_than_the_card_is_an_error(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "wrong", threshold_onnx(0.5, channels=3))
    predictor = Predictor(load_card(folder))
    predictor.load()
    with pytest.raises(ModelError, match="answered") as caught:
        predictor.predict(phantom(AXIAL, (4.0, 4.0, 4.0)))
    assert caught.value.reason == "model.wrong_output"


def test_nan_from_the_network_is_an_error(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "nan", threshold_onnx(float("nan")))
    predictor = Predictor(load_card(folder))
    predictor.load()
    with pytest.raises(ModelError, match="NaN") as caught:
        predictor.predict(phantom(AXIAL, (4.0, 4.0, 4.0)))
    assert caught.value.reason == "model.not_finite"


@pytest.mark.parametrize(
    ("volume", "changes", "reason"),
    [
        (Volume(np.zeros((4, 8, 8), np.int16), np.eye(4)), {"input__min_slices": 5},
         "input.too_few_slices"),
        (Volume(np.zeros((4, 8, 8), np.int16), np.diag([6.0, 1, 1, 1])),
         {"input__max_slice_gap_mm": 5}, "input.slices_too_far_apart"),
        (Volume(np.zeros((4, 8, 8), np.int16), np.eye(4), "arbitrary"), {}, "input.wrong_unit"),
        (Volume(np.zeros((4, 8, 8), np.int16), np.diag([0.0, 1, 1, 1])), {},
         "input.bad_geometry"),
        (Volume(np.zeros((4, 8, 8), np.int16), np.diag([1.0, 1e-9, 1e9, 1])), {},
         "input.bad_geometry"),
        (Volume(np.zeros((4, 8, 8), np.int16), np.diag([1.0, 1e6, 1e6, 1])), {},
         "input.bad_geometry"),
        (Volume(np.zeros((400, 9, 9), np.int16), np.diag([5.0, 900, 900, 1])), {},
         "input.too_large"),
        (Volume(np.zeros((8, 8), np.int16), np.eye(4)), {}, "input.not_a_volume"),
        (Volume(np.full((4, 8, 8), np.nan, np.float32), np.eye(4)), {}, "input.not_finite"),
    ],
)
def test_volume_that_the_card_does_not_allow_is_refused(
    tmp_path: Path, volume: Volume, changes: dict[str, object], reason: str
) -> None:
    predictor = Predictor(load_card(write_model(tmp_path / "m", threshold_onnx(0.5), **changes)))
    predictor.load()
    with pytest.raises(ModelError) as caught:
        predictor.predict(volume)
    assert caught.value.reason == reason
