"""Pictures for people: the mask over the images in three planes, as PNG.

They are not results and never leave the node by themselves; a picture says what it shows, which
side is which, and whether the model is only a demonstration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import mask_of, voxels_by_label
from ai_models.types import Label, LabelMap, Volume
from dicom_node.results.contours import border
from dicom_node.results.equipment import DEMONSTRATION
from dicom_node.results.report_numbers import ml_text

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Pixels = npt.NDArray[np.uint8]
Number = TypeVar("Number", bound=np.generic)
_OPACITY = 0.3
_LONG_SIDE = 640
_MARGIN = 20
_LINE = 18


@dataclass(frozen=True)
class _View:
    """A plane of the volume: the LPS axis it is cut across, and what its screen axes point to."""

    name: str
    across: int
    right: tuple[int, int]
    down: tuple[int, int]


_VIEWS = (
    _View("axial", across=2, right=(0, 1), down=(1, 1)),
    _View("coronal", across=1, right=(0, 1), down=(2, -1)),
    _View("sagittal", across=0, right=(1, 1), down=(2, -1)),
)
_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))


def write_overlays(
    volume: Volume,
    display: Pixels,
    label_map: LabelMap,
    labels: Sequence[Label],
    directory: Path,
    stem: str,
    *,
    demonstration: bool = True,
) -> list[Path]:
    """Write ``<stem>_axial.png``, ``_coronal.png`` and ``_sagittal.png``.

    The planes pass through the centre of gravity of the mask (of the volume when it is empty)
    and follow the axes of the array that lie nearest to the patient's; letters name the
    direction at each edge. Radiological view: the patient's right is on the left.

    Parameters
    ----------
    volume, display, label_map
        The same grid, ``(slices, rows, columns)``; a sheared grid is shown as it is stored.
        ``display`` is the volume in 8-bit grey.
    demonstration
        Whether the pictures carry the mark of a demonstration; they do unless it is ruled out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    occupied = np.argwhere(label_map) if label_map.any() else None
    shape = np.asarray(volume.array.shape)
    centre = (shape - 1) / 2 if occupied is None else occupied.mean(axis=0)
    axes = _array_axes(volume)
    paths = []
    for view in _VIEWS:
        picture = _picture(
            volume, display, label_map, labels, axes, view, np.rint(centre).astype(int)
        )
        path = directory / f"{stem}_{view.name}.png"
        _annotate(picture, view, volume, label_map, labels, demonstration).save(path)
        paths.append(path)
    return paths


def _array_axes(volume: Volume) -> list[tuple[int, int]]:
    """For each LPS axis, the array axis nearest to it and its sign; each is used once."""
    directions = volume.affine_lps[:3, :3] / np.asarray(volume.spacing_mm)
    free, axes = [0, 1, 2], []
    strength = np.abs(directions)
    for axis in range(3):
        best = max(free, key=lambda candidate: strength[axis, candidate])
        free.remove(best)
        axes.append((best, 1 if directions[axis, best] >= 0 else -1))
    return axes


def _picture(
    volume: Volume,
    display: Pixels,
    label_map: LabelMap,
    labels: Sequence[Label],
    axes: list[tuple[int, int]],
    view: _View,
    centre: npt.NDArray[np.int_],
) -> Picture:
    from PIL import Image

    cut = axes[view.across][0]
    grey = _plane(display, axes, view, int(centre[cut]))
    marks = _plane(label_map, axes, view, int(centre[cut]))
    across_mm = volume.spacing_mm[axes[view.right[0]][0]] * grey.shape[1]
    down_mm = volume.spacing_mm[axes[view.down[0]][0]] * grey.shape[0]
    scale = _LONG_SIDE / max(across_mm, down_mm)
    size = (max(1, round(across_mm * scale)), max(1, round(down_mm * scale)))
    smooth = Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.BILINEAR)
    return Image.fromarray(_coloured(np.asarray(smooth), _enlarged(marks, size), labels))


