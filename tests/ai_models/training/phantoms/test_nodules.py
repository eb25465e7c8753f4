"""Nodules have the volume that was asked for, on whatever grid they are painted."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.training.phantoms.nodules import KINDS, Kind, Nodule, draw_nodule

CENTRE = (3.0, -4.0, 5.0)


def grid(spacing: tuple[float, float, float], turned: bool = False) -> np.ndarray:
    """Index to mm, 40 mm on every side of the centre; ``turned`` by 20 degrees about z."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1.0
    if turned:
        c, s = np.cos(0.35), np.sin(0.35)
        affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    shape = np.array([int(80 / step) for step in spacing])
    affine[:3, 3] = np.array(CENTRE) - affine[:3, :3] @ ((shape - 1) / 2.0)
    return affine


def painted_ml(nodule: Nodule, affine: np.ndarray) -> tuple[float, float]:
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    slices, rows, columns = (int(80 / step) for step in steps)
    found = nodule.painted(affine, (slices, rows, columns))
    assert found is not None
    _, share, core = found
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000.0
    return float(share.sum() * voxel_ml), float(core.sum() * voxel_ml)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("spacing", "turned"),
    [((1.0, 1.0, 1.0), False), ((2.5, 0.8, 0.8), False), ((1.5, 0.7, 0.9), True)],
)
def test_a_painted_nodule_has_the_volume_that_was_asked_for(
    kind: Kind, spacing: tuple[float, float, float], turned: bool
) -> None:
    nodule = draw_nodule(np.random.default_rng(4), kind, 14.0, CENTRE)
    whole, core = painted_ml(nodule, grid(spacing, turned))
    assert nodule.volume_ml == pytest.approx(np.pi * 14.0**3 / 6000.0)
    assert whole == pytest.approx(nodule.volume_ml, rel=0.02)
    assert core == pytest.approx(nodule.solid_fraction * nodule.volume_ml, rel=0.03, abs=1e-9)


def test_a_spiculated_nodule_is_less_round_than_a_solid_one() -> None:
    reach = {
        kind: draw_nodule(np.random.default_rng(1), kind, 14.0, CENTRE).reach_mm
        for kind in ("solid", "spiculated")
    }
    assert reach["spiculated"] > 1.2 * reach["solid"]


def test_a_nodule_beyond_the_images_is_not_painted() -> None:
    nodule = draw_nodule(np.random.default_rng(1), "solid", 8.0, (500.0, 0.0, 0.0))
    assert nodule.painted(grid((1.0, 1.0, 1.0)), (80, 80, 80)) is None
