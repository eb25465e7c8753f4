"""Rows of features as points of a plane, for people to look at. No alarm is made of a picture."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from ai_models.monitoring.shift import standardised

Method = Literal["pca", "tsne"]
METHODS: tuple[Method, ...] = ("pca", "tsne")
_LEAST_OF_TSNE = 10


def on_a_plane(
    rows: npt.NDArray[np.float64], method: Method = "pca"
) -> npt.NDArray[np.float64]:
    """Points ``(inputs, 2)`` of rows ``(inputs, features)``; the same picture each time.

    ``pca`` takes the two directions in which the standardised features vary most. ``tsne`` (van
    der Maaten and Hinton, JMLR 9, 2008) shows groups more clearly and distances between them not
    at all; fewer rows than it can work with are shown by ``pca``.
    """
    values = standardised(np.asarray(rows, dtype=np.float64))
    if method == "tsne" and len(values) >= _LEAST_OF_TSNE:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(values) - 1) / 3)
        points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(values)
        return np.asarray(points, dtype=np.float64)
    _, lengths, directions = np.linalg.svd(values, full_matrices=False)
    kept = min(2, len(lengths))
    points = np.zeros((len(values), 2))
    # The sign of a direction is chance: its largest part is made positive.
    signs = np.sign(directions[np.arange(kept), np.abs(directions[:kept]).argmax(axis=1)])
    points[:, :kept] = (values @ directions[:kept].T) * np.where(signs == 0, 1.0, signs)
    return points
