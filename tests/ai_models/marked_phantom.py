"""Eight soft balls in the patient, drawn on any grid, and where they are found again."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

from ai_models.types import Affine, Volume

# Eight corners of a box, each pulled in by another amount: no turn or mirror maps it to itself.
CORNERS_MM = np.array([
    corner * np.array([38.0, 34.0, 42.0]) - np.sign(corner) * np.array(pull)
    for corner, pull in zip(
        (np.array(c) for c in itertools.product((-1.0, 1.0), repeat=3)),
        [(0, 0, 0), (9, 0, 0), (0, 7, 0), (0, 0, 11), (12, 5, 0), (0, 12, 5), (6, 0, 14),
         (8, 8, 8)],
        strict=True,
    )
])
BALL_MM = 7.0
CENTRE_MM = np.array([11.0, -140.0, 820.0])


def phantom(directions: np.ndarray, spacing_mm: tuple[float, float, float]) -> Volume:
    """Soft balls at the corners, drawn on any grid: columns of ``directions`` are its axes."""
    matrix = directions * np.array(spacing_mm)
    reach = 62.0
    lengths = [max(8, int(np.ceil(2 * reach / step))) for step in spacing_mm]
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = CENTRE_MM - matrix @ ((np.array(lengths) - 1) / 2)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in lengths), indexing="ij"), axis=-1)
    points = (index @ matrix.T + affine[:3, 3]).astype(np.float32)
    nearest = np.min([
        np.einsum("...i,...i", points - corner, points - corner)
        for corner in (CORNERS_MM + CENTRE_MM).astype(np.float32)
    ], axis=0)
    array = 1000.0 - 2000.0 * np.clip((np.sqrt(nearest) - BALL_MM) / 6 + 0.5, 0, 1)
    return Volume(array.astype(np.int16), affine)


def found_markers_mm(label_map: np.ndarray, affine: Affine) -> np.ndarray:
    parts, count = ndimage.label(label_map, structure=np.ones((3, 3, 3)))
    centres = np.array(ndimage.center_of_mass(label_map > 0, parts, range(1, count + 1)))
    return centres.reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]


SIGNED_PERMUTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]


def rotation(axis: int, degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turned[[first, first, second, second], [first, second, first, second]] = (
        cosine, -sine, sine, cosine)
    return turned


AXIAL = np.eye(3)[:, [2, 1, 0]]
