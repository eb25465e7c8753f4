"""What a prediction says, as objects that passed their gate: one function for each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ai_models.array.labels import Counts, voxels_by_slice
from ai_models.array.measurements import measure, measure_image
from ai_models.card_entries import DetectionOutput
from ai_models.types import (
    ClassificationPrediction,
    DetectionPrediction,
    FloatArray,
    Label,
    LabelMap,
    Prediction,
    RegressionPrediction,
    SegmentationPrediction,
    TextPrediction,
    Volume,
)
from dicom_node.errors import UnsuitableInput
from dicom_node.pipeline.loading import Loaded
from dicom_node.results import gate, report
from dicom_node.results.detections import MarkedDetections, findings_of
from dicom_node.results.explanation import saliency_objects
from dicom_node.results.gate_detections import check_detections
from dicom_node.results.gate_reading import encoded
from dicom_node.results.gate_report import check_findings, check_text
from dicom_node.results.report_numbers import SegmentMeasurement
from dicom_node.results.request import SERIES_NUMBERS, Reference, ResultRequest
from dicom_node.results.segmentation import build_probability_map, build_segmentation

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from ai_models.card import Card

Objects = tuple[tuple[str, "Dataset"], ...]


@dataclass(frozen=True)
class Findings:
    """What a prediction marks in the images, ``None`` and empty where it marks nothing.

    ``grid_label_map`` is on the grid of the model's input, ``label_map`` on the source slices,
    both ``(slices, rows, columns)``; ``measurements`` are by label value.
    """

    grid_label_map: LabelMap | None = None
    label_map: LabelMap | None = None
    labels: tuple[Label, ...] = ()
    measurements: Mapping[int, SegmentMeasurement] = field(default_factory=dict)
    probabilities: Mapping[int, FloatArray] = field(default_factory=dict)
    detected: MarkedDetections | None = None

    @property
    def any(self) -> bool:
        """Whether anything is marked on the source slices."""
        return self.label_map is not None and bool(self.label_map.any())


def findings_in(prediction: Prediction, card: Card, loaded: Loaded) -> Findings:
    """What a prediction marks, measured on the grid of the model's input.

    Raises
    ------
    UnsuitableInput
        ``input.not_a_volume``: a detection in a projection image.
    GateRefused
        A detection is nowhere in the images.
    """
    if not isinstance(prediction, SegmentationPrediction | DetectionPrediction):
        return Findings()
    source = loaded.reference
    if isinstance(prediction, SegmentationPrediction):
        label_map = prediction.label_map
        return Findings(
            label_map, loaded.to_source_grid(label_map), prediction.labels,
            measure(label_map, source) if isinstance(source, Volume)
            else measure_image(label_map, source),
            {
                value: loaded.to_source_grid(scores)
                for value, scores in prediction.probabilities.items()
            },
        )
    if not isinstance(source, Volume):
        raise UnsuitableInput(
            "boxes in projection images have no place in the patient", reason="input.not_a_volume"
        )
    mask = card.output.mask if isinstance(card.output, DetectionOutput) else "box"
    found = findings_of(prediction, mask, source)
    marked = found.on_slices(loaded.to_source_grid)
    return Findings(
        found.label_map, marked.label_map, found.labels, found.measurements, detected=marked
    )


def describe(
    prediction: Prediction, findings: Findings, request: ResultRequest, loaded: Loaded
) -> Objects:
    """The objects of a prediction, in the order in which they must be sent.

    Raises
    ------
    GateRefused
        A built object, read back, does not say what the model computed.
    UnsuitableInput
        The headers of the source cannot carry a result.
    """
    if isinstance(prediction, TextPrediction):
        return _text(prediction, request)
    if isinstance(prediction, ClassificationPrediction | RegressionPrediction):
        return _scores(prediction, request, loaded)
    return _segments(findings, request)


def _text(prediction: TextPrediction, request: ResultRequest) -> Objects:
    built = report.build_text_report(
        request, prediction.text, series_number=SERIES_NUMBERS["text report"]
    )
    gate.check_report(built, request.all_images, [])
    check_text(built, prediction.text)
    return (("text report", built),)


def _scores(
    prediction: ClassificationPrediction | RegressionPrediction, request: ResultRequest,
    loaded: Loaded,
) -> Objects:
    shown: list[tuple[str, Dataset]] = []
    explanation: Mapping[str, Reference] = {}
    if isinstance(prediction, ClassificationPrediction) and prediction.saliency:
        saliency = {
            name: loaded.to_source_grid(_stacked(values))
            for name, values in prediction.saliency.items()
        }
        shown, explanation = saliency_objects(
            request, saliency, prediction.saliency_method, loaded.display(())
        )
    built = report.build_image_report(
        request, series_number=SERIES_NUMBERS["volumetric report"], explanation=explanation
    )
    gate.check_report(built, request.all_images, [dataset for _, dataset in shown])
    return (*shown, ("image report", built))


def _stacked(values: FloatArray) -> FloatArray:
    return values[None] if values.ndim == 2 else values


def _segments(findings: Findings, request: ResultRequest) -> Objects:
    """Segmentation, its probabilities, volumetric and planar report; or that nothing was found."""
    label_map = findings.label_map
    number = SERIES_NUMBERS["volumetric report"]
    segmentation = None
    if label_map is not None:
        segmentation = build_segmentation(
            request.source_images, request.frame_numbers, label_map, findings.labels,
            request.algorithm, request.identity, series_number=SERIES_NUMBERS["segmentation"],
            equipment=request.equipment, created_at=request.created_at, repaired=request.repaired,
        )
    if label_map is None or segmentation is None:
        negative = report.build_negative_report(request, series_number=number)
        gate.check_report(negative, request.all_images, [])
        return (("negative report", negative),)
    outlined = findings.detected.outlined() if findings.detected is not None else label_map
    volumetric = report.build_volumetric_report(
        request, segmentation, outlined, findings.measurements, series_number=number
    )
    planar = report.build_planar_report(
        request, outlined, series_number=SERIES_NUMBERS["planar report"]
    )
    images, frames = request.source_images, request.frame_numbers
    gate.check_segmentation(segmentation, images, frames, label_map, findings.labels)
    sizes = voxels_by_slice(outlined)
    of_segments, on_slices = (
        None if one is None else _checked(one, segmentation, findings, outlined, sizes, request)
        for one in (volumetric, planar)
    )
    if findings.detected is not None:
        check_detections(
            volumetric, images, frames, label_map, findings.detected.detections, segmentation
        )
    objects = (
        ("segmentation", segmentation),
        ("probability map", _probability_map(request, findings)),
        ("volumetric report", of_segments),
        ("planar report", on_slices),
    )
    return tuple((kind, dataset) for kind, dataset in objects if dataset is not None)


def _checked(
    report: Dataset, segmentation: Dataset, findings: Findings, outlined: LabelMap,
    sizes: Counts, request: ResultRequest,
) -> Dataset:
    """A report as its bytes say it: those that were checked are written, without encoding again."""
    bytes_of_it = encoded(report)
    gate.check_report(bytes_of_it, request.all_images, [segmentation])
    check_findings(
        bytes_of_it, request.source_images, request.frame_numbers, outlined,
        findings.measurements, segmentation, sizes,
    )
    return bytes_of_it.read()


def _probability_map(request: ResultRequest, findings: Findings) -> Dataset | None:
    """The probabilities of every label, where the card asks for them."""
    if not findings.probabilities:
        return None
    built = build_probability_map(
        request, findings.probabilities, series_number=SERIES_NUMBERS["probability map"]
    )
    if built is not None:
        gate.check_probability_map(
            built, request.source_images, request.frame_numbers, findings.probabilities,
            findings.labels,
        )
    return built
