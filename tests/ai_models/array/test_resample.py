"""Grids: what a plan says about place holds for the values that move by it."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.array.resample import (
    AxisStep,
    plan_regridding,
    to_coarse_grid,
    to_model_grid,
    to_source_labels,
    to_source_scores,
)
from ai_models.types import Affine, FloatArray

AXES = ("S", "P", "L")


def tilted_affine(degrees: float) -> Affine:
    affine = np.array(
        [[0, 0, 1.5, -20], [0, 1.5, 0, -30], [3.0, 0, 0, 100], [0, 0, 0, 1]], dtype=np.float64)
    affine[1, 0] = 3.0 * np.tan(np.radians(degrees))
    return affine


def patient_ramp(shape: tuple[int, ...], affine: Affine, slope: tuple[float, ...]) -> FloatArray:
    """``slope . (x, y, z)`` at every voxel: linear, so that interpolation is exact."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    ramp: FloatArray = (points @ np.array(slope)).astype(np.float32)
    return ramp


@pytest.mark.parametrize("degrees", [0.0, 3.0, 18.0])
@pytest.mark.parametrize("spacing", [(3.0, 1.5, 1.5), (2.0, 2.0, 2.0), (1.0, 4.0, 3.3)])
def test_linear_field_in_the_patient_is_the_same_on_the_model_grid(
    degrees: float, spacing: tuple[float, float, float]
) -> None:
    affine, slope = tilted_affine(degrees), (1.0, -2.0, 0.5)
    source = patient_ramp((24, 40, 44), affine, slope)
    plan = plan_regridding((24, 40, 44), affine, AXES, spacing)
    found = to_model_grid(source, plan, lowest=-1e6)
    expected = patient_ramp(plan.model_shape, plan.model_affine_lps, slope)
    inside = (found > -1e5) & _deep_inside(plan.model_shape, plan.model_affine_lps, affine)
    assert inside.any()
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.02)
    np.testing.assert_allclose(
        np.linalg.norm(plan.model_affine_lps[:3, :3], axis=0),
        spacing if degrees > 5 or degrees == 0 else np.linalg.norm(
            plan.coarse_affine_lps[:3, :3], axis=0))


def _deep_inside(shape: tuple[int, ...], affine: Affine, source_affine: Affine) -> np.ndarray:
    to_source = np.linalg.inv(source_affine) @ affine
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    at = index @ to_source[:3, :3].T + to_source[:3, 3]
    return ((at > 4) & (at < np.array([24, 40, 44]) - 5)).all(axis=-1)


def test_tilt_leads_to_the_axes_of_the_patient_and_alignment_does_not() -> None:
    aligned = plan_regridding((24, 40, 44), tilted_affine(4.0), AXES, (2.0, 2.0, 2.0))
    tilted = plan_regridding((24, 40, 44), tilted_affine(12.0), AXES, (2.0, 2.0, 2.0))
    assert aligned.model_to_coarse is None
    assert tilted.model_to_coarse is not None
    np.testing.assert_allclose(tilted.tilt_degrees, 12.0)
    np.testing.assert_allclose(
        tilted.model_affine_lps[:3, :3], [[0, 0, 2.0], [0, 2.0, 0], [2.0, 0, 0]])


def test_axes_of_another_model_turn_the_grid() -> None:
    plan = plan_regridding((24, 40, 44), tilted_affine(0), ("R", "A", "I"), (2.0, 2.0, 2.0))
    assert plan.order == (2, 1, 0)
    np.testing.assert_allclose(
        plan.model_affine_lps[:3, :3], np.diag([-2.0, -2.0, -2.0]), atol=1e-12)


def test_same_spacing_and_axes_change_no_value() -> None:
    array = np.random.default_rng(1).normal(0, 300, (6, 7, 8)).astype(np.float32)
    affine = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    plan = plan_regridding((6, 7, 8), affine, AXES, (2.0, 2.0, 2.0))
    np.testing.assert_array_equal(to_model_grid(array, plan), array)


