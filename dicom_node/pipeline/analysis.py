"""One series through one model: volume, prediction, objects, gate. No network, no ledger.

``dicom-node run`` does this on files and `dicom_node.pipeline.process` does it for a job, so
what a person tries by hand is what the node does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_models.array.measurements import Measurement, measure
from ai_models.card import Card
from ai_models.types import Label, LabelMap, ModelInput, Prediction, SegmentationPrediction
from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.display import Pixels, displayed
from dicom_node.imaging.unreadable import LEFT_OUT
from dicom_node.imaging.volume import LoadedVolume, VolumeLimits, load_volume
from dicom_node.results import gate, report
from dicom_node.results.equipment import Equipment
from dicom_node.results.forms import Source
from dicom_node.results.gate_report import check_findings
from dicom_node.results.identity import ResultIdentity
from dicom_node.results.request import SERIES_NUMBERS, Reference, ResultRequest
from dicom_node.results.segmentation import build_probability_map, build_segmentation

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Of whom and of what a result says that it is, as far as archives keep it alike.
_SUBJECT = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
)  # fmt: skip

# What is written in another way is another object: raised when objects change their content.
_FORM = 2

Predict = Callable[[Card, ModelInput], Prediction]


@dataclass(frozen=True)
class Writing:
    """How results are written, whatever the model: by whom, when, in which language.

    ``predecessors`` are the reports on an earlier version of the series.
    """

    equipment: Equipment
    created_at: datetime
    language: str = "en"
    predecessors: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Analysis:
    """What one model made of one series.

    ``objects`` are (kind, data set) in the order in which they must be sent: a report comes
    after the segmentation that it cites. ``label_map`` is on the source slices, ``request`` what
    all objects were built from.
    """

    outcome: str
    objects: tuple[tuple[str, Dataset], ...]
    loaded: LoadedVolume
    prediction: SegmentationPrediction
    label_map: LabelMap
    measurements: dict[int, Measurement]
    seconds_by_stage: dict[str, float]
    request: ResultRequest

    def source(self) -> Source:
        """What forms of the objects are made from."""
        return source_of(self.loaded, self.request.equipment)


def source_of(loaded: LoadedVolume, equipment: Equipment) -> Source:
    """Headers of a series, and its images in grey when they are asked for."""

    def display(labels: Sequence[Label]) -> Pixels:
        volume = loaded.volume
        values = loaded.to_source_grid(volume.array)
        return displayed(values, volume.unit, loaded.source_images[0], labels)

    return Source(loaded.source_images, loaded.frame_numbers, display, equipment)


def analyse(paths: Sequence[Path], card: Card, predict: Predict, writing: Writing) -> Analysis:
    """Run the model of ``card`` on the series in ``paths`` and describe what it found.

    Raises
    ------
    UnsuitableInput
        The model must not be run on this series; ``reason`` says why.
    StorageFailed, WorkerLost
        The images could not be read just now.
    ModelFailed, WorkerLost, DeadlineExceeded
        As ``predict`` raises them.
    GateRefused
        A built object, read back, does not say what the model computed.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "load"):
        loaded = load_volume(paths, limits_of(card))
        _check_modality(loaded, card)
    with _timed(seconds, "model"):
        prediction = predict(card, loaded.volume)
    if not isinstance(prediction, SegmentationPrediction):
        raise UnsuitableInput(f"{card.task} is not served yet", reason="input.task")
    with _timed(seconds, "measure"):
        measurements = measure(prediction.label_map, loaded.volume)
        label_map = loaded.to_source_grid(prediction.label_map)
    with _timed(seconds, "describe"):
        request = _request(card, loaded, prediction, writing)
        objects = _describe(request, loaded, prediction, label_map, measurements)
    with _timed(seconds, "gate"):
        _check(objects, loaded, prediction, label_map, measurements)
    return Analysis(
        outcome="result" if label_map.any() else "no_finding",
        objects=objects,
        loaded=loaded,
        prediction=prediction,
        label_map=label_map,
        measurements=measurements,
        seconds_by_stage=seconds,
        request=request,
    )


def limits_of(card: Card) -> VolumeLimits:
    """What a series must be like for the model of ``card``."""
    limits = VolumeLimits(min_slices=card.input.min_slices)
    gap_mm = card.input.max_slice_gap_mm
    return limits if gap_mm is None else replace(limits, max_slice_gap_mm=gap_mm)


def _check_modality(loaded: LoadedVolume, card: Card) -> None:
    modality = str(loaded.source_images[0].get("Modality", ""))
    if modality not in card.modality:
        raise UnsuitableInput(
            f"{card.id} takes {', '.join(card.modality)}, the series is {modality or 'nothing'}",
            reason="input.modality",
        )


