"""A picture in another window, blurred or noisy is told from those that a model learned from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ai_models.monitoring.exposure import Exposure, chosen_ranges, exposure_of, told_limits
from tests.ai_models.monitoring.test_likeness import picture


def of(shown: np.ndarray) -> Exposure:
    found = exposure_of(np.asarray(shown, np.float32)[None])
    assert found is not None
    return found


def test_window_blur_and_noise_are_measured_apart_from_each_other() -> None:
    shown = picture(1)
    usual, flat = of(shown), of(0.5 + 0.25 * (shown - 0.5))
    assert flat.contrast == pytest.approx(0.25 * usual.contrast, rel=1e-3)
    assert flat.sharpness == pytest.approx(usual.sharpness, rel=1e-3)
    assert of(0.5 * shown).brightness == pytest.approx(0.5 * usual.brightness, rel=1e-3)
    assert of(ndimage.gaussian_filter(shown, 6)).sharpness < 0.7 * usual.sharpness
    noise = np.random.default_rng(0).normal(0, 1.0, shown.shape)
    assert of(shown + noise).sharpness > 2 * usual.sharpness


def test_ranges_hold_those_that_chose_them_and_are_wider_where_those_were_few() -> None:
    found = [of(picture(seed)) for seed in range(40)]
    few, many = chosen_ranges(found), chosen_ranges(found * 20)
    for name, (low, high) in few.items():
        assert all(low <= getattr(one, name) <= high for one in found)
        assert low <= many[name][0] < many[name][1] <= high
    assert few != many
    assert told_limits({"limit": 1.5, "contrast": (0.1, 0.25)}) == (
        "limit: 1.5, contrast: [0.1, 0.25]")


def test_slices_of_one_value_do_not_count_and_nothing_has_no_exposure() -> None:
    shown = picture(2)
    black = np.zeros_like(shown)
    assert exposure_of(np.stack([black, shown, black])) == of(shown)
    assert exposure_of(black[None]) is None
