"""A picture unlike what was learned from is far, and one shown otherwise is known for that."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ai_models.monitoring.likeness import (
    LEAST_PICTURES,
    learned_space,
    read_space,
    small_picture,
    write_space,
)
from ai_models.types import FloatArray, ModelError


def picture(seed: int, edge: int = 64) -> FloatArray:
    """Two bright parts of unlike size below each other, somewhat apart each time."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:edge, 0:edge] / edge
    place = rng.uniform(-0.03, 0.03, 4)
    large = np.hypot((down - 0.65 + place[0]) / 0.2, (across - 0.4 + place[1]) / 0.25)
    small = np.hypot((down - 0.2 + place[2]) / 0.1, (across - 0.7 + place[3]) / 0.12)
    large, small = np.exp(-(large**2)), np.exp(-(small**2))
    shown = 0.1 + 0.7 * large + 0.5 * small + 0.03 * rng.standard_normal((edge, edge))
    return np.asarray(shown, dtype=np.float32)


def learned_from(count: int = 120) -> np.ndarray:
    return np.stack([one for one in map(small_picture, map(picture, range(count)))
                     if one is not None])


def test_a_usual_picture_has_a_distance_of_about_one_and_noise_a_far_greater_one() -> None:
    space = learned_space(learned_from())
    usual = [space.distances(picture(1000 + seed)[None]).own for seed in range(20)]
    assert 0.6 < np.median(usual) < 1.6
    noise = np.random.default_rng(0).random((1, 64, 64), dtype=np.float32)
    assert space.distances(noise).own > 3 * max(usual)


def test_exposure_and_window_count_for_nothing() -> None:
    space = learned_space(learned_from())
    shown = picture(2000)
    first, second = (space.distances(one[None]).own for one in (shown, 0.2 + 0.5 * shown))
    assert first == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda one: 1.0 - one, "inverted"),
        (np.rot90, "turned"),
        (lambda one: one[::-1], "turned"),
        (lambda one: one[:, ::-1], "mirrored"),
    ],
)
def test_a_picture_shown_otherwise_is_nearer_when_shown_as_it_was(
    change: object, name: str
) -> None:
    space = learned_space(learned_from())
    assert callable(change)
    for seed in range(5):
        found = space.distances(np.ascontiguousarray(change(picture(3000 + seed)))[None])
        assert getattr(found, name) < 0.8 * found.own


def test_of_slices_the_median_counts_and_those_of_one_value_do_not() -> None:
    space = learned_space(learned_from())
    shown = picture(4000)
    stack = np.stack([np.zeros_like(shown), shown, np.zeros_like(shown)])
    assert space.distances(stack) == space.distances(shown[None])
    with pytest.raises(ModelError) as refused:
        space.distances(np.zeros((3, 64, 64), dtype=np.float32))
    assert refused.value.reason == "input.blank"


def test_a_space_is_read_as_it_was_written_and_nothing_else_is(tmp_path: Path) -> None:
    space = learned_space(learned_from())
    sha256 = write_space(tmp_path / "quality.npy", space)
    again = read_space(tmp_path / "quality.npy", sha256)
    shown = picture(5000)[None]
    assert again.distances(shown).own == pytest.approx(space.distances(shown).own, rel=1e-4)
    with pytest.raises(ModelError) as refused:
        read_space(tmp_path / "quality.npy", "0" * 64)
    assert refused.value.reason == "model.hash_mismatch"


def test_a_file_that_claims_terabytes_is_refused_as_one_that_is_no_array(tmp_path: Path) -> None:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 128), }"
    content = b"\x93NUMPY\x01\x00v\x00" + text.encode().ljust(117) + b"\n" + bytes(100)
    path = tmp_path / "quality.npy"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is no array"):
        read_space(path, hashlib.sha256(content).hexdigest())


def test_too_few_pictures_say_nothing_of_what_is_usual() -> None:
    with pytest.raises(ModelError, match="too few"):
        learned_space(learned_from(LEAST_PICTURES - 1))


@pytest.mark.parametrize("edge", [7, 28, 61, 300])
def test_a_picture_of_any_size_becomes_one_of_28_by_28(edge: int) -> None:
    small = small_picture(picture(1, edge))
    assert small is not None and small.shape == (28, 28)
    assert small.mean() == pytest.approx(0.0, abs=1e-9) and small.std() == pytest.approx(1.0)
