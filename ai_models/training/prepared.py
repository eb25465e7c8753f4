"""Cases as the network takes them: prepared once by the very code that the node uses, and kept.

What is kept lies in a folder of the run, one for each case, and is read in place: examples are
crops of it. It holds the images of patients, and is removed when the run has ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.fitting import to_network_grid
from ai_models.array.labels import is_overlapping, mask_of, overlapping
from ai_models.array.relabel import nearest_labels
from ai_models.array.resample import to_model_grid
from ai_models.card import Card, DetectionCard, SegmentationCard
from ai_models.prediction.cropping import Cropper
from ai_models.prediction.preparing import Prepared, prepare
from ai_models.training.cases import Case, DicomReader
from ai_models.training.nifti_files import (
    is_nifti,
    is_png,
    read_labels,
    read_png,
    read_volume,
)
from ai_models.training.segmentation_objects import labels_of
from ai_models.training.settings import TrainingError
from ai_models.types import (
    Code,
    FloatArray,
    Image,
    JointInput,
    Label,
    LabelMap,
    ModelError,
    ModelInput,
    Volume,
)

# Of each label, so that a crop can be laid about one without a search of the whole volume.
_MOST_PLACES = 20_000
_SAME_GRID_MM = 1e-2


@dataclass(frozen=True)
class KeptCase:
    """A case on the network's grid.

    Attributes
    ----------
    image
        ``(channels, *spatial)`` float32.
    target
        ``(*spatial)``: labels of a segmentation; of a detection the number of each thing, from 1.
        ``None`` where no voxel has a truth.
    places
        Index ``(n, axes)`` of voxels of each label, at most so many.
    classes
        Of a detection: the label value of thing ``k`` at ``k - 1``.
    background
        Of the image outside.
    voxels
        Of a detection: how many thing ``k`` has, at ``k``.
    """

    image: FloatArray
    target: npt.NDArray[Any] | None
    places: dict[int, npt.NDArray[np.int32]]
    classes: npt.NDArray[np.int64]
    background: float
    voxels: npt.NDArray[np.int64]


class Cases(Protocol):
    """Cases by their digest."""

    def kept(self, case: Case) -> KeptCase:
        """On the network's grid."""


def read_input(case: Case, card: Card, reader: DicomReader | None) -> ModelInput:
    """What the predictor is given of a case.

    Raises
    ------
    TrainingError
        It cannot be read, or is not what the card takes.
    """
    first = case.images[""]
    known = {one.name: case.values.get(one.name) for one in card.input.clinical}
    if not is_nifti(first[0]) and not is_png(first[0]):
        if reader is None:
            raise TrainingError(f"{case.name}: DICOM is read by the node: dicom-node train")
        source = reader.load(case.images, card.input)
        if isinstance(source, JointInput) and any(one is not None for one in known.values()):
            told = {**source.clinical, **{k: v for k, v in known.items() if v is not None}}
            return JointInput(source.reference, source.phases, source.times_s, source.companions,
                              told)
        if isinstance(source, Image):
            stated = {name: one for name, one in known.items() if one is not None}
            return replace(source, clinical={**known, **source.clinical, **stated})
        return source
    if is_png(first[0]):
        return replace(read_png(first[0]), clinical=known)
    volume = read_volume(first[0], card.input.intensity.unit)
    if not card.input.is_joint:
        return volume
    companions = {
        one.role: read_volume(case.images[one.role][0], one.intensity.unit)
        if one.role in case.images else None
        for one in card.input.companions
    }
    phases = ()
    if card.input.phases != 1:
        raise TrainingError("phases are read from DICOM: NIfTI does not say when they were taken")
    return JointInput(volume, phases, (), companions, known)


def read_truth(case: Case, card: Card, source: ModelInput) -> LabelMap | None:
    """Labels on the grid of the input; ``None`` where the case has none."""
    if not case.labels:
        return None
    if isinstance(source, Image):
        raise TrainingError(f"{case.name}: labels of images are not read")
    shape, affine = source.array.shape, source.affine_lps
    if is_nifti(case.labels[0]):
        label_map, own = read_labels(case.labels[0])
        if label_map.shape == shape and np.allclose(own, affine, rtol=0, atol=_SAME_GRID_MM):
            return label_map
        return nearest_labels(
            label_map, (shape[0], shape[1], shape[2]), np.linalg.inv(own) @ affine
        )
    overlap = isinstance(card, SegmentationCard) and card.output.overlapping
    return labels_of(case.labels, truth_labels(card), shape, affine, overlap=overlap)


def truth_labels(card: Card) -> tuple[Label, ...]:
    """What is marked in the voxels of a truth: the labels of the card, or its scores in order."""
    nothing = Code("", "", "")
    return card.labels or tuple(
        Label(number, name, nothing, nothing, (0, 0, 0))
        for number, name in enumerate(card.output_names, start=1)
    )


