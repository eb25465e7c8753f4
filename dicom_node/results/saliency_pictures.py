"""Pictures for people: where a classifier looked, as PNG.

Like those of `dicom_node.results.overlay` they are no results and never leave the node by
themselves. Of a volume the slice with the most of a map is shown, as it is stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ai_models.types import FloatArray
from dicom_node.results.drawing import draw_heat
from dicom_node.results.equipment import DEMONSTRATION

_LONG_SIDE, _MARGIN, _LINE, _NARROWEST = 640, 20, 18, 420
_WHITE, _RED = (255, 255, 255), (255, 80, 80)


def write_saliency(
    display: npt.NDArray[np.uint8], saliency: Mapping[str, FloatArray],
    scores: Mapping[str, float], directory: Path, stem: str, *, row_to_column: float = 1.0,
    method: str = "", demonstration: bool = True,
) -> list[Path]:
    """Write ``<stem>_<name>.png`` of every map in which something stands out.

    Parameters
    ----------
    display, saliency
        The images in 8-bit grey, ``(slices, rows, columns)``, and maps 0..1 on the same grid.
    row_to_column
        Height of a pixel in widths.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, found in saliency.items():
        if not found.any():
            continue
        number = int(np.argmax(found.sum(axis=(1, 2), dtype=np.float64)))
        words = f"{name.replace('_', ' ')}: {scores[name]:.2f}"
        if len(display) > 1:
            words += f", slice {number + 1} of {len(display)}"
        lines = [(words, _WHITE), *([(method.replace("_", " "), _WHITE)] if method else []),
                 *([(DEMONSTRATION, _RED)] if demonstration else [])]
        path = directory / f"{stem}_{re.sub(r'[^A-Za-z0-9-]+', '_', name)}.png"
        _write(draw_heat(display[number], found[number]), row_to_column, lines, path)
        paths.append(path)
    return paths


def _write(
    picture: npt.NDArray[np.uint8], row_to_column: float,
    lines: list[tuple[str, tuple[int, int, int]]], path: Path,
) -> None:
    from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape[0] * row_to_column, float(picture.shape[1])
    scale = _LONG_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shown = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
    sheet = Image.new("RGB", (
        max(shown.width + 2 * _MARGIN, _NARROWEST),
        shown.height + 2 * _MARGIN + _LINE * len(lines),
    ))
    sheet.paste(shown, ((sheet.width - shown.width) // 2, _MARGIN))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for number, (text, color) in enumerate(lines):
        top = shown.height + _MARGIN + _LINE // 2 + number * _LINE
        draw.text((_MARGIN, top), text, fill=color, font=font)
    sheet.save(path)
