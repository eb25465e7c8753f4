"""How bright, how rich in contrast and how sharp a picture is, as the network gets it.

`ai_models.monitoring.likeness` counts where edges run, and nothing of window and exposure: what it
knows again, a network may answer wrongly all the same. Chests of half the contrast were called
pneumonia, and of those with pneumonia a third was called normal at three times the contrast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ai_models.monitoring.likeness import SHARE, averaged, small_picture
from ai_models.types import FloatArray

_DECIMALS = 3
# Of the width of a range, over the number of pictures that choose it.
_WIDER = 10.0


@dataclass(frozen=True)
class Exposure:
    """Of a picture averaged to 28 x 28, in what the network gets (mostly 0 to 1).

    ``brightness`` is its mean, ``contrast`` its deviation. ``sharpness`` is the deviation of its
    second differences over ``contrast``: low where it is blurred or enlarged, high of noise.
    """

    brightness: float
    contrast: float
    sharpness: float


def exposure_of(pictures: FloatArray) -> Exposure | None:
    """Of ``(slices, rows, columns)`` the medians over the slices that show anything, if any."""
    shown = [_of(averaged(one)) for one in pictures if small_picture(one) is not None]
    if not shown:
        return None
    brightness, contrast, sharpness = np.median(np.array(shown), axis=0)
    return Exposure(float(brightness), float(contrast), float(sharpness))


def _of(small: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    around = small[:-2, 1:-1] + small[2:, 1:-1] + small[1:-1, :-2] + small[1:-1, 2:]
    deviation = float(small.std())
    return float(small.mean()), deviation, float((4 * small[1:-1, 1:-1] - around).std()) / deviation


def chosen_ranges(found: Sequence[Exposure]) -> dict[str, tuple[float, float]]:
    """Of each measure from what to what pictures of a model's own are: it refuses one in 200.

    The fewer there are, the less they show of how far it goes; the ranges are wider then.
    """
    beyond, step = (1 - SHARE) / 2, 10**_DECIMALS
    wider = min(0.5, _WIDER / max(1, len(found)))
    ranges = {}
    for one in fields(Exposure):
        values = np.array([getattr(each, one.name) for each in found])
        low = float(np.quantile(values, beyond, method="lower"))
        high = float(np.quantile(values, 1 - beyond, method="higher"))
        low, high = low - wider * (high - low), high + wider * (high - low)
        ranges[one.name] = (float(np.floor(low * step) / step), float(np.ceil(high * step) / step))
    return ranges


def told_limits(limits: Mapping[str, float | tuple[float, float]]) -> str:
    """As in the line ``likeness: {...}`` of a card."""
    return ", ".join(
        f"{name}: [{value[0]:g}, {value[1]:g}]" if isinstance(value, tuple)
        else f"{name}: {value:g}" for name, value in limits.items()
    )