def identity_of(card: Card, loaded: LoadedVolume, language: str = "en") -> ResultIdentity:
    """What the UIDs of the results are derived from: everything that can change the results."""
    configuration: dict[str, Any] = {
        "input": card.input.model_dump(mode="json"),
        # Asking for probabilities makes one more object and changes none of the others.
        "output": card.output.model_dump(mode="json", exclude={"probabilities"}),
        "runtime": card.runtime.model_dump(mode="json", include={"roi", "overlap", "precision"}),
        "report": [card.report, report.template_sha256(card.report, card.folder)],
        "language": language,
        "form": _FORM,
    }
    # The report names what was left out: the same images without that remark are other objects.
    left_out = [note.text for note in loaded.notes if note.code == LEFT_OUT]
    if left_out:
        configuration["left_out"] = left_out
    # A corrected patient or another study makes other objects: those that are there name the old.
    source = loaded.source_images[0]
    configuration["subject"] = [str(source.get(one, "")).rstrip(" ^") for one in _SUBJECT]
    return ResultIdentity(
        input_digests=loaded.content_digests,
        model_id=card.id,
        model_version=card.version,
        weights_sha256=card.weights_sha256,
        effective_configuration=configuration,
    )


def _request(
    card: Card, loaded: LoadedVolume, prediction: SegmentationPrediction, writing: Writing
) -> ResultRequest:
    identity = identity_of(card, loaded, writing.language)
    configuration = {"configuration_sha256": identity.configuration_sha256}
    algorithm = replace(
        prediction.algorithm, parameters={**prediction.algorithm.parameters, **configuration}
    )
    return ResultRequest(
        source_images=loaded.source_images,
        frame_numbers=loaded.frame_numbers,
        labels=prediction.labels,
        algorithm=algorithm,
        identity=identity,
        equipment=writing.equipment,
        created_at=writing.created_at,
        template=card.report,
        template_folder=card.folder,
        language=writing.language,
        predecessors=writing.predecessors,
        input_notes=tuple(note.text for note in loaded.notes) + prediction.notes,
        is_complete=not loaded.unreadable,
    )


def _describe(
    request: ResultRequest,
    loaded: LoadedVolume,
    prediction: SegmentationPrediction,
    label_map: LabelMap,
    measurements: dict[int, Measurement],
) -> tuple[tuple[str, Dataset], ...]:
    """Segmentation, its probabilities, volumetric and planar report; or that nothing was found."""
    segmentation = build_segmentation(
        loaded.source_images, loaded.frame_numbers, label_map, prediction.labels,
        request.algorithm, request.identity, series_number=SERIES_NUMBERS["segmentation"],
        equipment=request.equipment, created_at=request.created_at,
    )
    number = SERIES_NUMBERS["volumetric report"]
    if segmentation is None:
        return (("negative report", report.build_negative_report(request, series_number=number)),)
    volumetric = report.build_volumetric_report(
        request, segmentation, label_map, measurements, series_number=number
    )
    planar = report.build_planar_report(
        request, label_map, series_number=SERIES_NUMBERS["planar report"]
    )
    objects = (
        ("segmentation", segmentation),
        ("probability map", _probability_map(request, loaded, prediction)),
        ("volumetric report", volumetric),
        ("planar report", planar),
    )
    return tuple((kind, dataset) for kind, dataset in objects if dataset is not None)


def _probability_map(
    request: ResultRequest, loaded: LoadedVolume, prediction: SegmentationPrediction
) -> Dataset | None:
    """The probabilities of every label, where the card asks for them; checked here."""
    if not prediction.probabilities:
        return None
    values = {
        label: loaded.to_source_grid(values) for label, values in prediction.probabilities.items()
    }
    built = build_probability_map(
        request, values, series_number=SERIES_NUMBERS["probability map"]
    )
    if built is not None:
        gate.check_probability_map(
            built, loaded.source_images, loaded.frame_numbers, values, prediction.labels
        )
    return built


def _check(
    objects: Sequence[tuple[str, Dataset]],
    loaded: LoadedVolume,
    prediction: SegmentationPrediction,
    label_map: LabelMap,
    measurements: dict[int, Measurement],
) -> None:
    segmentations = [dataset for kind, dataset in objects if kind == "segmentation"]
    for kind, dataset in objects:
        if kind == "segmentation":
            gate.check_segmentation(
                dataset, loaded.source_images, loaded.frame_numbers, label_map, prediction.labels
            )
        elif kind.endswith("report"):
            gate.check_report(dataset, loaded.source_images, segmentations)
            for segmentation in segmentations:
                check_findings(
                    dataset, loaded.source_images, loaded.frame_numbers, label_map,
                    measurements, segmentation,
                )


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - started
