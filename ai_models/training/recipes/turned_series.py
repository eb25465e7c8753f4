"""Phantoms as they come from a scanner that lies oblique, or of a patient who does.

A series whose slices are oblique covers another part of the patient than a straight one, and its
corners show nothing once it is brought to the patient's axes. A network that has only seen straight
series takes such corners for something: what it learns from is turned at random.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ai_models.conformance.scene import scene_of
from ai_models.conformance.scene_joint import changed
from ai_models.types import Affine, Image, JointInput, ModelInput, Volume

Mask = npt.NDArray[np.uint8]
MOST_OBLIQUE_DEGREES, MOST_ASLANT_DEGREES = 25.0, 8.0


def turned(
    source: ModelInput, mask: Mask | None, rng: np.random.Generator
) -> tuple[ModelInput, Mask | None]:
    """The same patient, mostly on an oblique grid, and lying a little aslant.

    Parameters
    ----------
    mask
        ``(slices, rows, columns)`` on the grid of the source, and on that of what is returned.

    Raises
    ------
    TypeError
        An image: it has no directions in the patient.
    """
    if rng.random() < 0.8:
        source, mask = on_turned_grid(source, mask, _rotation(rng, MOST_OBLIQUE_DEGREES))
    return lying_turned(source, _rotation(rng, MOST_ASLANT_DEGREES)), mask


def on_turned_grid(
    source: ModelInput, mask: Mask | None, rotation: npt.NDArray[np.float64]
) -> tuple[ModelInput, Mask | None]:
    """On a grid of as many voxels, turned about the middle; companions keep theirs."""
    reference = _volume_of(source)
    slices, rows, columns = reference.array.shape
    shape = (slices, rows, columns)
    affine = _about_middle(reference, rotation) @ reference.affine_lps
    shown = scene_of(source).draw(shape, affine)
    if mask is not None:
        mask = on_grid_of(mask, reference.affine_lps, shape, affine)
    return shown, mask


def lying_turned(source: ModelInput, rotation: npt.NDArray[np.float64]) -> ModelInput:
    """The patient turned about the middle of the series, with all that is shown of it."""
    motion = _about_middle(_volume_of(source), rotation)

    def moved(volume: Volume) -> Volume:
        return replace(volume, affine_lps=motion @ volume.affine_lps)

    shown = changed(source, moved)
    if not isinstance(shown, JointInput):
        return shown
    return replace(shown, companions={
        role: None if one is None else moved(one) for role, one in shown.companions.items()
    })


def on_grid_of(
    mask: Mask, affine: Affine, shape: tuple[int, int, int], to_affine: Affine
) -> Mask:
    """A mask on another grid, each sample that of the nearest voxel; both affines to mm in LPS."""
    back = np.linalg.inv(affine) @ to_affine
    return np.asarray(ndimage.affine_transform(
        mask, back[:3, :3], back[:3, 3], shape, order=0, mode="constant"
    ))


def _rotation(rng: np.random.Generator, most_degrees: float) -> npt.NDArray[np.float64]:
    axis = rng.normal(0.0, 1.0, 3)
    angle = np.radians(rng.uniform(0.0, most_degrees))
    return np.asarray(Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix())


def _about_middle(volume: Volume, rotation: npt.NDArray[np.float64]) -> Affine:
    index = np.array([*((np.array(volume.array.shape) - 1) / 2), 1.0])
    middle = (volume.affine_lps @ index)[:3]
    motion: Affine = np.eye(4)
    motion[:3, :3] = rotation
    motion[:3, 3] = middle - rotation @ middle
    return motion


def _volume_of(source: ModelInput) -> Volume:
    if isinstance(source, Image):
        raise TypeError("an image has no directions in the patient")
    return source.reference if isinstance(source, JointInput) else source
