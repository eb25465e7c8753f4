"""What is fitted to the edges of a network comes back to where it was."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.array.fitting import (
    Fitting,
    from_network_grid,
    plan_fitting,
    to_network_grid,
)

SHAPE = (20, 30, 45)
EDGES = (24, 24, 24)
OUTSIDE = np.array([1.0, 0.0], dtype=np.float32)


def coordinates(shape: tuple[int, ...], axis: int) -> np.ndarray:
    """An image whose value is its own index along one axis."""
    along = [1, 1, 1]
    along[axis] = shape[axis]
    return np.broadcast_to(
        np.arange(shape[axis], dtype=np.float32).reshape(along), shape
    ).astype(np.float32)


def expected(fitting: Fitting, axis: int) -> np.ndarray:
    index = np.stack([*np.indices(fitting.shape), np.ones(fitting.shape)])
    return np.einsum("i,i...->...", fitting.to_model[axis], index)


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_the_matrix_says_where_every_sample_comes_from(fit: str) -> None:
    fitting = plan_fitting(SHAPE, EDGES, fit)
    assert fitting.shape == EDGES
    for axis in range(3):
        fitted = to_network_grid(coordinates(SHAPE, axis), fitting, -7.0)
        inner = tuple(slice(side.start + 1, side.stop - 1) for side in fitting.content)
        assert np.allclose(fitted[inner], expected(fitting, axis)[inner], atol=1e-3)


def test_stretching_maps_the_outer_edges_onto_each_other() -> None:
    fitting = plan_fitting(SHAPE, (10, 60, 45), "stretch")
    low = fitting.to_model @ np.array([-0.5, -0.5, -0.5, 1.0])
    high = fitting.to_model @ np.array([9.5, 59.5, 44.5, 1.0])
    assert np.allclose(low[:3], -0.5)
    assert np.allclose(high[:3], np.array(SHAPE) - 0.5)


def test_padding_keeps_the_proportions_and_fills_the_rest_on_both_sides() -> None:
    fitting = plan_fitting((10, 20, 40), (20, 20, 20), "pad")
    assert [(side.start, side.stop) for side in fitting.content] == [(7, 12), (5, 15), (0, 20)]
    fitted = to_network_grid(np.ones((10, 20, 40), np.float32), fitting, -1.0)
    assert (fitted[fitting.content] == 1.0).all()
    assert (fitted == 1.0).sum() == 5 * 10 * 20
    assert fitted.min() == -1.0


def test_cropping_changes_no_sample() -> None:
    image = np.random.default_rng(0).normal(size=(9, 30, 12)).astype(np.float32)
    fitting = plan_fitting(image.shape, (13, 20, 12), "crop")
    fitted = to_network_grid(image, fitting, 5.0)
    assert np.array_equal(fitted[2:11], image[:, 5:25])
    assert (fitted[:2] == 5.0).all()
    assert (fitted[11:] == 5.0).all()


def test_an_edge_of_none_is_left_as_it_is() -> None:
    fitting = plan_fitting((7, 30, 60), (None, 20, 20), "pad")
    assert fitting.shape == (7, 20, 20)
    assert fitting.axes[0].is_shift
    assert fitting.content == (slice(0, 7), slice(5, 15), slice(0, 20))


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_a_ball_comes_back_to_where_it_was(fit: str) -> None:
    index = np.indices(SHAPE).astype(np.float32)
    centre = np.array([8.0, 17.0, 25.0]).reshape(3, 1, 1, 1)
    ball = np.clip((6 - np.sqrt(((index - centre) ** 2).sum(axis=0))) / 3, 0, 1)
    fitting = plan_fitting(SHAPE, EDGES, fit)
    fitted = to_network_grid(ball.astype(np.float32), fitting, 0.0)
    back = from_network_grid(np.stack([1 - fitted, fitted]), fitting, OUTSIDE)
    assert back.shape == (2, *SHAPE)
    found = np.array([(one * back[1]).sum() / back[1].sum() for one in index])
    assert np.abs(found - centre.ravel()).max() < 0.1


def test_what_was_cut_off_comes_back_as_outside() -> None:
    fitting = plan_fitting((4, 30, 4), (4, 10, 4), "crop")
    scores = np.stack([np.zeros(fitting.shape), np.ones(fitting.shape)]).astype(np.float32)
    back = from_network_grid(scores, fitting, OUTSIDE)
    assert (back[0, :, :10] == 1.0).all()
    assert (back[1, :, :10] == 0.0).all()
    assert (back[1, :, 10:20] == 1.0).all()
    assert (back[0, :, 20:] == 1.0).all()
