"""What is shown to a model: something drawn that fits its card, or a series that was given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ai_models.array.phantom import chest_phantom
from ai_models.array.phantom_head import CENTRE_MM, HALF_AXES_MM, head_phantom
from ai_models.array.phantom_radiograph import hand_phantom, radiograph_phantom
from ai_models.card import Card
from ai_models.conformance.scene_joint import changed, emptied, in_phases, joint_of, told_of
from ai_models.types import Affine, Image, JointInput, ModelInput, Volume

Shape = tuple[int, int, int]
_CHEST = ("CHEST", "THORAX", "LUNG", "HEART", "CHESTABDOMEN", "CHESTABDPELVIS")
_HAND = ("HAND", "WRIST", "FINGER", "THUMB")
_SEED = 20
_MARGIN_MM = 8.0
# The head is not in the middle of what is shown: an answer that is turned round is elsewhere.
_OFF_MIDDLE_MM = np.array([4.0, -5.0, 5.0])
_SMALL_HEAD = 0.45
_FINEST_MM, _COARSEST_MM = {False: 1.0, True: 1.6}, 4.0
AIR_HU = -1000


@dataclass(frozen=True)
class Scene:
    """One thing, and how it is seen on any grid.

    Attributes
    ----------
    what
        In words, for people.
    reference
        As it is shown first.
    draw
        The same on a grid of a shape (slices, rows, columns) and an affine to LPS; of an image,
        which has no place in the patient, on a raster of one slice.
    """

    what: str
    reference: ModelInput
    draw: Callable[[Shape, Affine], ModelInput]

    def empty(self) -> ModelInput:
        """The reference grid with nothing but air."""
        source = self.reference
        if isinstance(source, Image):
            return replace(source, array=np.zeros_like(source.array))
        return emptied(source, _of_air) if isinstance(source, JointInput) else _of_air(source)


def affine_of(source: ModelInput) -> Affine:
    """Index to mm; of an image (slice, row, column) to mm from the edge of its first pixel."""
    if not isinstance(source, Image):
        return source.affine_lps
    row, column = source.pixel_spacing_mm or (1.0, 1.0)
    affine: Affine = np.diag([1.0, row, column, 1.0])
    affine[:3, 3] = [0.0, row / 2, column / 2]
    return affine


def shape_of(source: ModelInput) -> Shape:
    """(slices, rows, columns): an image has one slice."""
    shape = source.array.shape
    return (1, shape[0], shape[1]) if isinstance(source, Image) else (shape[0], shape[1], shape[2])


def scene_for(card: Card, *, quick: bool) -> Scene:
    """Something drawn that the card allows; ``quick``: small."""
    if card.input.kind == "image":
        return _radiograph(card, quick)
    is_chest = any(part.upper() in _CHEST for part in card.input.body_part)
    is_hu = card.input.intensity.unit == "HU"
    scene = _chest(card, quick) if is_hu and is_chest else _head(card, quick)
    return _joint(scene, card) if card.input.is_joint else scene


def scene_of(source: ModelInput) -> Scene:
    """An input that was given; other grids are interpolated from it."""
    size = " x ".join(str(edge) for edge in source.array.shape)
    return Scene(f"the given series of {size}", source, _interpolating(source))


def _joint(scene: Scene, card: Card) -> Scene:
    """The same thing with everything that the card takes beside it."""
    entry, source = card.input, scene.reference
    if not isinstance(source, Volume):
        return scene

    def drawn(shape: Shape, affine: Affine) -> Volume:
        volume = scene.draw(shape, affine)
        if not isinstance(volume, Volume):
            raise TypeError("a volume is drawn on its grid")
        return volume

    joint = joint_of(source, entry, drawn)

    def draw(shape: Shape, affine: Affine) -> ModelInput:
        return changed(joint, _drawn_again(joint, drawn(shape, affine)))

    beside = ", ".join([
        *([f"{len(joint.phases)} phases"] if joint.phases else []), *joint.companions,
        *joint.clinical,
    ])
    return Scene(f"{scene.what} with {beside}", joint, draw)


def _drawn_again(joint: JointInput, volume: Volume) -> Callable[[Volume], Volume]:
    """What each volume of the series becomes on another grid: that of its own phase."""
    phases = in_phases(volume, len(joint.phases)) or (volume,)
    of = dict(zip(map(id, joint.phases), phases, strict=False))
    return lambda one: of.get(id(one), volume)


def _of_air(volume: Volume) -> Volume:
    value = AIR_HU if volume.unit == "HU" else 0
    return Volume(
        np.full(volume.array.shape, value, dtype=np.int16), volume.affine_lps, volume.unit
    )


def fits(card: Card, shape: Shape, affine: Affine) -> bool:
    """Whether the card allows a volume of this grid."""
    entry = card.input
    gap_mm = float(np.linalg.norm(affine[:3, 0]))
    return (
        shape[0] >= entry.min_slices
        and (entry.max_slices is None or shape[0] <= entry.max_slices)
        and (entry.max_slice_gap_mm is None or gap_mm <= entry.max_slice_gap_mm)
    )


def _radiograph(card: Card, quick: bool) -> Scene:
    told = told_of(card.input)
    is_hand = any(part.upper() in _HAND for part in card.input.body_part)
    draw = hand_phantom if is_hand else radiograph_phantom

    def drawn(shape: tuple[int, int]) -> Image:
        return replace(draw(shape), clinical=told)

    reference = drawn((128, 112) if quick else (760, 680))
    size = " x ".join(str(edge) for edge in reference.array.shape)
    return Scene(
        f"a generated radiograph of a {'hand' if is_hand else 'chest'}, {size}", reference,
        lambda shape, affine: drawn((shape[1], shape[2])),
    )


def _chest(card: Card, quick: bool) -> Scene:
    step, shape = ((5.0, 3.0, 3.0), (60, 112, 128)) if quick else ((3.0, 1.5, 1.5), (104, 200, 256))
    slices, gap_mm = _slices(card, shape[0] * step[0], step[0])
    phantom = chest_phantom(
        _SEED, (slices, shape[1], shape[2]), (gap_mm, step[1], step[2]),
        noise_hu=4.0, table=False, padding_hu=None,
    )
    reference = Volume(phantom.volume_hu, phantom.affine_lps)
    size = " x ".join(str(edge) for edge in reference.array.shape)
    return Scene(f"a generated chest of {size}", reference, _interpolating(reference))


def _head(card: Card, quick: bool) -> Scene:
    unit, size = card.input.intensity.unit, _SMALL_HEAD if quick else 1.0
    steps = card.input.spacing_mm
    step = float(np.median(steps)) if steps else 2.0
    step = min(max(step, _FINEST_MM[quick]), _COARSEST_MM)
    left, back, up = 2 * (HALF_AXES_MM * size + _MARGIN_MM)
    slices, gap_mm = _slices(card, up, 1.25 * step)
    shape = (slices, math.ceil(back / step), math.ceil(left / step))
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = gap_mm, step, step, 1.0
    affine[:3, 3] = CENTRE_MM + _OFF_MIDDLE_MM - affine[:3, :3] @ ((np.array(shape) - 1) / 2)

    def draw(shape: Shape, affine: Affine) -> ModelInput:
        return head_phantom(shape, affine, unit, size)

    what = f"a generated head of {' x '.join(str(edge) for edge in shape)}"
    return Scene(what, head_phantom(shape, affine, unit, size), draw)


def _slices(card: Card, extent_mm: float, gap_mm: float) -> tuple[int, float]:
    """How many slices, and how far apart, so that the card allows them."""
    entry = card.input
    if entry.max_slice_gap_mm is not None:
        gap_mm = min(gap_mm, entry.max_slice_gap_mm)
    count = math.ceil(extent_mm / gap_mm)
    if count < entry.min_slices:
        count, gap_mm = entry.min_slices, extent_mm / entry.min_slices
    return min(count, entry.max_slices or count), gap_mm


def _interpolating(source: ModelInput) -> Callable[[Shape, Affine], ModelInput]:
    """Linear interpolation; the lowest value further outside than half a voxel."""

    def draw(shape: Shape, affine: Affine) -> ModelInput:
        if isinstance(source, Image):
            spacing = None if source.pixel_spacing_mm is None else (affine[1, 1], affine[2, 2])
            values = _interpolated(source.array[None], affine_of(source), shape, affine)
            return replace(
                source, array=np.clip(values[0], 0.0, 1.0), pixel_spacing_mm=spacing
            )
        return changed(source, lambda volume: _on(volume, shape, affine))

    return draw


def _on(volume: Volume, shape: Shape, affine: Affine) -> Volume:
    values = _interpolated(volume.array, volume.affine_lps, shape, affine)
    if volume.array.dtype.kind in "iu":
        values = np.rint(values).astype(volume.array.dtype)
    return Volume(values, affine, volume.unit)


def _interpolated(
    array: np.ndarray, place: Affine, shape: Shape, affine: Affine
) -> np.ndarray:
    index_map = np.linalg.inv(place) @ affine
    matrix, offset = index_map[:3, :3], index_map[:3, 3]
    values: np.ndarray = ndimage.affine_transform(
        array.astype(np.float32), matrix, offset=offset, output_shape=shape, order=1,
        mode="nearest",
    )
    inside = ndimage.affine_transform(
        np.ones(array.shape, dtype=np.uint8), matrix, offset=offset, output_shape=shape,
        order=0, mode="grid-constant", cval=0,
    )
    values[inside == 0] = float(array.min())
    return values
