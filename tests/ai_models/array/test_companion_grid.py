"""One series on the grid of another: axis by axis it is the same as all at once."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ai_models.array.companion_grid import place, sampled, smoothed


def test_aligned_grids_are_sampled_as_any_others() -> None:
    random = np.random.default_rng(5)
    series = random.random((9, 11, 13), dtype=np.float32)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 3.0, -4.0, 2.5, 1.0
    affine[:3, 3] = [-10.0, 30.0, 5.0]
    grid = np.diag([1.5, 2.0, 1.7, 1.0])[:, [2, 1, 0, 3]]
    grid[:3, 3] = [-12.0, -15.0, 2.0]
    shape = (18, 24, 20)
    placement = place(series.shape, affine, shape, grid)
    coarse = smoothed(series, placement)
    values, inside = sampled(coarse, placement)
    to_own = np.linalg.inv(affine) @ grid
    expected = ndimage.affine_transform(
        series, to_own[:3, :3], offset=to_own[:3, 3], output_shape=shape, order=1, mode="nearest"
    )
    assert np.allclose(values, expected, atol=1e-5)
    assert 0.1 < inside.mean() < 1.0
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    at = index @ to_own[:3, :3].T + to_own[:3, 3]
    reach = np.array(series.shape) - 0.5
    assert np.array_equal(inside, ((at >= -0.5) & (at <= reach)).all(axis=-1))
