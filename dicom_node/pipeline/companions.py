"""What a model takes beside its series: other series, and what the headers tell of the patient.

A companion that cannot be used is as good as none, and the result says why: an optional one is
done without, a required one ends the job with the same reason. It must be of the same patient and
frame of reference: a place in one is a place in the other (PS3.3 C.7.4.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ai_models.card_input import ClinicalEntry, CompanionEntry, InputEntry
from ai_models.types import Image, JointInput, Volume
from dicom_node.errors import NotUnderstood, UnsuitableInput
from dicom_node.imaging.elements import number, text
from dicom_node.imaging.patient import age_in_years, is_same_patient
from dicom_node.imaging.suv import SUVBW, to_suv
from dicom_node.imaging.unreadable import UnreadableInstances
from dicom_node.imaging.volume import InputNote, LoadedVolume, load_volume
from dicom_node.pipeline.loading import Loaded, load_input
from dicom_node.pipeline.phase_series import phase_series

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_node.imaging.decoded import Decoded

NOT_THERE = "there is none"
COMPANION_MISSING = "input.companion_missing"
LACKING = (COMPANION_MISSING, "input.clinical", "input.other_views")
"""Codes of the notes on what the model takes and was not given."""
# Of a voxel; nothing that is outside was measured in millimetres.
_EDGE_MM = (1e-3, 1e3)
# Kilograms and metres; what lies outside was written in another unit, and is as good as unknown.
_NUMBERS = {"PatientWeight": (0.3, 650.0), "PatientSize": (0.2, 2.8)}


@dataclass(frozen=True)
class Companion:
    """A further series that was taken, by its role in the card."""

    role: str
    loaded: LoadedVolume

    @property
    def source_images(self) -> tuple[Dataset, ...]:
        """Headers of its images."""
        return self.loaded.source_images

    @property
    def modality(self) -> str:
        """Modality (0008,0060)."""
        return text(self.source_images[0], "Modality")


def load_together(
    paths: Sequence[Path], entry: InputEntry, companions: Mapping[str, Sequence[Path]] = {},
    missing: Mapping[str, str] = {}, ahead: Decoded | None = None,
) -> Loaded:
    """A series with everything that the card takes beside it, further phases among it.

    Raises
    ------
    UnsuitableInput
        As `load_input`, `with_companions` and `phase_series`. Of too few phases the message says
        which series are not there.
    NotUnderstood, StorageFailed, WorkerLost
        As `load_input`.
    """
    phases = phase_series(paths, entry, companions, missing)
    try:
        loaded = load_input(paths, entry, ahead, phases.series)
    except UnsuitableInput as error:
        if error.reason == "input.too_few_phases" and phases.lacking:
            raise UnsuitableInput(f"{error}; {phases.lacking}", reason=error.reason) from error
        raise
    if phases.lacking:
        note = InputNote(COMPANION_MISSING, phases.lacking)
        loaded = replace(loaded, notes=(*loaded.notes, note))
    return with_companions(loaded, entry, companions, missing)


def with_companions(
    loaded: Loaded, entry: InputEntry, companions: Mapping[str, Sequence[Path]],
    missing: Mapping[str, str],
) -> Loaded:
    """What was loaded of the reference, with everything that the card takes beside it.

    Parameters
    ----------
    companions
        Files of each series, by role; roles that the card does not name are left aside.
    missing
        Why there is none, by role: a sentence without patient data.

    Raises
    ------
    UnsuitableInput
        ``input.companion_missing``, or why a required companion cannot be used.
    StorageFailed, WorkerLost
        Its images could not be read just now.
    """
    if not entry.is_joint:
        return loaded
    if isinstance(loaded.model_input, Image):
        clinical = {one.name: _told(loaded.source_images[:1], one) for one in entry.clinical}
        notes = (*loaded.notes, *_not_known(clinical))
        image = replace(loaded.model_input, clinical=clinical)
        return replace(loaded, model_input=image, notes=notes)
    found: list[Companion] = []
    lacking: dict[str, str] = {}
    for one in entry.companions:
        paths = companions.get(one.role, ())
        if not paths:
            lacking[one.role] = missing.get(one.role) or NOT_THERE
            if one.required:
                raise UnsuitableInput(
                    f"without {one.role}: {lacking[one.role]}", reason=COMPANION_MISSING
                )
            continue
        try:
            found.append(Companion(one.role, _loaded(paths, one, loaded)))
        except (NotUnderstood, UnsuitableInput) as error:
            if one.required:
                raise
            lacking[one.role] = _why(error)
    headers = [loaded.source_images[0], *(one.source_images[0] for one in found)]
    clinical = {one.name: _told(headers, one) for one in entry.clinical}
    source = loaded.model_input
    joint = source if isinstance(source, JointInput) else JointInput(source)
    volumes: dict[str, Volume | None] = {one.role: one.loaded.volume for one in found}
    return replace(
        loaded,
        model_input=replace(
            joint, companions={**dict.fromkeys(lacking), **volumes}, clinical=clinical
        ),
        companions=tuple(found),
        missing=lacking,
        notes=(*loaded.notes, *_notes(found, lacking, entry), *_not_known(clinical)),
    )


def _loaded(paths: Sequence[Path], companion: CompanionEntry, reference: Loaded) -> LoadedVolume:
    volume = load_volume(paths)
    first, own = reference.source_images[0], volume.source_images[0]
    modality = text(own, "Modality")
    if modality not in companion.modality:
        raise UnsuitableInput(
            f"{companion.role} is {', '.join(companion.modality)}, the series is "
            f"{modality or 'nothing'}", reason="input.modality",
        )
    if not is_same_patient(first, own):
        raise UnsuitableInput(
            f"{companion.role} is of another patient", reason="input.companion_patient"
        )
    frame = text(first, "FrameOfReferenceUID")
    if not frame or text(own, "FrameOfReferenceUID") != frame:
        raise UnsuitableInput(
            f"{companion.role} is of another frame of reference: where it lies to the series is "
            "not known", reason="input.companion_frame",
        )
    _check_place(companion.role, volume.volume, reference)
    return to_suv(volume) if companion.intensity.unit == SUVBW else volume


def _check_place(role: str, volume: Volume, reference: Loaded) -> None:
    """Nothing is analysed together with what lies somewhere else, or is of no size."""
    source = reference.model_input
    own = source.reference if isinstance(source, JointInput) else source
    if not isinstance(own, Volume):
        return
    edges_mm = np.linalg.norm(volume.affine_lps[:3, :3], axis=0)
    if edges_mm.min() < _EDGE_MM[0] or edges_mm.max() > _EDGE_MM[1]:
        raise UnsuitableInput(
            f"{role} has voxels of {edges_mm.min():g} to {edges_mm.max():g} mm",
            reason="input.companion_spacing",
        )
    last = np.array(volume.array.shape[-3:]) - 1.0
    corners = np.array([(*(last * one), 1.0) for one in np.ndindex(2, 2, 2)]).T
    there = (np.linalg.inv(own.affine_lps) @ volume.affine_lps @ corners)[:3]
    here = np.array(own.array.shape[-3:]) - 0.5
    if (there.min(axis=1) > here).any() or (there.max(axis=1) < -0.5).any():
        raise UnsuitableInput(
            f"{role} shows no place that the series shows", reason="input.companion_apart"
        )


def _why(error: NotUnderstood | UnsuitableInput) -> str:
    if isinstance(error, NotUnderstood | UnreadableInstances):
        # Their messages name files.
        return f"{error.reason}: its images cannot be read"
    return f"{error.reason}: {error}"


def _told(headers: Sequence[Dataset], entry: ClinicalEntry) -> float | None:
    """The value of the first header that has one that makes sense."""
    for header in headers:
        value = _value(header, entry)
        if value is not None:
            return value
    return None


def _value(header: Dataset, entry: ClinicalEntry) -> float | None:
    if entry.keyword == "PatientAge":
        return age_in_years(header)
    if entry.keyword in _NUMBERS:
        stated = number(header, entry.keyword)
        least, most = _NUMBERS[entry.keyword]
        return stated if stated is not None and least <= stated <= most else None
    return entry.values.get(text(header, entry.keyword).upper())


def _not_known(clinical: Mapping[str, float | None]) -> list[InputNote]:
    """What is not known of the patient stands where a series does that was not there."""
    return [
        InputNote(LACKING[1], f"without {name}: the images state no value of it that can be used")
        for name, value in clinical.items() if value is None
    ]


def _notes(
    found: Sequence[Companion], lacking: Mapping[str, str], entry: InputEntry
) -> list[InputNote]:
    notes = []
    for one in found:
        images = len(one.loaded.frame_numbers)
        notes.append(InputNote(
            "input.companion",
            f"{entry.role} was analysed together with {one.role} ({one.modality}, {images} slices)",
        ))
        notes += [
            InputNote(note.code, f"{one.role}: {note.text}") for note in one.loaded.notes
        ]
    alone = "" if found else f": from {entry.role} alone"
    notes += [
        InputNote(COMPANION_MISSING, f"without {role} ({why}){alone}")
        for role, why in lacking.items()
    ]
    return notes
