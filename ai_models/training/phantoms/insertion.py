"""Nodules put into the lungs of a CT, drawn or real, with the exact mask of what was put there.

    image = image + share of the nodule in the voxel * (its HU - image's), never darker

The rim is as blurred as the scanner makes it, and the nodule has the noise that the lung around it
has, so that a network cannot tell it by that. The CT given is not changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.training.phantoms.nodules import KINDS, Kind, Nodule, Point, draw_nodule
from ai_models.types import Affine

FloatArray = npt.NDArray[np.float32]
LabelMap = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
# A voxel is of the nodule from this share on.
HALF = 0.5
_TRIES = 1000


@dataclass(frozen=True)
class InsertedNodule:
    """What was put in, and what of it lies in the images.

    ``number`` is its value in the label map. ``volume_ml`` is that of the shares of all voxels,
    after the pleura has cut it; ``nodule.volume_ml`` is that of the whole shape.
    """

    number: int
    nodule: Nodule
    volume_ml: float
    voxels: int


@dataclass(frozen=True)
class Insertion:
    """A CT with nodules, ``(slices, rows, columns)``: HU, and the number of the nodule or 0."""

    hu: FloatArray
    label_map: LabelMap
    nodules: tuple[InsertedNodule, ...]


def insert(
    hu: npt.NDArray[np.generic], affine_lps: Affine, nodules: Sequence[Nodule], *,
    lungs: BoolArray | None = None, blur_mm: float = 0.0, noise_hu: float = 0.0,
    rng: np.random.Generator | None = None, samples: int = 3,
) -> Insertion:
    """Put ``nodules`` into a copy of ``hu``.

    Parameters
    ----------
    hu
        ``(slices, rows, columns)`` in HU, on the grid of ``affine_lps`` (index to mm in LPS).
    lungs
        Same shape: juxta-pleural nodules end at its border.
    blur_mm
        Standard deviation of the blur in the plane: of a real CT that of its kernel; 0 where the
        scanner comes after.
    noise_hu, rng
        Noise in the nodules, likewise.

    Raises
    ------
    ValueError
        More than 255 nodules; a juxta-pleural one without ``lungs``.
    """
    if len(nodules) > np.iinfo(np.uint8).max:
        raise ValueError(f"{len(nodules)} nodules: a label map has 255")
    image = np.array(hu, dtype=np.float32)
    labels = np.zeros(image.shape, dtype=np.uint8)
    shape = (image.shape[0], image.shape[1], image.shape[2])
    steps = np.linalg.norm(affine_lps[:3, :3], axis=0)
    voxel_ml = float(abs(np.linalg.det(affine_lps[:3, :3]))) / 1000.0
    inserted = []
    for number, nodule in enumerate(nodules, start=1):
        found = nodule.painted(affine_lps, shape, samples)
        if found is None:
            inserted.append(InsertedNodule(number, nodule, 0.0, 0))
            continue
        box, share, core = found
        if nodule.kind == "juxta_pleural":
            if lungs is None:
                raise ValueError("a juxta-pleural nodule needs to know where the lungs end")
            share, core = share * lungs[box], core * lungs[box]
        mask = share >= HALF
        labels[box][mask] = number
        _blend(image[box], share, core, nodule, blur_mm / steps, noise_hu, rng)
        inserted.append(
            InsertedNodule(number, nodule, float(share.sum()) * voxel_ml, int(mask.sum()))
        )
    return Insertion(image, labels, tuple(inserted))


def _blend(
    image: FloatArray, share: FloatArray, core: FloatArray, nodule: Nodule,
    blur_voxels: npt.NDArray[np.float64], noise_hu: float, rng: np.random.Generator | None,
) -> None:
    """Paint into ``image``, in place."""
    if blur_voxels.any():
        width = (0.0, float(blur_voxels[1]), float(blur_voxels[2]))
        share, core = (ndimage.gaussian_filter(one, width) for one in (share, core))
    wanted = np.full(image.shape, nodule.hu, dtype=np.float32)
    if 0.0 < nodule.solid_fraction < 1.0:
        inner = np.divide(core, share, out=np.zeros_like(core), where=share > 0.0)
        wanted += np.clip(inner, 0.0, 1.0) * (nodule.core_hu - nodule.hu)
    if noise_hu > 0.0 and rng is not None:
        grain = ndimage.gaussian_filter(rng.standard_normal(image.shape), (0.0, 0.6, 0.6))
        wanted += noise_hu * grain / max(float(grain.std()), 1e-6)
    image += share * np.maximum(wanted - image, 0.0)


def draw_nodules(
    rng: np.random.Generator, lungs: BoolArray, affine_lps: Affine, count: int, *,
    kinds: Sequence[Kind] = KINDS, diameters_mm: tuple[float, float] = (5.0, 22.0),
    hu: npt.NDArray[np.generic] | None = None, depth_mm: FloatArray | None = None,
) -> list[Nodule]:
    """Up to ``count`` nodules at random places of the lungs, none touching another.

    Small ones are more frequent, as in patients: the logarithm of the diameter is uniform. A
    juxta-pleural nodule has its centre less than its radius from the border of ``lungs``, the
    others keep off it. With ``hu`` no centre lies in a vessel. ``depth_mm`` is `depth_of` (lungs),
    where it is known already.
    """
    depth = depth_of(lungs, affine_lps) if depth_mm is None else depth_mm
    chosen: list[Nodule] = []
    for _ in range(count):
        kind = kinds[int(rng.integers(len(kinds)))]
        diameter = float(np.exp(rng.uniform(*np.log(diameters_mm))))
        for _ in range(_TRIES):
            centre = _place(rng, lungs, depth, affine_lps, kind, diameter / 2.0, hu)
            if centre is None:
                continue
            nodule = draw_nodule(rng, kind, diameter, centre)
            if all(_apart(nodule, other) for other in chosen):
                chosen.append(nodule)
                break
    return chosen


def depth_of(lungs: BoolArray, affine_lps: Affine) -> FloatArray:
    """How deep in the lungs each voxel lies, in mm; the end of the images is no border."""
    steps = np.linalg.norm(affine_lps[:3, :3], axis=0)
    padded = np.pad(lungs, 1, mode="edge")
    depth = ndimage.distance_transform_edt(padded, sampling=steps)[1:-1, 1:-1, 1:-1]
    return np.asarray(depth, dtype=np.float32)


def _place(
    rng: np.random.Generator, lungs: BoolArray, depth: FloatArray, affine_lps: Affine, kind: Kind,
    radius_mm: float, hu: npt.NDArray[np.generic] | None,
) -> Point | None:
    """One random voxel, if it suits; drawn in the whole box, which is quicker than from a list."""
    index = np.array([int(rng.integers(extent)) for extent in lungs.shape])
    s, r, c = (int(part) for part in index)
    if not lungs[s, r, c] or (hu is not None and hu[s, r, c] > -600.0):
        return None
    near, far = (0.2, 0.7) if kind == "juxta_pleural" else (1.3, np.inf)
    if not near * radius_mm <= depth[s, r, c] <= far * radius_mm:
        return None
    x, y, z = (affine_lps @ np.array([*index, 1.0]))[:3]
    return (float(x), float(y), float(z))


def _apart(one: Nodule, other: Nodule) -> bool:
    away = np.linalg.norm(np.subtract(one.centre_lps_mm, other.centre_lps_mm))
    return bool(away > one.reach_mm + other.reach_mm + 4.0)
