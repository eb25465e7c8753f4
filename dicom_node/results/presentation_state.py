"""Contours over the source images themselves: Grayscale Softcopy Presentation State (PS3.3 A.33.1).

Every outline of every label on every slice is a closed POLYLINE in PIXEL units: the outer corner
of the first pixel is 0\\0, its inner corner 1\\1 (PS3.3 Table C.10-5). Parts and holes are
outlines of their own; all outlines of a label on a slice, filled by the even-odd rule, are its
mask. Each label has a graphic layer of its own, so that a viewer can hide it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import mask_of, values_in, voxels_by_slice
from ai_models.types import Label, LabelMap
from dicom_node.errors import GateRefused, UnsuitableInput
from dicom_node.results.contours import outlines
from dicom_node.results.drawing import contour_colors
from dicom_node.results.equipment import (
    DEMONSTRATION,
    authored,
    describe,
    long_string,
)
from dicom_node.results.finish import finish_picture, local_time
from dicom_node.results.grey_pipeline import write_grey_pipeline
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation_segments import segment_numbers
from dicom_node.results.slice_source import pixel_spacing, source_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# What one FL element holds in Explicit VR, whose length has 16 bits: 65534 bytes.
_MOST_POINTS = 8191
_NOTICE_LAYER = "NOTICE"
_GREY_KEYWORDS = (
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
    "VOILUTSequence",
)


def build_presentation_state(
    request: ResultRequest, label_map: LabelMap, *, series_number: int
) -> Dataset | None:
    """The outlines of ``label_map`` ``(slices, rows, columns)`` over every slice with a finding.

    Returns ``None`` when no label occurs.

    Raises
    ------
    UnsuitableInput
        ``input.color``: there is no grayscale presentation of a colour image; or the source
        headers cannot carry a result (see ``headers.normalise``).
    GateRefused
        ``gate.labels``: undescribed values; ``gate.shape``: not the grid of the source.
    """
    found = segment_numbers(label_map, request.labels)
    if not found:
        return None
    sources, _ = request.normalised()
    _check_source(request, label_map, sources[0])
    shown = [int(index) for index in np.flatnonzero(label_map.any(axis=(1, 2)))]
    images = [source_of(request, sources, index) for index in shown]
    references = [_reference(image, frame) for image, frame in images]
    moment = local_time(request.created_at, sources[0])
    layers = _layers(request.labels, found)
    state = _construct(
        request,
        _referenced(sources[0], [image for image, _ in images]),
        [*layers.values(), _notice_layer()],
        series_number,
        moment,
    )
    state.GraphicAnnotationSequence = [
        *_annotations(request, label_map, shown, references, layers),
        _notice(request, references),
    ]
    received = [source_of(request, request.source_images, index) for index in shown]
    write_grey_pipeline(state, received, references)
    _show_whole_images(state, *images[0])
    state.PresentationCreationDate = moment.date()
    state.PresentationCreationTime = moment.time()
    return finish_picture(state, sources[0], request.equipment, moment)


def _check_source(request: ResultRequest, label_map: LabelMap, first: Dataset) -> None:
    expected = (len(request.frame_numbers), int(first.Rows), int(first.Columns))
    if label_map.shape != expected:
        raise GateRefused(
            f"the label map is {label_map.shape} where the source has {expected}",
            reason="gate.shape",
        )
    if int(first.get("SamplesPerPixel") or 1) != 1:
        raise UnsuitableInput("the source is in colour", reason="input.color")


def _referenced(first: Dataset, images: Sequence[Dataset]) -> list[Dataset]:
    """Each image once, the first with patient and study, none with what it says about grey:
    highdicom would copy that as far as it agrees between the images."""
    from pydicom.dataset import Dataset

    by_uid = {str(image.SOPInstanceUID): image for image in images}
    referenced = []
    for image in by_uid.values():
        bare = Dataset()
        bare.update(first)
        bare.update(image)
        for keyword in _GREY_KEYWORDS:
            bare.pop(keyword, None)
        bare.SamplesPerPixel = 1
        bare.SharedFunctionalGroupsSequence = [Dataset()]
        bare.PerFrameFunctionalGroupsSequence = []
        referenced.append(bare)
    return referenced


def _layers(labels: Sequence[Label], found: Mapping[int, int]) -> dict[int, Any]:
    """Label value to its graphic layer, for the labels whose values are ``found``."""
    import highdicom as hd
    from highdicom.color import CIELabColor

    colors = contour_colors(labels)
    return {
        label.value: hd.pr.GraphicLayer(
            layer_name=_layer_name(label),
            order=order,
            description=long_string(label.name),
            display_color=CIELabColor.from_rgb(*colors[label.value]),
        )
        for order, label in enumerate(labels, start=1)
        if label.value in found
    }


def _layer_name(label: Label) -> str:
    """A code string (16 characters) that people recognise; the number keeps it unique."""
    words = re.sub("[^A-Z0-9]+", " ", label.name.upper())
    return f"L{label.value} {words.strip()}"[:16].strip()


def _notice_layer() -> Any:
    import highdicom as hd

    return hd.pr.GraphicLayer(
        layer_name=_NOTICE_LAYER, order=256, description="What these contours are"
    )


def _annotations(
    request: ResultRequest,
    label_map: LabelMap,
    shown: Sequence[int],
    references: Sequence[Dataset],
    layers: dict[int, Any],
) -> list[Dataset]:
    areas = voxels_by_slice(label_map)
    largest = {value: int(areas[:, value].argmax()) for value in layers}
    names = {label.value: long_string(label.name) for label in request.labels}
    annotations = []
    for index, reference in zip(shown, references, strict=True):
        for value in values_in(label_map[index]):
            loops = outlines(mask_of(label_map[index], value))
            annotation = _annotation(layers[value].GraphicLayer, [reference])
            annotation.GraphicObjectSequence = [
                _polyline(piece) for loop in loops for piece in _pieces(loop)
            ]
            if index == largest[value]:
                annotation.TextObjectSequence = [_name(names[value], loops[0])]
            annotations.append(annotation)
    return annotations


def _annotation(layer_name: str, references: Sequence[Dataset]) -> Dataset:
    """An item of Graphic Annotation Sequence (PS3.3 C.10.5) without its graphics.

    highdicom looks every referenced image up in its tables, which takes seconds on a long series.
    """
    from pydicom.dataset import Dataset

    annotation = Dataset()
    annotation.ReferencedImageSequence = references
    annotation.GraphicLayer = layer_name
    return annotation


def _pieces(points: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """An outline as polylines that fit their element: itself, or open ones end to end."""
    step = _MOST_POINTS - 1
    return [points[start : start + _MOST_POINTS] for start in range(0, len(points) - 1, step)]


def _polyline(points: npt.NDArray[np.float64]) -> Dataset:
    from pydicom.dataset import Dataset

    graphic = Dataset()
    graphic.GraphicAnnotationUnits = "PIXEL"
    graphic.GraphicDimensions = 2
    graphic.NumberOfGraphicPoints = len(points)
    graphic.GraphicData = points.ravel().tolist()
    graphic.GraphicType = "POLYLINE"
    graphic.GraphicFilled = "N"
    return graphic


def _name(name: str, points: npt.NDArray[np.float64]) -> Dataset:
    """The label's name, anchored at the topmost corner of the outline."""
    from pydicom.dataset import Dataset

    text = Dataset()
    text.AnchorPointAnnotationUnits = "PIXEL"
    text.UnformattedTextValue = name
    text.AnchorPoint = points[0].tolist()
    text.AnchorPointVisibility = "Y"
    return text


