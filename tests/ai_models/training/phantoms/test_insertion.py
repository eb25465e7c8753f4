"""What is put into lungs stands exactly where its mask says, and the rest of the CT stays."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.training.phantoms.insertion import depth_of, draw_nodules, insert
from ai_models.training.phantoms.nodules import KINDS, draw_nodule

SHAPE = (50, 60, 70)
AFFINE = np.zeros((4, 4))
AFFINE[2, 0], AFFINE[1, 1], AFFINE[0, 2], AFFINE[3, 3] = 1.5, 1.0, 1.0, 1.0


def lungs() -> np.ndarray:
    inside = np.zeros(SHAPE, dtype=bool)
    inside[3:-3, 5:-5, 5:-5] = True
    return inside


def chest() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0.0, 20.0, SHAPE)
    return (np.where(lungs(), -860.0, 40.0) + noise).astype(np.float32)


def test_nodules_lie_in_the_lungs_apart_from_each_other_and_are_seen_where_the_mask_is() -> None:
    rng = np.random.default_rng(2)
    nodules = draw_nodules(rng, lungs(), AFFINE, 8, kinds=("solid",), diameters_mm=(6.0, 12.0))
    before = chest()
    put = insert(before, AFFINE, nodules, lungs=lungs())
    assert len(nodules) >= 5
    for one in put.nodules:
        here = put.label_map == one.number
        assert lungs()[here].all()
        assert put.hu[here].mean() > -300.0
        assert here.sum() * 1.5e-3 == pytest.approx(one.nodule.volume_ml, rel=0.12)
    far = before == put.hu
    assert far[put.label_map == 0].mean() > 0.97
    np.testing.assert_array_equal(before, chest())


def test_a_juxta_pleural_nodule_ends_at_the_pleura() -> None:
    nodule = draw_nodule(np.random.default_rng(3), "juxta_pleural", 14.0, (9.0, 30.0, 37.0))
    put = insert(chest(), AFFINE, [nodule], lungs=lungs())
    (one,) = put.nodules
    assert not put.label_map[~lungs()].any()
    assert 0.5 * nodule.volume_ml < one.volume_ml < 0.98 * nodule.volume_ml
    with pytest.raises(ValueError, match="where the lungs end"):
        insert(chest(), AFFINE, [nodule])


def test_a_part_solid_nodule_has_a_dense_core_in_a_haze() -> None:
    nodule = draw_nodule(np.random.default_rng(3), "part_solid", 20.0, (35.0, 30.0, 37.0))
    put = insert(np.full(SHAPE, -860.0), AFFINE, [nodule], lungs=lungs())
    values = put.hu[put.label_map == 1]
    dense = (values > -250.0).mean()
    assert dense == pytest.approx(nodule.solid_fraction, abs=0.08)
    assert np.median(values[values < -400.0]) == pytest.approx(nodule.hu, abs=5.0)


def test_every_kind_finds_a_place_and_none_lies_in_a_vessel() -> None:
    hu = chest()
    hu[:, 28:32, :] = 100.0
    nodules = draw_nodules(
        np.random.default_rng(5), lungs(), AFFINE, 12, diameters_mm=(4.0, 8.0), hu=hu,
        depth_mm=depth_of(lungs(), AFFINE),
    )
    assert {one.kind for one in nodules} <= set(KINDS)
    assert len(nodules) >= 8
    assert not any(28 <= round(one.centre_lps_mm[1]) < 32 for one in nodules)


def test_more_nodules_than_a_label_map_has_numbers_are_refused() -> None:
    nodule = draw_nodule(np.random.default_rng(3), "solid", 5.0, (35.0, 30.0, 37.0))
    with pytest.raises(ValueError, match="256 nodules"):
        insert(np.zeros((2, 2, 2)), AFFINE, [nodule] * 256)
