"""Dynamic series follow the curve of their lesion, phase by phase."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.training.phantoms.dynamic import (
    KINDS,
    MR_SCANNERS,
    Curve,
    DynamicVariation,
    MrScanner,
    dynamic_phantom,
    lesion_curve,
    random_dynamic,
)

SHAPE, SPACING = (20, 48, 84), (5.0, 4.0, 4.0)
QUIET = MrScanner("quiet", "Phantom Works", "Any", 1.5, SPACING, noise=0.5, bias=0.0)


def curve_of(kind: str, seed: int = 3) -> list[float]:
    variation = random_dynamic(np.random.default_rng(seed), kind)
    return lesion_curve(dynamic_phantom(seed, SHAPE, SPACING, variation, QUIET))


def test_contrast_medium_washes_out_of_one_lesion_and_not_of_the_others() -> None:
    washout, plateau, persistent = (
        curve_of(kind) for kind in ("wash-out", "plateau", "persistent")
    )
    assert max(washout) == max(washout[1:3]) and washout[-1] < 0.93 * max(washout)
    assert abs(plateau[-1] - plateau[2]) < 0.12 * plateau[2]
    assert persistent == sorted(persistent) and persistent[-1] > 1.3


def test_a_curve_is_the_formula_of_its_file() -> None:
    curve = Curve(1.5, 40.0, 0.001)
    assert curve.at(0.0) == curve.at(-5.0) == 0.0
    expected = 1.5 * (1 - np.exp(-100 / 40.0)) * np.exp(-0.1)
    assert curve.at(100.0) == pytest.approx(expected)


def test_without_a_lesion_the_mask_is_empty() -> None:
    phantom = dynamic_phantom(4, SHAPE, SPACING, DynamicVariation(kind="none"), QUIET)
    assert not phantom.lesion.any()
    assert phantom.phases.shape == (6, *SHAPE) and phantom.phases.dtype == np.int16


def test_a_scanner_changes_what_is_seen_and_not_where_the_lesion_is() -> None:
    seen = [dynamic_phantom(5, SHAPE, SPACING, scanner=one) for one in MR_SCANNERS[:2]]
    assert np.array_equal(seen[0].lesion, seen[1].lesion)
    assert not np.array_equal(seen[0].phases, seen[1].phases)


@pytest.mark.parametrize("kind", KINDS)
def test_phases_are_in_order_of_time_from_zero(kind: str) -> None:
    variation = random_dynamic(np.random.default_rng(0), kind)
    assert variation.times_s[0] == 0.0 and 5 <= len(variation.times_s) <= 8
    assert list(variation.times_s) == sorted(set(variation.times_s))


def test_an_unknown_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="fast"):
        dynamic_phantom(1, SHAPE, SPACING, DynamicVariation(kind="fast"))
