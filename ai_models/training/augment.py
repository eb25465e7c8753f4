"""Random crops of CT volumes for training: place, pose, field of view, thickness, intensity.

Left and right are never mirrored: the labels mean sides of the patient.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ai_models.training.lungs_data import HIGH_HU, LOW_HU

Crop = tuple[int, int, int]


def _pose(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Small rotation and anisotropic scale, axes (slice, row, column)."""
    angles = np.deg2rad(rng.normal(0.0, (4.0, 4.0, 7.0)))
    matrix = np.eye(3)
    for (a, b), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix @ np.diag(rng.uniform(0.85, 1.2) * rng.uniform(0.92, 1.08, 3))


def _centre(labels: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Centre of the crop as index: near the middle of the volume or about a lung voxel."""
    shape = np.array(labels.shape)
    if rng.random() < 0.6:
        lung = np.flatnonzero(labels)
        if lung.size:
            voxel = np.array(np.unravel_index(int(rng.choice(lung)), labels.shape))
            return np.asarray(0.4 * voxel + 0.6 * np.array([voxel[0], *(shape[1:] / 2)]))
    return np.asarray(rng.uniform(0.15, 0.85, 3) * (shape - 1))


def _warp(crop: Crop, rng: np.random.Generator) -> torch.Tensor:
    """Smooth random displacement in voxels, ``(*crop, 3)``: no two bodies are alike."""
    amplitude = float(rng.uniform(0.0, 5.0))
    nodes = torch.from_numpy(rng.normal(0.0, amplitude, (1, 3, 4, 5, 6)).astype(np.float32))
    field = functional.interpolate(nodes, crop, mode="trilinear", align_corners=True)[0]
    return field.permute(1, 2, 3, 0)


def _sampling_grid(
    shape: tuple[int, ...], centre: npt.NDArray[np.float64], crop: Crop, rng: np.random.Generator
) -> torch.Tensor:
    matrix = _pose(rng)
    index = torch.from_numpy(centre.astype(np.float32)) + _warp(crop, rng)
    for axis, extent in enumerate(crop):
        steps = torch.arange(extent, dtype=torch.float32) - (extent - 1) / 2.0
        steps = steps.reshape([-1 if a == axis else 1 for a in range(3)] + [1])
        index += steps * torch.from_numpy(matrix[:, axis].astype(np.float32))
    size = torch.tensor([max(n - 1, 1) for n in shape], dtype=torch.float32)
    return (2.0 * index / size - 1.0).flip(-1)[None]


def random_crop(
    volume_hu: npt.NDArray[np.int16],
    labels: npt.NDArray[np.uint8],
    crop: Crop,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image ``(1, *crop)`` in 0..1 and labels ``(1, *crop)`` of one random crop.

    ``volume_hu`` and ``labels`` are ``(slices, rows, columns)`` on the network's grid.
    """
    grid = _sampling_grid(volume_hu.shape, _centre(labels, rng), crop, rng)
    raised = torch.from_numpy(volume_hu.astype(np.float32) - LOW_HU)[None, None].clamp_min(0.0)
    image = functional.grid_sample(raised, grid, padding_mode="zeros", align_corners=True)[0]
    target = functional.grid_sample(
        torch.from_numpy(labels.astype(np.float32))[None, None],
        grid,
        mode="nearest",
        padding_mode="zeros",
        align_corners=True,
    )[0]
    image = _scanner(image, rng) / (HIGH_HU - LOW_HU)
    seen = torch.from_numpy(_field_of_view(crop, rng))[None]
    return image.clamp(0.0, 1.0) * seen, (target * seen).round()


def _scanner(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Thick slices, softer or sharper kernels, noise, and a shift of the scale."""
    if rng.random() < 0.3:
        width = int(rng.choice([3, 5]))
        image = functional.avg_pool3d(image[None], (width, 1, 1), 1, (width // 2, 0, 0))[0]
    kernel = rng.random()
    if kernel < 0.4:
        soft = functional.avg_pool3d(image[None], (1, 3, 3), 1, (0, 1, 1))[0]
        share = float(rng.uniform(0.0, 1.0)) if kernel < 0.25 else -float(rng.uniform(0.0, 0.8))
        image = image + share * (soft - image)
    image = image * float(rng.uniform(0.93, 1.07)) + float(rng.normal(0.0, 15.0))
    if rng.random() < 0.6:
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        image = image + float(rng.gamma(1.5, 18.0)) * torch.randn(image.shape, generator=generator)
    return image


def _field_of_view(crop: Crop, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """What of the crop was scanned: few slices or a narrow field leave the rest as padding."""
    seen = np.ones(crop, dtype=np.float32)
    draw = rng.random()
    if draw < 0.35:
        count = int(rng.integers(1, 6)) if draw < 0.12 else int(rng.integers(6, crop[0] + 1))
        start = int(rng.integers(0, crop[0] - count + 1))
        seen[:start] = 0.0
        seen[start + count :] = 0.0
    if rng.random() < 0.25:
        for axis in (1, 2):
            cut = int(rng.integers(0, int(0.3 * crop[axis])))
            edge = [slice(None)] * 3
            edge[axis] = slice(0, cut) if rng.random() < 0.5 else slice(crop[axis] - cut, None)
            if cut:
                seen[tuple(edge)] = 0.0
    return seen