def test_fine_stripes_are_averaged_not_aliased() -> None:
    array = np.zeros((4, 64, 64), dtype=np.float32)
    array[:, :, ::2] = 100.0
    affine = np.array([[0, 0, 0.5, 0], [0, 0.5, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    plan = plan_regridding((4, 64, 64), affine, AXES, (2.0, 2.0, 2.0))
    coarse = to_model_grid(array, plan)
    np.testing.assert_allclose(coarse[:, :, 1:-1], 50.0, atol=1e-3)


def test_padding_below_the_lowest_value_does_not_bleed_in() -> None:
    array = np.full((4, 8, 8), -3000, dtype=np.int16)
    plan = plan_regridding((4, 8, 8), np.diag([1.0, 1, 1, 1]), AXES, (2.0, 2.0, 2.0))
    np.testing.assert_allclose(to_model_grid(array, plan, lowest=-1024.0), -1024.0)


def test_value_that_is_not_finite_is_an_error() -> None:
    array = np.zeros((4, 8, 8), dtype=np.float32)
    array[2, 3, 4] = np.nan
    plan = plan_regridding((4, 8, 8), np.diag([1.0, 1, 1, 1]), AXES, (2.0, 2.0, 2.0))
    with pytest.raises(ValueError, match="finite"):
        to_model_grid(array, plan)


def test_weights_of_every_coarse_sample_add_up_to_one() -> None:
    for scale in (-3.7, -1.0, 0.4, 1.0, 2.5):
        step = AxisStep(0, 17, 9, scale, 8 - scale * 4)
        np.testing.assert_allclose(step.reduction().sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_cropped_restoration_equals_the_whole_interpolation(degrees: float) -> None:
    shape, affine = (20, 36, 40), tilted_affine(degrees)
    plan = plan_regridding(shape, affine, AXES, (4.0, 4.0, 4.0))
    random = np.random.default_rng(4)
    scores = random.random((3, *plan.model_shape), dtype=np.float32)
    scores[0] += 0.6
    scores = to_coarse_grid(scores, plan, np.array([1, 0, 0], dtype=np.float32))
    found = to_source_labels(scores, plan)
    assert found.shape == shape
    assert np.array_equal(found, _slow_restoration(scores, plan))
    assert {1, 2} <= set(np.unique(found).tolist())


def _slow_restoration(scores: FloatArray, plan: object) -> np.ndarray:
    fine = scores
    for axis, step in enumerate(plan.steps):  # type: ignore[attr-defined]
        at = step.coarse_coordinates()
        low = np.minimum(np.floor(at).astype(int), step.length - 2)
        along = [-1 if a == axis + 1 else 1 for a in range(4)]
        share = (at - low).astype(np.float32).reshape(along)
        fine = np.take(fine, low, axis + 1) * (1 - share) + np.take(fine, low + 1, axis + 1) * share
    turned = fine.transpose(0, *(int(a) + 1 for a in np.argsort(plan.order)))  # type: ignore[attr-defined]
    labels: np.ndarray = turned.argmax(axis=0).astype(np.uint8)
    return labels


def test_scores_of_background_alone_give_an_empty_map() -> None:
    plan = plan_regridding((5, 6, 7), np.diag([2.0, 2, 2, 1]), AXES, (2.0, 2.0, 2.0))
    scores = np.zeros((2, *plan.coarse_shape), dtype=np.float32)
    scores[0] = 1
    assert not to_source_labels(scores, plan).any()


def test_single_slice_survives_the_way_there_and_back() -> None:
    plan = plan_regridding((1, 16, 16), tilted_affine(0.0), AXES, (2.0, 2.0, 2.0))
    scores = np.zeros((2, *plan.coarse_shape), dtype=np.float32)
    scores[1] = 1
    assert to_source_labels(scores, plan).all()


@pytest.mark.parametrize("degrees", [0.0, 12.0])
def test_without_a_spacing_samples_are_turned_round_and_nothing_else(degrees: float) -> None:
    array = np.random.default_rng(2).normal(size=(6, 7, 8)).astype(np.float32)
    affine = tilted_affine(degrees)
    plan = plan_regridding(array.shape, affine, ("R", "I", "A"), None)
    moved = to_model_grid(array, plan)
    assert np.array_equal(moved, np.flip(array.transpose(2, 0, 1), (0, 1, 2)))
    assert plan.model_to_coarse is None
    index = np.array([1.0, 2.0, 3.0, 1.0])
    there = np.array([6 - 1 - 2.0, 7 - 1 - 3.0, 8 - 1 - 1.0, 1.0])
    np.testing.assert_allclose(plan.model_affine_lps @ index, affine @ there)


def test_of_labels_above_their_thresholds_the_best_wins() -> None:
    plan = plan_regridding((1, 1, 4), np.eye(4), ("L", "P", "S"), None)
    scores = np.array([[0.3, 0.3, 0.9, 0.1], [0.4, 0.6, 0.8, 0.7]], np.float32)
    thresholds = np.array([0.2, 0.5], dtype=np.float32)
    labels = to_source_labels(scores.reshape(2, 1, 1, 4), plan, thresholds)
    assert labels.ravel().tolist() == [1, 2, 1, 2]
    same = np.array([0.75, 0.75], dtype=np.float32)
    assert to_source_labels(scores.reshape(2, 1, 1, 4), plan, same).ravel().tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("axes", [("S", "P", "L"), ("I", "R", "A"), ("A", "S", "R")])
def test_samples_that_are_only_turned_round_come_back_as_interpolation_says(
    axes: tuple[str, str, str]
) -> None:
    plan = plan_regridding((5, 6, 7), tilted_affine(0.0), axes, None)
    assert plan.is_turn
    scores = np.random.default_rng(5).random((3, *plan.coarse_shape), dtype=np.float32)
    labels = to_source_labels(scores, plan)
    assert np.array_equal(labels, _slow_restoration(scores, plan))
    best = np.stack([to_source_scores(channel, plan) for channel in scores])
    assert np.array_equal(best.argmax(axis=0), labels)


def test_padding_is_raised_to_the_lowest_value_where_samples_stay_as_they_are() -> None:
    array = np.full((4, 5, 6), -3000, dtype=np.int16)
    plan = plan_regridding(array.shape, tilted_affine(0.0), AXES, None)
    assert (to_model_grid(array, plan, lowest=-1024.0) == -1024.0).all()
    assert (array == -3000).all()
