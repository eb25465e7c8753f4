"""Changes of an example that a scanner or another patient would make: by MONAI's transforms.

The elastic deformation of `Rand3DElastic` has a random vector for every voxel, of a length up to
its *magnitude*, smoothed by a Gaussian of *sigma* voxels. Sigma alone says nothing: at sigma 10 a
magnitude of 10 to 20 moves nothing that could be seen, 100 to 200 bends an organ (Dice with itself
undeformed 0.88), and 500 to 1000 tears it (0.42). So both are settings, and stand in the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Pair = tuple[float, float]


def _rises(pair: Pair) -> Pair:
    if pair[0] > pair[1]:
        raise ValueError("the lower number first")
    return pair


# Numbers beyond these leave nothing of an image that could be recognised, or never end.
_Sigma = Annotated[
    tuple[Annotated[float, Field(gt=0, le=100)], Annotated[float, Field(gt=0, le=100)]],
    AfterValidator(_rises),
]
_Magnitude = Annotated[
    tuple[Annotated[float, Field(ge=0, le=10_000)], Annotated[float, Field(ge=0, le=10_000)]],
    AfterValidator(_rises),
]
_Gamma = Annotated[
    tuple[Annotated[float, Field(gt=0, le=10)], Annotated[float, Field(gt=0, le=10)]],
    AfterValidator(_rises),
]


class Augmentation(BaseModel):
    """Probabilities of 0 turn a change off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    elastic_probability: float = Field(0.3, ge=0, le=1)
    elastic_sigma: _Sigma = (10.0, 10.0)
    """Of the Gaussian, in voxels."""
    elastic_magnitude: _Magnitude = (100.0, 200.0)
    """Before smoothing, in voxels."""
    gamma_probability: float = Field(0.5, ge=0, le=1)
    gamma: _Gamma = (0.7, 1.4)
    """Exponent of the values between the lowest and the highest."""
    noise_probability: float = Field(0.2, ge=0, le=1)
    noise: float = Field(0.05, ge=0, le=1e6)
    """Standard deviation at most, in units of the network's input."""
    smooth_probability: float = Field(0.1, ge=0, le=1)
    smooth: _Sigma = (0.5, 1.0)
    """Sigma of a Gaussian filter, in voxels."""
    shift_probability: float = Field(0.2, ge=0, le=1)
    shift: float = Field(0.05, ge=0, le=1e6)
    """Added to all values, at most."""
    affine_probability: float = Field(0.3, ge=0, le=1)
    rotation_degrees: float = Field(10.0, ge=0, le=180)
    scale: float = Field(0.1, ge=0, lt=1)
    """Larger or smaller by this part at most."""
    flip: tuple[int, ...] = ()
    """Axes of the input (0 the first spatial one) along which half of the examples are mirrored.
    Never left and right where labels mean sides of the patient."""


NONE = Augmentation(
    elastic_probability=0, gamma_probability=0, noise_probability=0, smooth_probability=0,
    shift_probability=0, affine_probability=0,
)


class Augmenter:
    """Applies the changes; the same random numbers give the same example.

    Parameters
    ----------
    wanted
        What, and how much.
    axes
        2 or 3, of the example.
    pictures
        How many of the first channels are pictures; those behind them say what is known of the
        patient, and stay as they are.
    """

    def __init__(self, wanted: Augmentation, axes: int, pictures: int) -> None:
        self.pictures = pictures
        self.in_space = _composed(_spatial(wanted, axes))
        self.values = _composed(_intensities(wanted))

    def __call__(
        self, image: torch.Tensor, target: torch.Tensor | None, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Image ``(channels, *spatial)`` and, where there is one, its target of the same extent."""
        seeds = rng.integers(0, 2**31, 2)
        pictures, rest = image[: self.pictures], image[self.pictures :]
        if self.in_space is not None:
            self.in_space.set_random_state(seed=int(seeds[0]))
            some: dict[str, Any] = {"image": pictures}
            if target is not None:
                some["target"] = target[None].float()
            some = self.in_space(some)
            pictures = _plain(some["image"])
            if target is not None:
                target = _plain(some["target"])[0].round().to(target.dtype)
        if self.values is not None:
            self.values.set_random_state(seed=int(seeds[1]))
            # Channel by channel: the windows of a CT and a PET have scales of their own.
            pictures = torch.cat([
                _plain(self.values({"image": one[None]})["image"]) for one in pictures
            ])
        return torch.cat([pictures, rest]).contiguous(), target


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without the history that MONAI keeps with a tensor."""
    from monai.utils import convert_to_tensor

    plain: torch.Tensor = convert_to_tensor(tensor, track_meta=False)
    return plain


def _composed(steps: Sequence[Any]) -> Any:
    from monai.transforms import Compose

    return Compose(list(steps)) if steps else None


def _spatial(wanted: Augmentation, axes: int) -> list[Any]:
    from monai import transforms

    keys, modes = ("image", "target"), ("bilinear", "nearest")
    told: dict[str, Any] = {"keys": keys, "mode": modes, "padding_mode": "border",
                            "allow_missing_keys": True}
    steps: list[Any] = []
    if wanted.affine_probability:
        turn = float(np.deg2rad(wanted.rotation_degrees))
        steps.append(transforms.RandAffined(
            prob=wanted.affine_probability, rotate_range=[(-turn, turn)] * (1 if axes == 2 else 3),
            scale_range=[(-wanted.scale, wanted.scale)] * axes, **told,
        ))
    if wanted.elastic_probability and axes == 3:
        steps.append(transforms.Rand3DElasticd(
            sigma_range=wanted.elastic_sigma, magnitude_range=wanted.elastic_magnitude,
            prob=wanted.elastic_probability, **told,
        ))
    elif wanted.elastic_probability:
        # MONAI's 2-D deformation moves the nodes of a grid: as far apart as sigma reaches, by what
        # is left of the magnitude once that Gaussian has averaged it.
        sigma = wanted.elastic_sigma[1]
        moved = tuple(one / (2.0 * np.sqrt(np.pi) * sigma) for one in wanted.elastic_magnitude)
        steps.append(transforms.Rand2DElasticd(
            spacing=(2.0 * sigma, 2.0 * sigma), magnitude_range=moved,
            prob=wanted.elastic_probability, **told,
        ))
    steps += [
        transforms.RandFlipd(keys=keys, prob=0.5, spatial_axis=axis, allow_missing_keys=True)
        for axis in wanted.flip
    ]
    return steps


def _intensities(wanted: Augmentation) -> list[Any]:
    from monai import transforms

    steps: list[Any] = []
    if wanted.smooth_probability:
        steps.append(transforms.RandGaussianSmoothd(
            keys="image", prob=wanted.smooth_probability, sigma_x=wanted.smooth,
            sigma_y=wanted.smooth, sigma_z=wanted.smooth,
        ))
    if wanted.gamma_probability:
        steps.append(transforms.RandAdjustContrastd(
            keys="image", prob=wanted.gamma_probability, gamma=wanted.gamma,
        ))
    if wanted.shift_probability and wanted.shift:
        steps.append(transforms.RandShiftIntensityd(
            keys="image", prob=wanted.shift_probability, offsets=wanted.shift,
        ))
    if wanted.noise_probability and wanted.noise:
        steps.append(transforms.RandGaussianNoised(
            keys="image", prob=wanted.noise_probability, std=wanted.noise,
        ))
    return steps
