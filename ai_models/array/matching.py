"""Which finding of one examination is which of another, by their places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

Point = tuple[float, float, float]
_NEVER = 1e6


def match_places(
    present: Sequence[Point], earlier: Sequence[Point], farthest_mm: float
) -> dict[int, int]:
    """Pairs of places that are no farther apart than ``farthest_mm``.

    Each place is in one pair at most. There are as many pairs as can be, and of all ways to pair
    the one whose distances, mm, have the smallest sum.

    Returns
    -------
    dict
        Index of ``present`` to index of ``earlier``.
    """
    if not present or not earlier:
        return {}
    apart = np.linalg.norm(np.asarray(present)[:, None] - np.asarray(earlier)[None], axis=-1)
    rows, columns = linear_sum_assignment(np.where(apart <= farthest_mm, apart, _NEVER))
    return {
        int(row): int(column)
        for row, column in zip(rows, columns, strict=True)
        if apart[row, column] <= farthest_mm
    }
