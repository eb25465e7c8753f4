"""The inputs of all scanners as points of a plane, drawn as a PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from ai_models.monitoring.plane import Method, on_a_plane
from ai_models.monitoring.scanners import REFERENCE, Look

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_WIDTH, _HEIGHT, _LEGEND, _MARGIN = 900, 640, 300, 40
# Told apart with any kind of colour vision (Okabe and Ito, 2008), and by their shape as well.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHAPES = ("circle", "square", "triangle", "diamond", "cross")
_REFERENCE_COLOR = "#9A9A9A"
_MOST_NAMED = 20
_LONGEST_NAME = 38
_WORDS = {"pca": "principal components", "tsne": "t-SNE"}


def picture(look: Look, title: str, method: Method = "pca") -> bytes:
    """A PNG of `_WIDTH` x `_HEIGHT`: a point for each input, a colour and shape for each scanner.

    Axes have no unit and are not numbered: only what lies together and what apart is to be read.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=14)
    draw.text((_MARGIN, 12), f"{title}, {_WORDS[method]}", fill="black", font=font)
    right = _WIDTH - _LEGEND
    draw.rectangle((_MARGIN, _MARGIN, right, _HEIGHT - _MARGIN), outline="#404040")
    places = _places(look, method)
    names = [REFERENCE, *(one.scanner for one in look.scanners)]
    styles = {name: _style(number) for number, name in enumerate(names)}
    for (x, y), name in zip(places, look.groups, strict=True):
        _mark(draw, float(x), float(y), *styles[name])
    alarms = {one.scanner for one in look.scanners if one.shift and one.shift.is_alarm}
    for number, name in enumerate(names[:_MOST_NAMED]):
        y = _MARGIN + 12 + number * 26
        _mark(draw, right + 18, y, *styles[name])
        # Make and kernel stand at the ends.
        text = name if len(name) <= _LONGEST_NAME else f"{name[:17]}...{name[-18:]}"
        draw.text(
            (right + 32, y - 9), f"{text} (!)" if name in alarms else text, fill="black",
            font=ImageFont.load_default(size=12),
        )
    if len(names) > _MOST_NAMED:
        y = _MARGIN + 3 + _MOST_NAMED * 26
        draw.text((right + 32, y), f"and {len(names) - _MOST_NAMED} more", fill="black", font=font)
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _places(look: Look, method: Method) -> list[tuple[float, float]]:
    if not len(look.rows):
        return []
    points = on_a_plane(look.rows, method)
    low, high = points.min(axis=0), points.max(axis=0)
    unit = (points - low) / np.where(high > low, high - low, 1.0)
    left, top = _MARGIN + 14, _MARGIN + 14
    wide, tall = _WIDTH - _LEGEND - 14 - left, _HEIGHT - _MARGIN - 14 - top
    return [(left + float(x) * wide, top + (1 - float(y)) * tall) for x, y in unit]


def _style(number: int) -> tuple[str, str]:
    if number == 0:
        return "circle", _REFERENCE_COLOR
    return _SHAPES[number % len(_SHAPES)], _COLORS[(number - 1) % len(_COLORS)]


def _mark(draw: ImageDraw, x: float, y: float, shape: str, color: str) -> None:
    size = 4.0
    if shape == "circle":
        draw.ellipse((x - size, y - size, x + size, y + size), fill=color)
    elif shape == "square":
        draw.rectangle((x - size, y - size, x + size, y + size), fill=color)
    elif shape == "triangle":
        draw.polygon([(x, y - size), (x - size, y + size), (x + size, y + size)], fill=color)
    elif shape == "diamond":
        draw.polygon([(x, y - size), (x + size, y), (x, y + size), (x - size, y)], fill=color)
    else:
        draw.line((x - size, y - size, x + size, y + size), fill=color, width=2)
        draw.line((x - size, y + size, x + size, y - size), fill=color, width=2)
