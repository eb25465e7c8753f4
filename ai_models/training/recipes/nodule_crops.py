"""Crops with nodules to train on: drawn chests and a real CT, nodules put in anew each time.

Chests lie ready on the network's grid (1.5 mm, axes to superior, posterior, left). An example is a
crop of one of them, with nodules put into it, seen by a scanner drawn for it; so no two are alike
and no chest is drawn twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from ai_models.array.lungs_reference import lungs_reference, to_canonical
from ai_models.array.resample import plan_regridding, to_model_grid
from ai_models.training.augmentation import Augmenter
from ai_models.training.loop import Example, generator_of
from ai_models.training.lungs_data import RealCT, read_ct
from ai_models.training.phantoms.chest import bare_chest, healthy_variation
from ai_models.training.phantoms.insertion import depth_of, draw_nodules, insert
from ai_models.training.phantoms.scanners import noise_of, random_scanner, seen_by
from ai_models.types import Affine

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Shape = tuple[int, int, int]

SPACING_MM = (1.5, 1.5, 1.5)
AXES = ("S", "P", "L")
LOW_HU, HIGH_HU = -1000.0, 400.0
KERNEL_BLUR_MM = 0.7
IGNORED = -1
# In a real CT: what may be a nodule already, by thickness, volume and roundness.
_THICKNESS_VOXELS = 2
_FINDING_ML = (0.03, 20.0)
_ROUNDNESS = 0.2


@dataclass(frozen=True)
class Background:
    """A chest to put nodules into, arrays ``(slices, rows, columns)`` on the network's grid.

    Attributes
    ----------
    hu
        int16; of a drawn chest without noise.
    lungs
        Where nodules may lie.
    unsure
        What may be a nodule already: nothing is learned there.
    is_real
        Whether a scanner has seen it.
    mistakes
        int64 ``(n, 3)``, voxels about which a network made up nodules: crops show these oftener.
    """

    hu: npt.NDArray[np.int16]
    lungs: BoolArray
    unsure: BoolArray
    is_real: bool
    mistakes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 3), np.int64))


def drawn_background(folder: Path, seed: int) -> Background:
    """A healthy drawn chest, kept in ``folder``."""
    path = folder / f"chest-{seed:05d}.npz"
    if not path.exists():
        variation = healthy_variation(np.random.default_rng((seed, 3)))
        hu, lobes, affine = bare_chest(seed, SPACING_MM, **variation)
        folder.mkdir(parents=True, exist_ok=True)
        stored_hu, _ = to_canonical(np.rint(hu).astype(np.int16), affine)
        inside, _ = to_canonical((lobes > 0).astype(np.uint8), affine)
        np.savez(path, hu=stored_hu, lungs=np.asarray(inside, dtype=np.bool_))
    with np.load(path, allow_pickle=False) as stored:
        hu, lungs = stored["hu"], stored["lungs"]
    return Background(hu, lungs, np.zeros(hu.shape, dtype=bool), False)


def real_background(root: Path, ct: RealCT) -> Background | None:
    """A real CT below ``root`` on the network's grid; None where it is absent."""
    found = read_ct(root, ct)
    if found is None:
        return None
    volume, affine = found
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    plan = plan_regridding(shape, affine, AXES, SPACING_MM)
    hu = np.rint(to_model_grid(volume, plan, lowest=-1024.0)).astype(np.int16)
    inside = (lungs_reference(volume, affine) > 0).astype(np.float32)
    lungs = to_model_grid(inside, plan, 0.0) >= 0.5
    return Background(hu, lungs, _findings(hu, lungs), True)