def _enlarged(marks: LabelMap, size: tuple[int, int]) -> LabelMap:
    """``marks`` in ``size`` (across, down) by nearest pixels, whatever its kind of number."""
    down, across = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(size[::-1], marks.shape, strict=True)
    )
    enlarged: LabelMap = marks[np.ix_(down, across)]
    return enlarged


def _plane(
    array: npt.NDArray[Number], axes: list[tuple[int, int]], view: _View, index: int
) -> npt.NDArray[Number]:
    """(down, right) plane of ``array``, both running the way the view shows them."""
    (right_axis, right_sign), (down_axis, down_sign) = axes[view.right[0]], axes[view.down[0]]
    plane: npt.NDArray[Number] = np.take(array, index, axis=axes[view.across][0])
    if down_axis > right_axis:
        plane = plane.T
    if down_sign * view.down[1] < 0:
        plane = plane[::-1]
    return plane[:, ::-1] if right_sign * view.right[1] < 0 else plane


def _coloured(grey: Pixels, marks: LabelMap, labels: Sequence[Label]) -> Pixels:
    colours = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for label in labels:
        inside = mask_of(marks, label.value)
        colour = np.asarray(label.color_rgb, np.float32)
        colours[inside] = (1 - _OPACITY) * colours[inside] + _OPACITY * colour
        colours[border(inside)] = colour
    result: Pixels = colours.astype(np.uint8)
    return result


def _annotate(
    picture: Picture,
    view: _View,
    volume: Volume,
    label_map: LabelMap,
    labels: Sequence[Label],
    demonstration: bool,
) -> Picture:
    """``picture`` on a black frame with direction letters above it and a legend below it."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=14)
    lines = _legend(volume, label_map, labels, demonstration)
    width = max(picture.width + 2 * _MARGIN, 420)
    height = picture.height + 2 * _MARGIN + _LINE * (len(lines) + 1)
    sheet = Image.new("RGB", (width, height))
    left = (width - picture.width) // 2
    sheet.paste(picture, (left, _MARGIN))
    draw = ImageDraw.Draw(sheet)
    _draw_letters(draw, font, view, (left, _MARGIN, picture.width, picture.height))
    top = picture.height + 2 * _MARGIN + _LINE // 2
    for number, (text, colour) in enumerate(lines):
        draw.text((_MARGIN, top + number * _LINE), text, fill=colour, font=font)
    return sheet


def _draw_letters(draw: Any, font: Any, view: _View, box: tuple[int, int, int, int]) -> None:
    left, top, width, height = box
    at_right, at_left = _ends(*view.right)
    at_bottom, at_top = _ends(*view.down)
    white = (255, 255, 255)
    middle, centre = top + height // 2, left + width // 2
    draw.text((left - 4, middle), at_left, fill=white, font=font, anchor="rm")
    draw.text((left + width + 4, middle), at_right, fill=white, font=font, anchor="lm")
    draw.text((centre, top - 3), at_top, fill=white, font=font, anchor="ms")
    draw.text((centre, top + height + 3), at_bottom, fill=white, font=font, anchor="mt")


def _ends(axis: int, sign: int) -> tuple[str, str]:
    """Letters at the end and at the start of a screen axis that runs along an LPS axis."""
    low, high = _LETTERS[axis]
    return (high, low) if sign > 0 else (low, high)


def _legend(
    volume: Volume, label_map: LabelMap, labels: Sequence[Label], demonstration: bool
) -> list[tuple[str, tuple[int, int, int]]]:
    counts = voxels_by_label(label_map)
    lines: list[tuple[str, tuple[int, int, int]]] = []
    for label in labels:
        volume_ml = int(counts[label.value]) * volume.voxel_volume_ml
        text = f"{label.name}: {ml_text(volume_ml)} ml" if volume_ml else f"{label.name}: not found"
        lines.append((text, label.color_rgb))
    if demonstration:
        lines.append((DEMONSTRATION, (255, 80, 80)))
    return lines
