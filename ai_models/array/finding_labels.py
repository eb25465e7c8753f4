"""Labels of single findings: one of a class of things becomes one with a number."""

from __future__ import annotations

import colorsys
from dataclasses import replace

from ai_models.types import Label

_GOLDEN_ANGLE = 0.381966
_LONGEST_CLASS_NAME = 60


def numbered_label(kind: Label, value: int, number: int) -> Label:
    """The label ``value`` of the ``number``-th (from 1) thing of a class: "Nodule 2".

    The first has the colour of its class, the others colours further round the circle.
    """
    return replace(
        kind, value=value, name=f"{kind.name[:_LONGEST_CLASS_NAME]} {number}",
        color_rgb=_turned(kind.color_rgb, number - 1),
    )


def _turned(color_rgb: tuple[int, int, int], steps: int) -> tuple[int, int, int]:
    """A colour of the same brightness further round the circle; the first is the class's own."""
    if not steps:
        return color_rgb
    hue, saturation, brightness = colorsys.rgb_to_hsv(*(part / 255 for part in color_rgb))
    turned = colorsys.hsv_to_rgb(
        (hue + steps * _GOLDEN_ANGLE) % 1, max(saturation, 0.6), max(brightness, 0.6)
    )
    red, green, blue = (round(255 * part) for part in turned)
    return red, green, blue
