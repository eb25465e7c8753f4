"""What a candidate is made with: cases with their truth, or inputs alone for new statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ai_models.card import Card
from ai_models.training.cases import (
    Case,
    DicomReader,
    Series,
    find_cases,
    nifti_folders,
    table_cases,
)
from ai_models.training.prepared import CaseStore
from ai_models.types import FloatArray, ModelError


def cases_with_truth(folder: Path, card: Card, reader: DicomReader | None) -> list[Case]:
    """As `ai_models.training.cases.find_cases`, in an order of their own names."""
    return sorted(find_cases(folder, card, reader), key=lambda one: one.name)


def inputs_alone(folder: Path, card: Card, reader: DicomReader | None) -> list[Case]:
    """Everything below a folder that the card could take, whether or not a truth is known.

    Raises
    ------
    ModelError
        ``model.cannot_adapt``: there is nothing.
    """
    cases: list[Case] = []
    table = folder if folder.suffix == ".csv" else folder / "cases.csv"
    images = next((one for one in (folder / "images", folder / "imagesTr") if one.is_dir()), folder)
    if table.is_file():
        cases = table_cases(table, card, reader)
    elif nifti_folders(folder) is not None or any(images.glob("*.nii*")):
        cases = [
            Case(path.name.partition(".nii")[0], path.name, {"": (path,)})
            for path in images.glob("*.nii*")
        ]
    elif reader is not None and folder.is_dir():
        found = reader.series(folder)
        cases = [
            Case(one.uid, one.patient, _images_of(one, found, card), (), {}, one.attributes)
            for one in found if one.modality in card.modality
        ]
    if not cases:
        raise ModelError(f"{folder} holds no input of {card.id}", reason="model.cannot_adapt")
    return sorted(cases, key=lambda one: one.name)


def _images_of(
    series: Series, found: Sequence[Series], card: Card
) -> dict[str, tuple[Path, ...]]:
    """Files by role: with the companions of the same study and frame of reference."""
    place = (series.study, series.frame_of_reference)
    beside = [one for one in found if one.uid != series.uid
              and (one.study, one.frame_of_reference) == place]
    images = {"": series.paths}
    for companion in card.input.companions:
        first = next((one for one in beside if one.modality in companion.modality), None)
        if first is not None:
            images[companion.role] = first.paths
    return images


def window_of(card: Card) -> tuple[int, ...] | None:
    """Edges of the pieces that the network is given; ``None``: whole inputs."""
    if card.input.size is not None:
        return tuple(card.input.size.edges)
    if card.runtime.roi is None:
        return None
    roi = tuple(card.runtime.roi)
    return roi[-2:] if card.input.ndim == 2 else roi


def windows(
    cases: Sequence[Case], store: CaseStore, card: Card, at_once: int
) -> Iterator[torch.Tensor]:
    """Batches ``(windows, channels, *spatial)`` that cover every case once.

    Windows of one single value (air, padding) say nothing and are left out.
    """
    window = window_of(card)
    waiting: list[FloatArray] = []
    for case in cases:
        kept = store.kept(case)
        whole = np.asarray(kept.image)
        is_sliced = card.input.ndim == 2 and whole.ndim == 4
        for piece in np.moveaxis(whole, 1, 0) if is_sliced else (whole,):
            for one in _cut(piece, window, kept.background):
                if one.min() == one.max():
                    continue
                if waiting and waiting[0].shape != one.shape:
                    yield torch.from_numpy(np.stack(waiting))
                    waiting = []
                waiting.append(one)
                if len(waiting) == at_once:
                    yield torch.from_numpy(np.stack(waiting))
                    waiting = []
    if waiting:
        yield torch.from_numpy(np.stack(waiting))


def _cut(
    image: FloatArray, window: tuple[int, ...] | None, background: float
) -> Iterator[FloatArray]:
    if window is None or image.shape[1:] == window:
        yield np.ascontiguousarray(image)
        return
    starts = [range(0, max(1, edge), size) for edge, size in zip(
        image.shape[1:], window, strict=True)]
    for corner in np.ndindex(*(len(one) for one in starts)):
        inside = tuple(
            slice(axis[at], axis[at] + size)
            for axis, at, size in zip(starts, corner, window, strict=True)
        )
        part = image[(slice(None), *inside)]
        missing = [(0, size - edge) for size, edge in zip(window, part.shape[1:], strict=True)]
        yield np.pad(part, [(0, 0), *missing], constant_values=background)
