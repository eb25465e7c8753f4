"""How fast a lesion grows between two examinations."""

from __future__ import annotations

import math


def volume_doubling_time_d(
    volume_ml: float, prior_volume_ml: float, interval_d: float
) -> float | None:
    """Days in which the volume doubles at the rate between two examinations.

    Exponential growth: ``interval_d * ln 2 / ln(volume_ml / prior_volume_ml)``. ``None`` when
    the volume did not grow, since then it has no doubling time.

    Raises
    ------
    ValueError
        A volume or the interval is not a positive finite number.
    """
    for name, value in (
        ("volume_ml", volume_ml), ("prior_volume_ml", prior_volume_ml), ("interval_d", interval_d),
    ):  # fmt: skip
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, found {value}")
    growth = math.log(volume_ml) - math.log(prior_volume_ml)
    return interval_d * math.log(2) / growth if growth > 0 else None
