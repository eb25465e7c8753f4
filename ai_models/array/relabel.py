"""Bringing label maps from one grid to another without making up a label.

Arrays are ``(slices, rows, columns)``; index maps are 4x4.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ai_models.types import Affine, LabelMap

Shape = tuple[int, int, int]


def nearest_labels(label_map: LabelMap, shape: Shape, index_map: Affine) -> LabelMap:
    """A label map on another grid of ``shape``: of every voxel the label of the nearest sample.

    ``index_map`` takes an index of the new grid to one of ``label_map``; where it leads outside
    there is background.
    """
    if np.count_nonzero(np.abs(index_map[:3, :3]) > 1e-9) > 3:
        moved = ndimage.affine_transform(
            label_map, index_map[:3, :3], offset=index_map[:3, 3], output_shape=shape, order=0,
            mode="constant", cval=0, prefilter=False,
        )
        return np.asarray(moved, dtype=label_map.dtype)
    # One axis leads to one axis: three look-ups instead of one for every voxel.
    order = [int(np.abs(index_map[axis, :3]).argmax()) for axis in range(3)]
    new, old = [], []
    for axis, new_axis in enumerate(order):
        at = np.arange(shape[new_axis]) * index_map[axis, new_axis] + index_map[axis, 3]
        # Half way between two samples, rounding must not hang on the last digit.
        near = np.floor(at + 0.5 - 1e-6).astype(int)
        inside = np.flatnonzero((near >= 0) & (near < label_map.shape[axis]))
        new.append(inside)
        old.append(near[inside])
    labels = np.zeros([shape[axis] for axis in order], dtype=label_map.dtype)
    labels[np.ix_(*new)] = label_map[np.ix_(*old)]
    return np.ascontiguousarray(labels.transpose(np.argsort(order)))
