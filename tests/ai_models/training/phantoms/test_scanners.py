"""Scanners see the same patient differently, and each as its numbers say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ai_models.training.phantoms.scanners import SCANNERS, Scanner, random_scanner, seen_by

SPACING = (1.5, 1.0, 1.0)
EVEN = np.full((20, 60, 60), -850.0, dtype=np.float32)


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda one: one.name)
def test_lung_has_the_noise_and_the_error_of_the_scanner(scanner: Scanner) -> None:
    seen = seen_by(scanner, EVEN, SPACING, np.random.default_rng(0))
    assert seen.std() == pytest.approx(scanner.noise_hu, rel=0.01)
    expected = scanner.scale * 150.0 - 1000.0 + scanner.bias_hu
    assert seen.mean() == pytest.approx(expected, abs=2.0)


def test_a_sharp_kernel_shows_more_of_a_thin_vessel_than_a_soft_one() -> None:
    vessel = EVEN.copy()
    vessel[:, 30, 30] = 40.0
    quiet = [replace(one, noise_hu=0.0) for one in SCANNERS[:2]]
    soft, sharp = (seen_by(one, vessel, SPACING, np.random.default_rng(0)) for one in quiet)
    assert sharp[10, 30, 30] > soft[10, 30, 30] + 50.0


def test_a_thick_slice_shows_a_small_thing_in_more_slices() -> None:
    point = EVEN.copy()
    point[10] = 40.0
    thin, thick = (replace(SCANNERS[0], noise_hu=0.0, slice_thickness_mm=mm) for mm in (1.0, 5.0))
    raised = [
        int((seen_by(one, point, SPACING, np.random.default_rng(0))[:, 30, 30] > -750).sum())
        for one in (thin, thick)
    ]
    assert raised[1] > raised[0]


def test_scanners_for_training_are_all_different_and_none_leaves_the_range() -> None:
    rng = np.random.default_rng(0)
    several = [random_scanner(rng, SPACING) for _ in range(20)]
    assert len({one.noise_hu for one in several}) == 20
    for one in several:
        seen = seen_by(one, np.full((4, 8, 8), 3050.0, np.float32), SPACING, rng)
        assert seen.min() >= -1024.0
        assert seen.max() <= 3071.0
