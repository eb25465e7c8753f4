"""The files between the node and a foreign program; docs/command-models.md is the contract.

Arrays in files have the axes of the card, ``(slices, rows, columns)``, an image one slice. NIfTI
says where they lie in RAS: x and y point the other way than in LPS (NIfTI-1, ``nifti1.h``).
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ai_models.backends.protocol import NetworkInput
from ai_models.card import Card, ClassificationCard, SegmentationCard, TextCard
from ai_models.types import Affine, FloatArray, LabelMap, ModelError

LARGEST_JSON_BYTES = 16 << 20
LARGEST_TEXT_BYTES = 256 << 10
# By how much a corner of the grid may lie elsewhere, in parts of the smallest spacing.
_DISPLACED_AT_MOST = 0.05
_NIFTI: Any = nibabel.Nifti1Image
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_input(folder: Path, image: NetworkInput, card: Card) -> None:
    """Write ``image-<channel>.nii.gz`` and ``input.json``."""
    affine = _LPS_TO_RAS @ _affine_lps(image)
    for number, channel in enumerate(image.array):
        picture = _NIFTI(channel.reshape(grid_of(image)), affine)
        picture.header.set_xyzt_units("mm")
        nibabel.save(picture, folder / f"image-{number}.nii.gz")
    (folder / "input.json").write_text(json.dumps(_description(image, card), indent=2))


def _description(image: NetworkInput, card: Card) -> dict[str, Any]:
    place = image.affine_lps
    told: dict[str, Any] = {
        "task": card.task,
        "kind": card.input.kind,
        "channels": card.input.channel_names(len(image.array)),
        "axes": list(card.input.axes),
        "spacing_mm": list(image.spacing_mm) or None,
        "affine_lps": None if place is None else place.tolist(),
        "background": image.background,
        "labels": [{"value": label.value, "name": label.name} for label in card.labels],
        "names": names_of(card),
    }
    if isinstance(card, TextCard):
        told |= {
            "prompt": card.output.prompt, "system_prompt": card.output.system_prompt,
            "max_tokens": card.output.max_tokens, "max_images": card.output.max_images,
            "language": card.output.language,
        }
    if isinstance(card, SegmentationCard):
        told |= {
            "overlapping": card.output.overlapping, "probabilities": card.output.probabilities,
        }
    return told


def names_of(card: Card) -> list[str]:
    """Names of the card's scores or quantities."""
    if isinstance(card, ClassificationCard):
        return [entry.name for entry in card.output.scores]
    return [entry.name for entry in getattr(card.output, "quantities", ())]


def grid_of(image: NetworkInput) -> tuple[int, int, int]:
    """``(slices, rows, columns)``; an image has one slice."""
    *slices, rows, columns = image.array.shape[1:]
    return (slices[0] if slices else 1, rows, columns)


def _affine_lps(image: NetworkInput) -> Affine:
    if image.affine_lps is not None:
        return image.affine_lps
    spacing_mm = (1.0, 1.0, 1.0, *image.spacing_mm)[-3:]
    return np.diag([*spacing_mm, 1.0])


def read_labels(path: Path, image: NetworkInput) -> LabelMap:
    """A label map ``(slices, rows, columns)`` uint8 on the very grid of the input.

    Raises
    ------
    ModelError
        ``model.no_output``, ``model.wrong_geometry``, ``model.unknown_label`` (no whole number
        from 0 to 255) or ``model.wrong_output``.
    """
    values = _read_grid(path, image)
    whole = np.rint(values)
    wrong = ~np.isfinite(values) | (whole != values) | (whole < 0) | (whole > 255)
    if wrong.any():
        raise ModelError(
            f"{path.name} holds {values[wrong][0]:g}: labels are whole numbers from 0 to 255",
            reason="model.unknown_label",
        )
    return np.asarray(values, dtype=np.uint8)


def read_probabilities(path: Path, image: NetworkInput) -> FloatArray:
    """Probabilities ``(slices, rows, columns)`` float32 on the very grid of the input.

    Raises
    ------
    ModelError
        As `read_labels`; ``model.not_finite``; ``model.wrong_output``: not within 0 and 1.
    """
    values = _read_grid(path, image)
    if not np.isfinite(values).all():
        raise ModelError(f"{path.name} holds NaN or infinity", reason="model.not_finite")
    if values.min() < -1e-3 or values.max() > 1 + 1e-3:
        raise ModelError(
            f"{path.name} holds {values.min():g} to {values.max():g}: probabilities are 0 to 1",
            reason="model.wrong_output",
        )
    return np.asarray(np.clip(values, 0, 1), dtype=np.float32)


def _read_grid(path: Path, image: NetworkInput) -> Any:
    """Plain numbers of a NIfTI file, after its shape and its place have been compared."""
    check_is_file(path)
    try:
        picture: Any = nibabel.load(path)
        shape, affine = tuple(picture.shape), np.asarray(picture.affine, dtype=np.float64)
        _compare_grid(path.name, shape, affine, image)
        values = np.asarray(picture.dataobj)
    except ModelError:
        raise
    except Exception as error:  # nibabel, gzip and zlib raise types without a common base
        raise ModelError(
            f"{path.name} cannot be read: {error}", reason="model.wrong_output"
        ) from error
    if values.dtype.kind not in "biuf":
        raise ModelError(
            f"{path.name} holds {values.dtype}: plain numbers expected", reason="model.wrong_output"
        )
    return values.reshape(grid_of(image))


def _compare_grid(name: str, shape: tuple[int, ...], affine: Affine, image: NetworkInput) -> None:
    grid = grid_of(image)
    if shape[:3] != grid or any(length != 1 for length in shape[3:]):
        raise ModelError(
            f"{name} has {list(shape)} voxels, the input {list(grid)}",
            reason="model.wrong_geometry",
        )
    expected = _LPS_TO_RAS @ _affine_lps(image)
    corners = np.array(
        [[i, j, k, 1] for i in (0, grid[0]) for j in (0, grid[1]) for k in (0, grid[2])]
    )
    displaced_mm = np.linalg.norm((corners @ (affine - expected).T)[:, :3], axis=1).max()
    allowed_mm = _DISPLACED_AT_MOST * np.linalg.norm(expected[:3, :3], axis=0).min()
    if not displaced_mm <= allowed_mm:
        raise ModelError(
            f"{name} lies up to {displaced_mm:.2f} mm away from the input",
            reason="model.wrong_geometry",
        )


def read_json(path: Path) -> Any:
    """A JSON document. ModelError ``model.no_output`` or ``model.wrong_output``."""
    try:
        # NaN and Infinity are no JSON, though Python reads them unless told.
        return json.loads(_read_text(path, LARGEST_JSON_BYTES), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} is no JSON: {error}", reason="model.wrong_output") from error


def read_text(path: Path) -> str:
    """Text in UTF-8. ModelError ``model.no_output`` or ``model.wrong_output``."""
    return _read_text(path, LARGEST_TEXT_BYTES)


def _read_text(path: Path, at_most_bytes: int) -> str:
    check_is_file(path)
    if path.stat().st_size > at_most_bytes:
        raise ModelError(
            f"{path.name} has more than {at_most_bytes} bytes", reason="model.wrong_output"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{path.name} is not UTF-8", reason="model.wrong_output") from error


def check_is_file(path: Path) -> None:
    """Refuse what is absent, and what is no plain file: a pipe would be waited for, without end."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError as error:
        raise ModelError(f"the program wrote no {path.name}", reason="model.no_output") from error
    if not stat.S_ISREG(kind):
        raise ModelError(f"{path.name} is no plain file", reason="model.no_output")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