def _findings(hu: npt.NDArray[np.int16], lungs: BoolArray) -> BoolArray:
    """Round, thick dense parts in or at the lungs, with a margin: nobody has read this CT."""
    ball = ndimage.iterate_structure(ndimage.generate_binary_structure(3, 1), _THICKNESS_VOXELS)
    chest = ndimage.binary_closing(np.pad(lungs, 8), iterations=7)[8:-8, 8:-8, 8:-8]
    thick = ndimage.binary_opening((hu > -500) & chest, ball)
    parts, _ = ndimage.label(thick)
    unsure = np.zeros(hu.shape, dtype=bool)
    voxel_ml = float(np.prod(SPACING_MM)) / 1000.0
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        voxels = int((parts[place] == number).sum())
        longest = max(side.stop - side.start for side in place)
        is_round = voxels > _ROUNDNESS * np.pi / 6.0 * longest**3
        if _FINDING_ML[0] <= voxels * voxel_ml <= _FINDING_ML[1] and is_round:
            unsure[place] |= parts[place] == number
    return np.asarray(ndimage.binary_dilation(unsure, iterations=4))


def _grid(start: Sequence[int] = (0, 0, 0)) -> Affine:
    """Index to mm of the network's grid from voxel ``start`` on; where in the patient is all the
    same."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = SPACING_MM
    affine[:3, 3] = [step * at for step, at in zip(SPACING_MM, start, strict=True)][::-1]
    affine[3, 3] = 1.0
    return affine


@dataclass(frozen=True)
class NoduleCrops:
    """Examples by number: the same number, the same example.

    Attributes
    ----------
    drawn, real
        Chests to cut from; ``real_share`` of the examples is of the real ones.
    crop
        Edges in voxels.
    seed
        Of everything random.
    most
        Nodules in a crop at most.
    empty_share
        Examples without any nodule.
    erase_unsure
        What may be a nodule already becomes lung, for a loss that can ignore nothing.
    mistake_share
        Examples about one of the chest's mistakes, where it has any.
    coarse_share
        Examples as images farther apart than the network's grid show them.
    augmenter
        Further changes of every example.
    """

    drawn: Sequence[Background]
    real: Sequence[Background]
    crop: Shape
    seed: int
    real_share: float = 0.4
    most: int = 4
    empty_share: float = 0.15
    erase_unsure: bool = False
    mistake_share: float = 0.0
    coarse_share: float = 0.0
    augmenter: Augmenter | None = None

    def __call__(self, number: int) -> Example:
        """``image`` float32 ``(1, *crop)`` in 0..1, and ``target`` int64 ``(1, *crop)``: number of
        the nodule, 0, or `IGNORED`."""
        rng = generator_of(self.seed, number)
        from_real = bool(self.real) and rng.random() < self.real_share
        several = self.real if from_real else self.drawn
        hu, target = self._with_nodules(several[int(rng.integers(len(several)))], rng)
        # A nodule has no side.
        flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
        hu, target = np.flip(hu, flips), np.flip(target, flips)
        image = torch.from_numpy(scaled(hu).copy())[None]
        truth = torch.from_numpy(target.astype(np.int64))
        if self.augmenter is not None:
            image, changed = self.augmenter(image, truth, rng)
            truth = truth if changed is None else changed
        return {"image": image, "target": truth[None]}

    def _with_nodules(
        self, chest: Background, rng: np.random.Generator
    ) -> tuple[FloatArray, npt.NDArray[np.int16]]:
        about = None
        if self.mistake_share and len(chest.mistakes) and rng.random() < self.mistake_share:
            about = chest.mistakes[int(rng.integers(len(chest.mistakes)))]
        place = _place(chest, self.crop, rng, about)
        hu = _cut(chest.hu, place, self.crop, -1000).astype(np.float32)
        lungs = _cut(chest.lungs, place, self.crop, 0).astype(np.bool_)
        unsure = _cut(chest.unsure, place, self.crop, 0).astype(np.bool_)
        if self.erase_unsure and unsure.any():
            lung_hu = rng.normal(-860.0, 25.0, self.crop).astype(np.float32)
            hu, unsure = np.where(unsure, np.minimum(hu, lung_hu), hu), np.zeros_like(unsure)
        free = lungs & ~unsure
        count = 0 if rng.random() < self.empty_share else int(rng.integers(1, self.most + 1))
        nodules = draw_nodules(
            rng, free, _grid(), count, diameters_mm=(4.0, 24.0), hu=hu,
            depth_mm=depth_of(lungs, _grid()),
        )
        scanner = random_scanner(rng, SPACING_MM)
        if chest.is_real:
            noise = float(rng.uniform(10.0, 40.0))
            put = insert(hu, _grid(), nodules, lungs=lungs, blur_mm=KERNEL_BLUR_MM,
                         noise_hu=noise, rng=rng)
            more = float(rng.random() < 0.5)
            seen = put.hu + more * 0.5 * noise_of(scanner, hu.shape, SPACING_MM, rng)
        else:
            put = insert(hu, _grid(), nodules, lungs=lungs)
            seen = seen_by(scanner, put.hu, SPACING_MM, rng)
        if self.coarse_share and rng.random() < self.coarse_share:
            seen = seen_coarsely(np.asarray(seen, dtype=np.float32), rng)
        target = put.label_map.astype(np.int16)
        target[unsure & (target == 0)] = IGNORED
        return np.asarray(seen, dtype=np.float32), target


def scaled(hu: npt.NDArray[np.generic]) -> FloatArray:
    """HU as the network sees them: -1000 becomes 0 and 400 becomes 1, both clipped."""
    values = (np.asarray(hu, dtype=np.float32) - LOW_HU) / (HIGH_HU - LOW_HU)
    return np.asarray(np.clip(values, 0.0, 1.0), dtype=np.float32)


def _place(
    chest: Background, crop: Shape, rng: np.random.Generator,
    about: npt.NDArray[np.int64] | None = None,
) -> tuple[int, ...]:
    """First voxel of a crop ``about`` a voxel, or mostly about one of the lungs; it may reach over
    the edge."""
    shape = np.array(chest.hu.shape)
    if about is not None:
        return _start(about, shape, crop, rng)
    centre = rng.integers(0, shape)
    if rng.random() < 0.85:
        for _ in range(200):
            if chest.lungs[tuple(centre)]:
                break
            centre = rng.integers(0, shape)
    return _start(centre, shape, crop, rng)


def _start(
    centre: npt.NDArray[np.int64], shape: npt.NDArray[np.int64], crop: Shape,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    edges = np.array(crop)
    start = centre - edges // 2 + rng.integers(-edges // 4, edges // 4 + 1)
    return tuple(int(part) for part in np.clip(start, -8, np.maximum(shape - edges + 8, -8)))


def seen_coarsely(hu: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The crop from slices 1.7 to 3 mm apart, one time in four from such rows and columns too.

    Back to the grid it goes as the node would bring it there: linearly.
    """
    every = rng.random() < 0.25
    for axis in range(3) if every else (0,):
        length = hu.shape[axis]
        step = float(rng.uniform(1.7, 3.0)) / SPACING_MM[axis]
        at = np.arange(float(rng.uniform(0.0, step)), length - 1.0, step)
        for position in (at, np.interp(np.arange(length), at, np.arange(len(at)))):
            low = np.minimum(position.astype(int), hu.shape[axis] - 2)
            shape = [1, 1, 1]
            shape[axis] = len(low)
            share = (position - low).astype(np.float32).reshape(shape)
            first, second = np.take(hu, low, axis), np.take(hu, low + 1, axis)
            hu = np.asarray(first + share * (second - first), dtype=np.float32)
    return hu


def _cut(
    array: npt.NDArray[np.generic], start: tuple[int, ...], crop: Shape, outside: int
) -> npt.NDArray[np.generic]:
    """The crop from ``start`` on; what lies beyond the images is ``outside``."""
    result = np.full(crop, outside, dtype=array.dtype)
    inner, outer = [], []
    for first, edge, length in zip(start, crop, array.shape, strict=True):
        low, high = max(first, 0), min(first + edge, length)
        outer.append(slice(low, high))
        inner.append(slice(low - first, high - first))
    result[tuple(inner)] = array[tuple(outer)]
    return result
