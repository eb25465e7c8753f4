"""What a network gets: place, size, intensities and channels as its card asks."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.prediction.preparing import Prepared, prepare
from ai_models.types import Image, ModelError, Volume
from tests.ai_models.marked_phantom import (
    AXIAL,
    CENTRE_MM,
    CORNERS_MM,
    SIGNED_PERMUTATIONS,
    found_markers_mm,
    phantom,
    rotation,
)
from tests.ai_models.prediction.cards import IMAGE, card_for

FLIPS = [signs for order, signs in SIGNED_PERMUTATIONS if order == (2, 1, 0)]
GRIDS = [
    *((AXIAL * np.array(signs), (2.5, 1.6, 1.6)) for signs in FLIPS),
    (rotation(0, 20) @ rotation(2, 10) @ AXIAL, (2.0, 1.5, 1.5)),
    (AXIAL[:, [1, 0, 2]], (3.0, 1.0, 2.0)),
]
SIZES: list[dict[str, Any]] = [
    {},
    {"input__spacing_mm": None},
    {"input__size": {"edges": [48, 56, 64], "fit": "stretch"}},
    {"input__size": {"edges": [64, 64, 80], "fit": "pad"}},
    {"input__size": {"edges": [56, 70, 80], "fit": "crop"}},
    {"input__ndim": 2, "input__size": {"edges": [64, 72], "fit": "pad"}},
    {"input__foreground": {"above": -500.0, "margin_mm": 8.0}},
    {"input__axes": ["A", "R", "I"], "input__spacing_mm": [1.5, 2.0, 2.5],
     "input__size": {"edges": [64, 48, 48], "fit": "stretch"}},
]


@lru_cache
def volumes() -> tuple[Volume, ...]:
    """The markers on every grid."""
    return tuple(phantom(directions, spacing) for directions, spacing in GRIDS)


def assert_markers_lie_where_the_affine_says(prepared: Prepared) -> None:
    image = prepared.image
    assert image.affine_lps is not None
    found = found_markers_mm(image.array[0] > 0.5, image.affine_lps)
    distances = np.linalg.norm(found[:, None] - (CORNERS_MM + CENTRE_MM)[None], axis=-1)
    assert sorted(distances.argmin(axis=1)) == list(range(8))
    assert distances.min(axis=1).max() <= max(image.spacing_mm) / 2


@pytest.mark.parametrize("changes", SIZES, ids=range(len(SIZES)))
def test_markers_lie_where_the_affine_of_the_input_says(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    if "input__foreground" in changes:
        changes = {**changes, "input__foreground": {"above": -1001.0, "margin_mm": 8.0}}
    card = card_for(tmp_path, **changes)
    for volume in volumes():
        assert_markers_lie_where_the_affine_says(prepare(volume, card))


def test_the_affine_follows_the_crop_to_the_foreground(tmp_path: Path) -> None:
    volume = phantom(AXIAL, (2.0, 2.0, 2.0))
    one = np.where(np.arange(len(volume.array))[:, None, None] > 40, volume.array, -1000)
    one[:, :, :31] = -1000
    one[:, :31] = -1000
    card = card_for(tmp_path, input__foreground={"above": -500.0, "margin_mm": 8.0})
    image = prepare(Volume(one.astype(np.int16), volume.affine_lps), card).image
    assert image.affine_lps is not None
    assert image.array[0].size < volume.array.size / 8
    (found,) = found_markers_mm(image.array[0] > 0.5, image.affine_lps)
    assert np.linalg.norm(CORNERS_MM + CENTRE_MM - found, axis=1).min() < 1.0


def test_without_a_spacing_the_input_keeps_the_series_own(tmp_path: Path) -> None:
    volume = phantom(AXIAL * [1, -1, 1], (3.0, 1.0, 2.0))
    prepared = prepare(volume, card_for(tmp_path, input__spacing_mm=None))
    assert np.allclose(prepared.image.spacing_mm, (3.0, 1.0, 2.0))
    assert prepared.shape == volume.array.shape
    assert prepared.keeps_samples


@pytest.mark.parametrize(
    ("intensity", "normalisation", "expected"),
    [
        ({"clip": [-100, 100], "scale_to": [0, 1]}, "none", [0, 0, 0.5, 1, 1]),
        ({"clip": [-100, 100]}, "none", [-100, -100, 0, 100, 100]),
        ({}, "none", [-1000, -100, 0, 100, 1000]),
        ({"scale_to": [-1, 1]}, "none", [-1, -0.1, 0, 0.1, 1]),
        ({"clip_percentiles": [25, 75], "scale_to": [0, 1]}, "none", [0, 0, 0.5, 1, 1]),
        ({"clip": [-100, 100]}, "zscore", np.array([-1, -1, 0, 1, 1]) / np.sqrt(0.8)),
        ({"clip": [-100, 100]}, "zscore_nonzero", [-1, -1, 0, 1, 1]),
        ({"clip": [-100, 100]}, {"mean": [10.0], "std": [5.0]}, [-22, -22, -2, 18, 18]),
    ],
)
def test_intensities_are_as_the_card_says(
    tmp_path: Path, intensity: dict[str, Any], normalisation: object, expected: list[float]
) -> None:
    values = np.array([-1000, -100, 0, 100, 1000], dtype=np.int16).reshape(1, 1, 5)
    card = card_for(
        tmp_path, input__intensity={"unit": "HU", **intensity}, input__spacing_mm=None,
        input__normalisation=normalisation,
    )
    image = prepare(Volume(values, np.diag([1.0, 1, 1, 1])), card).image
    assert np.allclose(image.array.ravel()[np.argsort(image.array.ravel())], expected, atol=1e-5)


def test_every_channel_is_the_series_in_a_window_of_its_own(tmp_path: Path) -> None:
    windows = [
        {"name": name, "intensity": {"unit": "HU", "clip": clip, "scale_to": [0, 1]}}
        for name, clip in (("lung", [-1000, 0]), ("soft", [-100, 100]))
    ]
    card = card_for(
        tmp_path, input__channels=windows, input__spacing_mm=None, input__intensity={"unit": "HU"},
    )
    values = np.array([-500, 50], dtype=np.int16).reshape(1, 1, 2)
    volume = Volume(values, np.eye(4)[[2, 1, 0, 3]])
    image = prepare(volume, card).image
    assert np.allclose(image.array[:, 0, 0], [[0.5, 1.0], [0.0, 0.75]])
    assert image.background == 0.0


def test_a_colour_network_gets_one_image_three_times_each_normalised(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "classification",
        input={**IMAGE, "repeat": 3, "normalisation": "imagenet",
               "size": {"edges": [8, 8], "fit": "pad"}},
    )
    image = prepare(Image(np.ones((4, 8), np.float32), None), card).image
    assert image.array.shape == (3, 8, 8)
    assert image.affine_lps is None
    assert image.spacing_mm == ()
    assert np.allclose(image.array[:, 4, 4], [2.2489, 2.4286, 2.64], atol=1e-3)
    # What was padded is black in each channel.
    assert np.allclose(image.array[:, 0, 0], [-2.1179, -2.0357, -1.8044], atol=1e-3)


def test_means_that_are_not_as_many_as_channels_are_refused(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "classification", input={**IMAGE, "repeat": 2},
    )
    entry = card.input.model_copy(update={"normalisation": "imagenet"})
    card = card.model_copy(update={"input": entry})
    with pytest.raises(ModelError) as caught:
        prepare(Image(np.ones((4, 8), np.float32), None), card)
    assert caught.value.reason == "model.wrong_input"


@pytest.mark.parametrize(
    ("unit", "changes", "expected"),
    [
        ("HU", {}, 0.0),
        ("HU", {"input__intensity": {"unit": "HU"}}, -1024.0),
        ("HU", {"input__intensity": {"unit": "HU", "clip": [-200, 300]}}, -200.0),
        ("arbitrary", {"input__intensity": {"unit": "arbitrary", "scale_to": [-1, 1]}}, -1.0),
        ("arbitrary", {"input__intensity": {"unit": "arbitrary"},
                       "input__normalisation": {"mean": [2.0], "std": [4.0]}}, 2.0),
    ],
)
def test_background_is_what_outside_becomes(
    tmp_path: Path, unit: str, changes: dict[str, Any], expected: float
) -> None:
    card = card_for(
        tmp_path, input__size={"edges": [12, 8, 8], "fit": "crop"}, input__spacing_mm=None,
        **changes,
    )
    array = np.full((8, 8, 8), 10, np.int16)
    array[4] = 100
    image = prepare(Volume(array, np.eye(4)[[2, 1, 0, 3]], unit), card).image
    assert image.background == pytest.approx(expected)
    assert (image.array[0, :2] == np.float32(expected)).all()


def test_a_radiograph_is_brought_to_the_spacing_of_the_card(tmp_path: Path) -> None:
    card = card_for(tmp_path, "regression", input={**IMAGE, "spacing_mm": [1.0, 0.5, 0.5]})
    ramp = np.tile(np.linspace(0, 1, 41, dtype=np.float32), (20, 1))
    image = prepare(Image(ramp, (1.0, 0.25)), card).image
    assert image.array.shape == (1, 40, 21)
    assert image.spacing_mm == pytest.approx((0.5, 0.5))
    assert np.all(np.diff(image.array[0], axis=1) > 0)


def test_what_keeps_its_proportions_keeps_those_of_the_patient(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "regression", input={**IMAGE, "size": {"edges": [32, 32], "fit": "pad"}},
    )
    rows, columns = np.indices((64, 64)) - 31.5
    disc = (np.hypot(rows, columns) < 20).astype(np.float32)
    square = prepare(Image(disc, (0.5, 0.5)), card).image.array[0]
    rows, columns = np.indices((64, 128)) - np.array([31.5, 63.5])[:, None, None]
    wide = (np.hypot(rows, columns / 2.0) < 20).astype(np.float32)
    narrow_pixels = prepare(Image(wide, (0.5, 0.25)), card).image.array[0]
    assert np.abs(square - narrow_pixels).mean() < 0.01


def test_foreground_in_millimetres_needs_to_know_how_large_a_pixel_is(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "regression", input={**IMAGE, "foreground": {"above": 0.5, "margin_mm": 5}},
    )
    with pytest.raises(ModelError) as caught:
        prepare(Image(np.ones((4, 8), np.float32), None), card)
    assert caught.value.reason == "input.spacing_unknown"


@pytest.mark.parametrize(("edge", "is_taken"), [(0, False), (9, False), (10, True)])
def test_an_input_with_less_foreground_than_the_card_asks_for_is_refused(
    tmp_path: Path, edge: int, is_taken: bool
) -> None:
    array = np.full((20, 20, 20), -1000, np.int16)
    array[:edge, :10, :10] = 0
    card = card_for(
        tmp_path, input__spacing_mm=None,
        input__foreground={"above": -500.0, "margin_mm": 4.0, "min_volume_ml": 8.0},
    )
    volume = Volume(array, np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]])
    if is_taken:
        assert prepare(volume, card).shape == (12, 12, 12)
        return
    with pytest.raises(ModelError, match=r"8 ml") as caught:
        prepare(volume, card)
    assert caught.value.reason == "input.no_foreground"


def test_a_score_of_a_series_looks_at_all_of_its_slices(tmp_path: Path) -> None:
    array = np.full((12, 20, 20), -1000, np.int16)
    array[4:6, 5:15, 5:15] = 0
    card = card_for(
        tmp_path, "classification", input__ndim=2, input__spacing_mm=None,
        input__foreground={"above": -500.0, "margin_mm": 1.0}, output__per="slice",
    )
    prepared = prepare(Volume(array, np.eye(4)[[2, 1, 0, 3]]), card)
    assert prepared.shape == (12, 12, 12)
