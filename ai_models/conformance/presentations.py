"""The same thing shown otherwise: turned round, with other axes, oblique, at another spacing."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ai_models.card import Card
from ai_models.conformance.scene import Scene, Shape, affine_of, fits, shape_of
from ai_models.conformance.scene_joint import changed
from ai_models.types import Affine, Image, ModelInput, Volume

OBLIQUE_DEGREES = 17.0
_STEPS = (1.4, 1.0, 0.8)
_AXES = ("slices", "rows", "columns")


@dataclass(frozen=True)
class Presentation:
    """``is_exact``: the same samples in another order, so that the answer must be the same."""

    name: str
    source: ModelInput
    is_exact: bool


def flips(source: ModelInput, *, quick: bool) -> Iterator[Presentation]:
    """Every set of axes turned round but the empty one; ``quick``: one axis at a time."""
    for count in range(1, 2 if quick else 4):
        for axes in itertools.combinations(range(3), count):
            name = "turned along " + " and ".join(_AXES[axis] for axis in axes)
            turned = changed(source, functools.partial(_turned, axes=axes))
            yield Presentation(name, turned, is_exact=True)


def _turned(volume: Volume, axes: tuple[int, ...]) -> Volume:
    affine = volume.affine_lps.copy()
    for axis in axes:
        affine[:3, 3] += affine[:3, axis] * (volume.array.shape[axis] - 1)
        affine[:3, axis] *= -1.0
    return Volume(np.ascontiguousarray(np.flip(volume.array, axes)), affine, volume.unit)


def permuted(source: ModelInput, card: Card) -> Presentation:
    """Other axes first, as far as the card allows slices along another direction."""
    shape, place = shape_of(source), affine_of(source)
    for order in ((1, 2, 0), (2, 0, 1), (0, 2, 1)):
        if fits(
            card, (shape[order[0]], shape[order[1]], shape[order[2]]), place[:, [*order, 3]]
        ):
            break
    name = "with " + ", ".join(_AXES[axis] for axis in order) + " as its axes"

    def reordered(volume: Volume) -> Volume:
        return Volume(
            np.ascontiguousarray(volume.array.transpose(order)),
            volume.affine_lps[:, [*order, 3]], volume.unit,
        )

    return Presentation(name, changed(source, reordered), is_exact=True)


def oblique(scene: Scene, degrees: float = OBLIQUE_DEGREES) -> Presentation:
    """On a grid that lies oblique in the patient, about the same middle.

    No axis of the grid is turned by more than ``degrees``.
    """
    affine, shape = affine_of(scene.reference), shape_of(scene.reference)
    turned = np.eye(4)
    turned[:3, :3] = _rotation(np.array([0.8, 0.6, 0.35]), degrees)
    return Presentation(
        f"oblique by {degrees:g} degrees",
        scene.draw(shape, _about_middle(turned @ affine, shape, affine, shape)), is_exact=False,
    )


def respaced(scene: Scene, card: Card) -> Presentation:
    """At a spacing of its own along each axis; slices only as far apart as the card allows."""
    affine, shape = affine_of(scene.reference), shape_of(scene.reference)
    is_flat = isinstance(scene.reference, Image)
    for along_slices in (1.0,) if is_flat else (_STEPS[0], 0.8):
        factors = np.array([along_slices, *_STEPS[1:]])
        new = affine @ np.diag([*factors, 1.0])
        edges = [max(1, int(edge / factor)) for edge, factor in zip(shape, factors, strict=True)]
        new_shape = (edges[0], edges[1], edges[2])
        if is_flat or fits(card, new_shape, new):
            break
    if is_flat:
        # The edges of the picture stay where they are.
        new = affine @ np.diag([1.0, *(
            old / edge for old, edge in zip(shape[1:], new_shape[1:], strict=True)), 1.0])
        new[1:3, 3] = np.diag(new)[1:3] / 2
    else:
        new = _about_middle(new, new_shape, affine, shape)
    steps = " x ".join(f"{step:.2f}" for step in np.linalg.norm(new[:3, :3], axis=0))
    return Presentation(f"at {steps} mm", scene.draw(new_shape, new), is_exact=False)


def _about_middle(new: Affine, new_shape: Shape, old: Affine, old_shape: Shape) -> Affine:
    middle = old[:3, :3] @ ((np.array(old_shape) - 1) / 2) + old[:3, 3]
    moved = new.copy()
    moved[:3, 3] = middle - new[:3, :3] @ ((np.array(new_shape) - 1) / 2)
    return moved


def _rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    turned: np.ndarray = (
        np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    )
    return turned
