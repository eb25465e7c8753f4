"""What every object of one result is built from, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ai_models.types import Algorithm, FloatArray, Label
from dicom_node.results.equipment import Equipment
from dicom_node.results.identity import ResultIdentity

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_node.results.follow_up import FollowUp
    from dicom_node.results.headers import Repaired

# Results stand behind the images of their study (PS3.3 C.7.3.1: Series Number has no meaning).
SERIES_NUMBERS = {
    "segmentation": 9001,
    "volumetric report": 9002,
    "planar report": 9003,
    "probability map": 9004,
    "parametric map": 9005,
    "secondary capture": 9006,
    "key objects": 9007,
    "presentation state": 9008,
    "pdf": 9009,
    "structure set": 9010,
    "rejection note": 9011,
    "text report": 9012,
}


@dataclass(frozen=True)
class Reference:
    """An object that another one refers to, with what a reference needs (PS3.3 10.8)."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True)
class ResultRequest:
    """What every object of one result needs.

    Attributes
    ----------
    source_images
        Headers of the source in slice order, pixel data not needed; one data set for an
        enhanced multi-frame source.
    frame_numbers
        1-based frame of each slice; all 1 for single-frame sources.
    labels, algorithm, identity, equipment, created_at
        What was looked for, by what, on what, who writes it and when.
    template, template_folder
        The name of a file in ``template_folder``, the folder of the model's card, or else in
        ``sr_templates``.
    language
        Of the sentences for the reader: ``en``, ``de``, ``fr`` or ``zh``.
    outputs
        Numbers of the whole series by their names in the template: probabilities, a bone age.
    undetermined
        Outputs that are not told, and the roles of the series without which they say too little.
    by_slice
        By output of a model that answers each slice: the scores of the slices, ``(slices,)``.
    absence
        The output whose lowest slice answers for the series with all scores; empty: none does.
    calibrated
        Whether the probabilities among ``outputs`` are; ``None`` where there are none.
    evidence, not_for
        What the model was measured on, and what it must not be used for, as its card says it.
    predecessors
        Reports on an earlier version of this input, which this result supersedes
        (Predecessor Documents Sequence, PS3.3 C.17.2.3).
    input_notes
        Sentences on what was done to the input, free of patient data.
    lacking
        What the model could have taken besides and did not have, a sentence each: they stand before
        the answer.
    is_final
        Sets Preliminary Flag: false until a person released it.
    is_complete
        Sets Completion Flag: false when a part of the input was left out.
    follow_up
        The findings beside those of an earlier examination, where one was asked for.
    repaired
        What ``headers.normalise`` makes of ``source_images``, where that is known already.
    """

    source_images: Sequence[Dataset]
    frame_numbers: Sequence[int]
    labels: tuple[Label, ...]
    algorithm: Algorithm
    identity: ResultIdentity
    equipment: Equipment
    created_at: datetime
    template: str = "lungs"
    language: str = "en"
    outputs: Mapping[str, float] = field(default_factory=dict)
    undetermined: Mapping[str, Sequence[str]] = field(default_factory=dict)
    by_slice: Mapping[str, FloatArray] = field(default_factory=dict)
    absence: str = ""
    calibrated: bool | None = None
    evidence: str = ""
    not_for: tuple[str, ...] = ()
    predecessors: tuple[Reference, ...] = ()
    input_notes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    is_final: bool = False
    is_complete: bool = True
    template_folder: Path | None = None
    further_images: Sequence[Sequence[Dataset]] = ()

    follow_up: FollowUp | None = None
    repaired: Repaired | None = field(default=None, compare=False, repr=False)

    def normalised(self) -> tuple[list[Dataset], tuple[str, ...]]:
        """Copies of ``source_images`` that can carry a result, and notes (``headers.normalise``).

        Raises
        ------
        UnsuitableInput
            The headers cannot carry one.
        """
        from dicom_node.results.headers import normalise

        known = self.repaired
        if known is None or known.source_images is not self.source_images:
            return normalise(self.source_images)
        return known.copies(), known.notes

    @property
    def all_images(self) -> list[Dataset]:
        """Headers of everything that the result was made from, the source first."""
        return [*self.source_images, *(one for images in self.further_images for one in images)]