class CaseStore:
    """Prepares cases when they are first asked for, and keeps them in ``folder``."""

    def __init__(self, card: Card, folder: Path, reader: DicomReader | None) -> None:
        self.card, self.reader = card, reader
        self._cropper: Cropper | None = None
        # Another way of preparing is another folder.
        way = json.dumps([card.input.model_dump(mode="json"), card.output.model_dump(mode="json"),
                          card.runtime.roi], sort_keys=True)
        self.folder = folder / hashlib.sha256(way.encode()).hexdigest()[:12]

    def kept(self, case: Case) -> KeptCase:
        """See `Cases.kept`."""
        there = self.folder / case.digest
        if not there.is_dir():
            self._keep(case, there)
        with np.load(there / "facts.npz", allow_pickle=False) as facts:
            places = {int(name[6:]): facts[name] for name in facts if name.startswith("places")}
            classes, voxels = facts["classes"], facts["voxels"]
            background = float(facts["background"])
        target = there / "target.npy"
        return KeptCase(
            np.load(there / "image.npy", mmap_mode="r", allow_pickle=False),
            np.load(target, mmap_mode="r", allow_pickle=False) if target.exists() else None,
            places, classes, background, voxels,
        )

    def remove(self) -> None:
        """Remove what was kept."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _looked_at(self) -> Cropper:
        """As in the node; loaded when the first case is prepared."""
        if self._cropper is None:
            self._cropper = Cropper(self.card)
            self._cropper.load()
        return self._cropper

    def _keep(self, case: Case, there: Path) -> None:
        try:
            source = read_input(case, self.card, self.reader)
            prepared = prepare(source, self.card, self._looked_at().find(source).window)
        except ModelError as error:
            raise TrainingError(f"{case.name}: {error.reason}: {error}") from error
        truth = read_truth(case, self.card, source)
        facts: dict[str, Any] = {"background": np.float32(prepared.image.background),
                                 "classes": np.zeros(0, dtype=np.int64),
                                 "voxels": np.zeros(0, dtype=np.int64)}
        target: npt.NDArray[Any] | None = None
        if truth is not None:
            values = [one.value for one in truth_labels(self.card)]
            target = on_network_grid(truth, prepared, values)
            facts |= _places(target, values)
            if isinstance(self.card, DetectionCard):
                target, facts["classes"] = numbered(target)
                facts["voxels"] = np.bincount(target.ravel())
        # Several processes may prepare the same case: each beside, the first one stays.
        beside = there.with_name(f".{there.name}.{os.getpid()}")
        beside.mkdir(parents=True, exist_ok=True)
        np.save(beside / "image.npy", np.ascontiguousarray(prepared.image.array))
        if target is not None:
            np.save(beside / "target.npy", target)
        np.savez(beside / "facts.npz", **facts)
        try:
            beside.rename(there)
        except OSError:
            shutil.rmtree(beside)
            if not there.is_dir():
                raise


def on_network_grid(truth: LabelMap, prepared: Prepared, values: list[int]) -> LabelMap:
    """Labels on the grid of the input to that of the network, flat for an image.

    A voxel has the label that fills most of it, and more than half of it where there is one label
    only; labels that may overlap (uint64) each by itself.
    """
    several = is_overlapping(truth)
    masks: dict[int, npt.NDArray[np.bool_]] = {}
    chosen = np.zeros(prepared.shape, dtype=np.uint8)
    best = np.zeros(prepared.shape, dtype=np.float32)
    empty = np.ones(prepared.shape, dtype=np.float32)
    for value in values:
        mask = mask_of(truth, value).astype(np.float32)
        share = to_model_grid(mask, prepared.plan, 0.0)[prepared.box]
        if prepared.fitting is not None:
            share = to_network_grid(share, prepared.fitting, 0.0)
        if several:
            masks[value] = share >= 0.5
            continue
        empty -= share
        better = share > best
        chosen[better], best[better] = value, share[better]
    chosen[best <= empty] = 0
    result: LabelMap = overlapping(masks, prepared.shape) if several else chosen
    return result[0] if prepared.is_flat else result


def numbered(target: LabelMap) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    """Connected parts of every label as things with a number; and the label of each."""
    things = np.zeros(target.shape, dtype=np.uint16)
    classes: list[int] = []
    for value in np.unique(target[target > 0]):
        parts, count = ndimage.label(target == value, np.ones((3,) * target.ndim))
        things[parts > 0] = parts[parts > 0] + len(classes)
        classes += [int(value)] * count
    return things, np.array(classes, dtype=np.int64)


def _places(target: LabelMap, values: list[int]) -> dict[str, npt.NDArray[np.int32]]:
    found = {}
    for value in values:
        flat = np.flatnonzero(mask_of(target, value))
        if flat.size > _MOST_PLACES:
            flat = flat[:: flat.size // _MOST_PLACES + 1]
        if flat.size:
            places = np.stack(np.unravel_index(flat, target.shape), axis=1)
            found[f"places{value}"] = places.astype(np.int32)
    return found


def volume_of(source: ModelInput) -> Volume | None:
    """The volume on whose grid the answer is; ``None`` of an image."""
    if isinstance(source, Image):
        return None
    return source.reference if isinstance(source, JointInput) else source
