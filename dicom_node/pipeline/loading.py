"""A series as the model of a card takes it: one volume, or one projection image of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from ai_models.card_entries import InputEntry
from ai_models.types import Image, JointInput, Label, ModelInput, Volume, reference_of
from dicom_node.errors import NotUnderstood, UnsuitableInput
from dicom_node.imaging.anatomy_terms import views_of
from dicom_node.imaging.decoded import Decoded
from dicom_node.imaging.display import Pixels, displayed, displayed_image
from dicom_node.imaging.elements import number, sequence, text
from dicom_node.imaging.phases import load_phases
from dicom_node.imaging.radiograph import load_radiograph
from dicom_node.imaging.reading import read_header
from dicom_node.imaging.suv import SUVBW, to_suv
from dicom_node.imaging.unreadable import UnreadableInstance
from dicom_node.imaging.volume import InputNote, LoadedVolume, VolumeLimits, load_volume
from dicom_node.pipeline.stated_checks import check_acquisition, check_stated
from dicom_node.results.headers import Repaired, repaired

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_node.pipeline.companions import Companion

# What has one plane and no place on a stack (PS3.3 C.7.3.1.1.1).
_PROJECTIONS = frozenset({"CR", "DX", "MG", "IO", "PX", "RG", "RF", "XA"})
Number = TypeVar("Number", bound=np.generic)
_LEFT_OUT_VIEW = "input.other_views"


@dataclass(frozen=True)
class Loaded:
    """What was read of a series, and the way back to its own images.

    Attributes
    ----------
    model_input
        What the model gets.
    source_images, frame_numbers
        Headers without pixel data in slice order, and the frame (from 1) of each slice.
    content_digests
        SOP Instance UID to a digest of the decoded content.
    notes, unreadable
        What was accepted with a remark, and the images that could not be read.
    volume
        The stack behind ``model_input``; ``None`` of a projection image.
    later_phases
        Of a series that shows several moments, those after the first, which ``volume`` is.
    companions, missing
        Further series that were taken, and why those that were not were not, by role.
    """

    model_input: ModelInput
    source_images: tuple[Dataset, ...]
    frame_numbers: tuple[int, ...]
    content_digests: dict[str, str]
    notes: tuple[InputNote, ...] = ()
    unreadable: tuple[UnreadableInstance, ...] = ()
    volume: LoadedVolume | None = None
    later_phases: tuple[LoadedVolume, ...] = ()
    companions: tuple[Companion, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> Volume | Image:
        """On whose grid the answer is."""
        return reference_of(self.model_input)

    @cached_property
    def repaired(self) -> Repaired:
        """The headers as results carry them; raises as `dicom_node.results.headers.normalise`."""
        return repaired(self.source_images)

    @property
    def further_images(self) -> tuple[tuple[Dataset, ...], ...]:
        """Headers of what was taken beside ``source_images``, by series or phase."""
        own = {str(one.SOPInstanceUID) for one in self.source_images}
        # Of one multi-frame object all phases are the same instance.
        phases = [
            tuple(one for one in phase.source_images if str(one.SOPInstanceUID) not in own)
            for phase in self.later_phases
        ]
        others = [one.loaded.source_images for one in self.companions]
        return tuple(images for images in (*phases, *others) if images)

    @property
    def all_digests(self) -> dict[str, str]:
        """SOP Instance UID to digest, of everything that the model was given."""
        digests = dict(self.content_digests)
        for one in (*self.later_phases, *(each.loaded for each in self.companions)):
            for uid, digest in one.content_digests.items():
                # Each phase of one multi-frame object has the digest of its own frames.
                digests[uid] = f"{digests[uid]} {digest}" if uid in digests else digest
        return digests

    @property
    def is_complete(self) -> bool:
        """Whether every image of what was taken could be read."""
        others = (*self.later_phases, *(one.loaded for one in self.companions))
        return not self.unreadable and not any(one.unreadable for one in others)

    def to_source_grid(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Values on the grid of the input to ``(source slices, rows, columns)``."""
        return values if self.volume is None else self.volume.to_source_grid(values)

    def display(self, labels: Sequence[Label]) -> Pixels:
        """The source images in 8-bit grey, ``(slices, rows, columns)``."""
        volume = self.reference
        if isinstance(volume, Image):
            return displayed_image(volume)
        values = self.to_source_grid(volume.array)
        return displayed(values, volume.unit, self.source_images[0], labels)


def load_input(
    paths: Sequence[Path], entry: InputEntry | None = None, ahead: Decoded | None = None,
    further_phases: Sequence[Sequence[Path]] = (),
) -> Loaded:
    """Read a series as ``entry`` of a card asks; without one, as its modality suggests.

    What the model takes beside it is not looked for here (`dicom_node.pipeline.companions`). Of a
    model that takes phases ``further_phases`` are files of the other series that they are in.
    Images of a stack that lie in ``ahead`` are taken from there, with the same result.

    Raises
    ------
    UnsuitableInput
        The model must not be run on this series; ``reason`` says why.
    NotUnderstood, StorageFailed, WorkerLost
        The images could not be read.
    """
    if entry is None:
        return _image(paths, ()) if _is_projection(paths) else _plain(load_volume(paths))
    if entry.kind == "image":
        loaded = _image(paths, entry.views)
    else:
        loaded = (
            _stack(paths, entry, ahead) if entry.phases == 1
            else _in_phases(paths, entry, further_phases)
        )
        _check_thickness(loaded.source_images, entry)
    _check_modality(loaded.source_images, entry)
    stated = check_stated(loaded.source_images[0], entry)
    stated += check_acquisition(loaded.source_images, entry)
    return replace(loaded, notes=(*loaded.notes, *stated))