def _notice(request: ResultRequest, references: Sequence[Dataset]) -> Dataset:
    """What every image says at its top edge: whose result it is, and that nobody verified it."""
    from pydicom.dataset import Dataset

    mark = f"{DEMONSTRATION}. " if request.algorithm.demonstration else ""
    algorithm = f"{request.algorithm.name} {request.algorithm.version}"
    text = Dataset()
    text.BoundingBoxAnnotationUnits = "DISPLAY"
    text.UnformattedTextValue = f"{mark}AI result, not verified: {algorithm}"[:1024]
    text.BoundingBoxTopLeftHandCorner = [0.01, 0.01]
    text.BoundingBoxBottomRightHandCorner = [0.99, 0.05]
    text.BoundingBoxTextHorizontalJustification = "LEFT"
    annotation = _annotation(_NOTICE_LAYER, references)
    annotation.TextObjectSequence = [text]
    return annotation


def _construct(
    request: ResultRequest,
    referenced: Sequence[Dataset],
    layers: Sequence[Any],
    series_number: int,
    moment: datetime,
) -> Any:
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    equipment, algorithm = request.equipment, request.algorithm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.pr.GrayscaleSoftcopyPresentationState(
            referenced_images=referenced,
            series_instance_uid=request.identity.uid("presentation state.series"),
            series_number=series_number,
            sop_instance_uid=request.identity.uid("presentation state.instance"),
            instance_number=1,
            content_label="AI_CONTOURS",
            content_description=describe(algorithm.name, algorithm),
            content_creator_name=equipment.creator_name,
            graphic_layers=layers,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            series_description=describe(f"AI contours {algorithm.model_id}", algorithm),
            **authored(algorithm, equipment, moment),
        )


def _show_whole_images(state: Any, image: Dataset, frame: int | None) -> None:
    """The displayed area in the shape that the pixels have in the patient (PS3.3 C.10.4)."""
    area = state.DisplayedAreaSelectionSequence[0]
    area.pop("PixelOriginInterpretation", None)
    if spacing := pixel_spacing(image, frame):
        area.PresentationPixelSpacing = spacing
        del area.PresentationPixelAspectRatio


def _reference(image: Dataset, frame: int | None) -> Dataset:
    from pydicom.dataset import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID = image.SOPClassUID
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    if frame is not None:
        reference.ReferencedFrameNumber = frame
    return reference
