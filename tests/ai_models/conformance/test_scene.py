"""What is drawn fits the card, has no symmetry, and is the same thing on every grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from ai_models.array.phantom_head import head_phantom
from ai_models.array.phantom_radiograph import radiograph_phantom
from ai_models.conformance.presentations import flips, oblique, permuted, respaced
from ai_models.conformance.scene import affine_of, fits, scene_for, scene_of, shape_of
from ai_models.prediction.checking import check_source
from ai_models.types import Image, Volume
from tests.ai_models.conformance.models import card_of, volume

IMAGE = {"kind": "image", "modality": ["DX"], "ndim": 2, "intensity": {"unit": "displayed"}}
MR = {"modality": ["MR"], "intensity": {"unit": "arbitrary"}}


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("changes", [
    {}, {"input__min_slices": 70}, {"input__max_slices": 20}, {"input__max_slice_gap_mm": 1.5},
    {"input__body_part": ["CHEST"], "input__min_slices": 80}, {"input": MR},
    {"input__body_part": ["CHEST"], "input__max_slice_gap_mm": 2.5},
    {"input": IMAGE}, {"input__spacing_mm": None},
])
def test_what_is_shown_is_what_the_card_allows(
    tmp_path: Path, changes: dict[str, Any], quick: bool
) -> None:
    card = card_of(tmp_path, **changes)
    if not quick and card.input.body_part:
        pytest.skip("a large chest takes seconds to draw")
    scene = scene_for(card, quick=quick)
    check_source(scene.reference, card)
    check_source(scene.empty(), card)
    if isinstance(scene.reference, Volume):
        assert fits(card, shape_of(scene.reference), scene.reference.affine_lps)
        for one in (permuted(scene.reference, card), oblique(scene), respaced(scene, card)):
            check_source(one.source, card)


@pytest.mark.parametrize("unit", ["HU", "arbitrary"])
def test_eight_markers_lie_in_the_brain_and_each_is_another(unit: str) -> None:
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = 1.5
    affine[:3, 3], affine[3, 3] = (-70.0, -240.0, 730.0), 1.0
    head = head_phantom((120, 136, 108), affine, unit)
    parts, count = ndimage.label(head.array > (560 if unit == "arbitrary" else 110))
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))
    found = sizes > 100
    # In Hounsfield units the skull is the ninth bright thing.
    assert found.sum() == (8 if unit == "arbitrary" else 9)
    values = ndimage.median(head.array, parts, np.flatnonzero(found) + 1)
    assert len(set(values)) == found.sum()


def test_no_flip_of_the_head_is_the_head(tmp_path: Path) -> None:
    scene = scene_for(card_of(tmp_path), quick=True)
    assert isinstance(scene.reference, Volume)
    for one in flips(scene.reference, quick=False):
        bright, turned = scene.reference.array > 100, one.source.array > 100
        assert (bright ^ turned).sum() > 0.2 * bright.sum()


def test_flips_are_the_seven_others_and_show_the_same_place(tmp_path: Path) -> None:
    scene = scene_for(card_of(tmp_path), quick=True)
    source = scene.reference
    assert isinstance(source, Volume)
    shown = list(flips(source, quick=False))
    assert len(shown) == 7
    for one in [*shown, permuted(source, card_of(tmp_path))]:
        index_map = np.linalg.inv(affine_of(one.source)) @ source.affine_lps
        corner = np.rint(index_map @ [3, 5, 7, 1]).astype(int)[:3]
        assert one.source.array[tuple(corner)] == source.array[3, 5, 7]
        assert one.is_exact


def test_given_series_is_interpolated_as_a_drawn_one_is_drawn(tmp_path: Path) -> None:
    drawn = scene_for(card_of(tmp_path), quick=True)
    given = scene_of(drawn.reference)
    for make in (oblique, lambda scene: respaced(scene, card_of(tmp_path))):
        apart = np.abs(
            make(drawn).source.array.astype(float) - make(given).source.array.astype(float)
        )
        # Beyond the given grid nothing is known, and edges are softer by a voxel.
        assert np.median(apart) < 10
        assert (apart > 400).mean() < 0.02


def test_what_reaches_the_edge_of_a_given_series_is_not_cut_off() -> None:
    filled = np.full((14, 30, 24), 40, dtype=np.int16)
    filled[0, 0, 0] = -1000
    given = scene_of(volume(filled))
    turned = oblique(given).source.array
    index = np.stack(np.indices(filled.shape), axis=-1).reshape(-1, 3)
    index_map = np.linalg.inv(affine_of(given.reference)) @ affine_of(oblique(given).source)
    places = index @ index_map[:3, :3].T + index_map[:3, 3]
    inside = ((places > -0.45) & (places < np.array(filled.shape) - 0.55)).all(axis=1)
    values = turned.reshape(-1)
    assert (values[inside] == 40).mean() > 0.99
    assert (values[((places < -0.55) | (places > np.array(filled.shape) - 0.45)).any(axis=1)]
            == -1000).all()


def test_a_model_of_hands_is_shown_a_hand(tmp_path: Path) -> None:
    chest = scene_for(card_of(tmp_path, input=IMAGE), quick=True)
    hand = scene_for(card_of(tmp_path, input={**IMAGE, "body_part": ["HAND"]}), quick=True)
    assert "chest" in chest.what and "hand" in hand.what
    picture = hand.reference.array
    # Air beside the fingers, bones in the forearm, and the thumb on one side only.
    assert picture[:10, :60].max() < 0.1 < 0.6 < picture[-5:].max()
    assert picture[:, :60].sum() != pytest.approx(picture[:, -60:].sum(), rel=0.05)


def test_radiograph_is_the_same_picture_on_every_raster(tmp_path: Path) -> None:
    card = card_of(tmp_path, input=IMAGE)
    scene = scene_for(card, quick=True)
    other = respaced(scene, card).source
    assert isinstance(other, Image) and other.pixel_spacing_mm is not None
    size = np.array(other.array.shape) * np.array(other.pixel_spacing_mm)
    np.testing.assert_allclose(size, [380.0, 340.0])
    again = scene_of(radiograph_phantom((128, 112))).draw(shape_of(other), affine_of(other))
    assert np.abs(again.array - other.array).mean() < 0.02