def limits_of(entry: InputEntry) -> VolumeLimits:
    """What a stack must be like for a model."""
    limits = VolumeLimits(min_slices=entry.min_slices)
    gap_mm = entry.max_slice_gap_mm
    return limits if gap_mm is None else replace(limits, max_slice_gap_mm=gap_mm)


def _stack(paths: Sequence[Path], entry: InputEntry, ahead: Decoded | None) -> Loaded:
    loaded = load_volume(paths, limits_of(entry), ahead)
    _check_modality(loaded.source_images, entry)
    return _plain(to_suv(loaded) if entry.intensity.unit == SUVBW else loaded)


def _in_phases(
    paths: Sequence[Path], entry: InputEntry, further: Sequence[Sequence[Path]]
) -> Loaded:
    """Results lie on the images of the first phase, whichever series that is in."""
    found = load_phases(paths, limits_of(entry), *entry.phase_counts, further)
    volumes = found.volumes
    _check_modality(volumes[0].source_images, entry)
    if entry.intensity.unit == SUVBW:
        volumes = tuple(to_suv(one) for one in volumes)
    first, *later = volumes
    joint = JointInput(first.volume, tuple(one.volume for one in volumes), found.times_s)
    unreadable = tuple(one for volume in volumes for one in volume.unreadable)
    return replace(
        _plain(first), model_input=joint, later_phases=tuple(later), unreadable=unreadable,
        notes=(found.note, *dict.fromkeys(note for volume in volumes for note in volume.notes)),
    )


def _plain(loaded: LoadedVolume) -> Loaded:
    return Loaded(
        loaded.volume, loaded.source_images, loaded.frame_numbers, loaded.content_digests,
        loaded.notes, loaded.unreadable, loaded,
    )


def _image(paths: Sequence[Path], views: Sequence[str]) -> Loaded:
    path, others = _chosen(paths, views)
    loaded = load_radiograph(path)
    notes = loaded.notes
    if others:
        wanted = ", ".join(views)
        notes = (*notes, InputNote(
            _LEFT_OUT_VIEW,
            f"without {others} of {others + 1} images: their view is not {wanted}",
        ))
    return Loaded(
        loaded.image, (loaded.source_image,), (1,), loaded.content_digests, notes
    )


def _chosen(paths: Sequence[Path], views: Sequence[str]) -> tuple[Path, int]:
    """The one image that the model takes, and how many others there are."""
    if not views and len(paths) == 1:
        return paths[0], 0
    fitting = [
        path for path in paths
        if not views or _shows(read_header(path).dataset, views)
    ]
    if not fitting:
        raise UnsuitableInput(
            f"none of {len(paths)} images states a view of {', '.join(views)} and no other",
            reason="input.no_such_view",
        )
    if len(fitting) > 1:
        which = f" of the views {', '.join(views)}" if views else ""
        raise UnsuitableInput(
            f"{len(fitting)} images{which} in one series: which of them is meant cannot be told",
            reason="input.several_images",
        )
    return fitting[0], len(paths) - 1


def _shows(image: Dataset, views: Sequence[str]) -> bool:
    """Whether all that a header says of the view is one of these; that it says nothing is not."""
    stated = views_of(image)
    return bool(stated) and all(set(one) <= set(views) for one in stated)


def _is_projection(paths: Sequence[Path]) -> bool:
    for path in paths:
        try:
            return text(read_header(path).dataset, "Modality").upper() in _PROJECTIONS
        except NotUnderstood:
            continue
    return False


def _check_modality(source_images: Sequence[Dataset], entry: InputEntry) -> None:
    modality = text(source_images[0], "Modality")
    if modality not in entry.modality:
        raise UnsuitableInput(
            f"the model takes {', '.join(entry.modality)}, the series is {modality or 'nothing'}",
            reason="input.modality",
        )


def _check_thickness(source_images: Sequence[Dataset], entry: InputEntry) -> None:
    limit_mm = entry.max_slice_thickness_mm
    thickness_mm = max(
        (stated for image in source_images for stated in _thicknesses_mm(image)), default=math.nan
    )
    if limit_mm is not None and thickness_mm > limit_mm + 1e-3:
        raise UnsuitableInput(
            f"slices {thickness_mm:g} mm thick, the model allows {limit_mm:g} mm",
            reason="input.slices_too_thick",
        )


def _thicknesses_mm(image: Dataset) -> list[float]:
    """Slice Thickness of an image, or of the shared groups of a multi-frame one (C.7.6.16.2.1)."""
    places = [image]
    for groups in sequence(image, "SharedFunctionalGroupsSequence"):
        places += sequence(groups, "PixelMeasuresSequence")
    found = [number(place, "SliceThickness") for place in places]
    return [one for one in found if one is not None]
