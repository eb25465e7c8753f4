"""Whether two sets of inputs look alike to a model: maximum mean discrepancy and silhouette.

Maximum mean discrepancy: Gretton et al., "A kernel two-sample test", JMLR 13, 2012, the unbiased
estimate of its square with a Gaussian kernel whose width is the median distance, and the threshold
from permutations of the pooled rows. Silhouette: Rousseeuw, J. Comput. Appl. Math. 20, 1987. The
first says that two sets differ, however little, the second how far apart they are; the alarm asks
for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_models.types import ModelError

LEAST_ROWS = 5
PERMUTATIONS = 500
MOST_ROWS = 500
"""Of each set: the newest rows say how it is now."""
_Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """How two sets of rows of features differ.

    Attributes
    ----------
    mmd
        Square of the maximum mean discrepancy, unbiased: about 0 for like sets.
    threshold
        What that exceeds by chance in one of ``1 / level`` permutations.
    p_value
        Part of the permutations (and the sets themselves) that give as much or more.
    silhouette
        Mean over all rows, -1 to 1: 0 where the sets lie within each other.
    is_alarm
        Beyond ``threshold``, and the silhouette not below what was asked.
    """

    mmd: float
    threshold: float
    p_value: float
    silhouette: float
    reference_rows: int
    rows: int
    is_alarm: bool


def shift_between(
    reference: _Rows, rows: _Rows, *, level: float = 0.01, least_silhouette: float = 0.1,
    seed: int = 0,
) -> Shift:
    """Compare ``(inputs, features)`` of a reference with those of a scanner; the same each time.

    Raises
    ------
    ModelError
        ``model.monitor``: fewer than `LEAST_ROWS` rows, other features, or none that is finite.
    """
    first, second = _checked(reference), _checked(rows)
    if first.shape[1] != second.shape[1]:
        raise ModelError(
            f"{second.shape[1]} features beside a reference of {first.shape[1]}",
            reason="model.monitor",
        )
    pooled = standardised(np.concatenate([first, second]))
    squared = _squared_distances(pooled)
    count = len(first)
    kernel = _kernel(squared)
    is_first = np.zeros(len(pooled), dtype=bool)
    is_first[:count] = True
    mmd = _mmd(kernel, is_first)
    random = np.random.default_rng(seed)
    by_chance = np.array([_mmd(kernel, random.permutation(is_first)) for _ in range(PERMUTATIONS)])
    threshold = float(np.quantile(by_chance, 1 - level))
    p_value = float((1 + (by_chance >= mmd).sum()) / (1 + PERMUTATIONS))
    silhouette = _silhouette(np.sqrt(squared), is_first)
    return Shift(
        mmd, threshold, p_value, silhouette, count, len(second),
        mmd > threshold and silhouette >= least_silhouette,
    )


def standardised(rows: _Rows) -> _Rows:
    """Each feature with mean 0 and deviation 1; one that does not vary is 0."""
    spread = rows.std(axis=0)
    varies = spread > 1e-9 * np.maximum(1.0, np.abs(rows).max(axis=0))
    answer = np.zeros_like(rows)
    answer[:, varies] = (rows[:, varies] - rows[:, varies].mean(axis=0)) / spread[varies]
    return answer


def _checked(rows: _Rows) -> _Rows:
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or len(values) < LEAST_ROWS or not values.shape[1]:
        raise ModelError(
            f"features of shape {values.shape}: {LEAST_ROWS} inputs at least",
            reason="model.monitor",
        )
    if not np.isfinite(values).all():
        raise ModelError("features that are not finite", reason="model.monitor")
    return values[-MOST_ROWS:]


def _squared_distances(rows: _Rows) -> _Rows:
    squares = (rows**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * rows @ rows.T
    answer: _Rows = np.maximum(distances, 0.0)
    np.fill_diagonal(answer, 0.0)
    return answer


def _kernel(squared: _Rows) -> _Rows:
    apart = squared[np.triu_indices(len(squared), 1)]
    width = float(np.median(apart))
    if width <= 0:
        width = float(apart.mean()) or 1.0
    kernel: _Rows = np.exp(-squared / width)
    # The unbiased estimate leaves out each row beside itself.
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _mmd(kernel: _Rows, is_first: npt.NDArray[np.bool_]) -> float:
    first = is_first.astype(np.float64)
    second = 1.0 - first
    m, n = first.sum(), second.sum()
    to_first, to_second = kernel @ first, kernel @ second
    return float(
        first @ to_first / (m * (m - 1)) + second @ to_second / (n * (n - 1))
        - 2 * second @ to_first / (m * n)
    )


def _silhouette(distances: _Rows, is_first: npt.NDArray[np.bool_]) -> float:
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(distances, is_first, metric="precomputed"))
