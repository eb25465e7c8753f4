"""The last look at pictures and presentation states: do they show the mask, on the right slice?

Everything is read from the encoded bytes, without the libraries that wrote or drew it. Contours
are compared with masks pixel by pixel, so a mirrored, shifted or exchanged one refuses the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.array.labels import bit_of, is_overlapping, mask_of, voxels_by_slice
from ai_models.types import Label, LabelMap
from dicom_node.results.drawing import contour_colors, line_width
from dicom_node.results.equipment import long_string
from dicom_node.results.gate_reading import check_identity, read_back, refused

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"

Object = Dataset | bytes | Path
Mask = npt.NDArray[np.bool_]


def check_secondary_captures(
    objects: Sequence[Object],
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    labels: Sequence[Label],
) -> None:
    """Refuse pictures whose contours are not the rims of the mask on the slice they name.

    Parameters
    ----------
    objects
        All of one result, as `secondary_capture.build_secondary_captures` returned them.
    source_images, frame_numbers
        As they went into the builder, before any repair.
    label_map
        ``(slices, rows, columns)`` of the model.

    Raises
    ------
    GateRefused
        ``gate.unreadable``; ``gate.reference``: patient, study, series or source; ``gate.shape``:
        smaller than the source, or no RGB; ``gate.contour``: a contour is not the rim of its
        label, or colour lies elsewhere; ``gate.labels``: the largest section of a label is not
        among the pictures.
    """
    decoded = [read_back(one) for one in objects]
    shown = check_captures(decoded, source_images, frame_numbers)
    colors = contour_colors(labels)
    for capture, index in zip(decoded, shown, strict=True):
        _check_contours(_pixels(capture), label_map[index], colors)
    sizes = voxels_by_slice(label_map)
    for value in np.flatnonzero(sizes.any(axis=0)):
        areas = sizes[:, value]
        if not any(areas[index] == areas.max() for index in shown):
            raise refused("labels", f"the largest section of label {value} is not shown")


def check_captures(
    objects: Sequence[Object], source_images: Sequence[Dataset], frame_numbers: Sequence[int]
) -> list[int]:
    """Refuse captures of another patient, or that do not say which slice each one shows.

    Returns the slice of each capture; they must be in slice order for contours, in any for others.

    Raises
    ------
    GateRefused
        ``gate.unreadable`` or ``gate.reference``.
    """
    decoded = [read_back(one) for one in objects]
    for number, capture in enumerate(decoded, start=1):
        check_identity(capture, source_images)
        if (
            capture.SOPClassUID != _SECONDARY_CAPTURE
            or list(capture.ImageType)[:2] != ["DERIVED", "SECONDARY"]
            or int(capture.InstanceNumber) != number
        ):
            raise refused("reference", "a picture is no derived capture, or out of order")
    if len({str(capture.SeriesInstanceUID) for capture in decoded}) > 1:
        raise refused("reference", "the pictures of one result are in several series")
    slices = _slices(source_images, frame_numbers)
    return [_slice(capture.get("SourceImageSequence", []), slices) for capture in decoded]


def check_notice_page(page: Object, source_images: Sequence[Dataset]) -> None:
    """Refuse (``gate.reference``) a page of text of another patient, or one that poses as a
    picture of a source image."""
    decoded = read_back(page)
    check_identity(decoded, source_images)
    if decoded.SOPClassUID != _SECONDARY_CAPTURE or "SourceImageSequence" in decoded:
        raise refused("reference", "the page is no capture, or names a source image")


def check_presentation_state(
    state: Object,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    labels: Sequence[Label],
) -> None:
    """Refuse a presentation state whose outlines do not enclose the mask.

    On every slice the outlines of a label's layer, filled by the even-odd rule, must be its mask;
    a slice or a label without outlines must have none in the mask.

    Raises
    ------
    GateRefused
        ``gate.unreadable``; ``gate.reference``; ``gate.labels``: a layer for no label;
        ``gate.contour``: an outline is no closed line along pixel edges, or encloses other pixels.
    """
    decoded = read_back(state)
    check_identity(decoded, source_images)
    if decoded.SOPClassUID != _PRESENTATION_STATE:
        raise refused("reference", "the result is no grayscale presentation state")
    _check_referenced_series(decoded, source_images)
    slices = _slices(source_images, frame_numbers)
    outlines = _outlines(decoded, _values_of_layers(decoded, labels), slices)
    for index, section in enumerate(label_map):
        shown = _filled(outlines.get(index, {}), section)
        differing = int((shown != section).sum())
        if differing:
            raise refused("contour", f"outlines differ from the mask in {differing} pixels")


def check_pdf(document: Object, source_images: Sequence[Dataset], *, demonstration: bool) -> None:
    """Refuse a document of another patient, one that is no PDF, or that does not say what it is.

    Raises
    ------
    GateRefused
        ``gate.unreadable``; ``gate.reference``; ``gate.pdf``: no whole PDF, or wrongly marked.
    """
    decoded = read_back(document)
    check_identity(decoded, source_images)
    content = bytes(decoded.get("EncapsulatedDocument") or b"")
    if decoded.SOPClassUID != _ENCAPSULATED_PDF:
        raise refused("reference", "the result is no encapsulated PDF")
    if (
        decoded.get("MIMETypeOfEncapsulatedDocument") != "application/pdf"
        or not content.startswith(b"%PDF-")
        or b"%%EOF" not in content[-16:]
        or int(decoded.get("EncapsulatedDocumentLength", -1))
        not in (len(content), len(content) - 1)
    ):
        raise refused("pdf", "the encapsulated document is no whole PDF")
    title = str(decoded.get("DocumentTitle", ""))
    if decoded.get("BurnedInAnnotation") != "YES" or decoded.get("VerificationFlag") == "VERIFIED":
        raise refused("pdf", "the document hides that it names the patient, or poses as verified")
    if demonstration and not title.startswith("DEMONSTRATION"):
        raise refused("pdf", "the document does not say that it is a demonstration")


def _slices(
    source_images: Sequence[Dataset], frame_numbers: Sequence[int]
) -> dict[tuple[str, int | None], int]:
    """(SOP Instance UID, frame or ``None``) to the slice that shows it."""
    first = source_images[0]
    if len(source_images) == 1 and int(first.get("NumberOfFrames") or 1) > 1:
        uid = str(first.SOPInstanceUID)
        return {(uid, int(frame)): index for index, frame in enumerate(frame_numbers)}
    return {(str(image.SOPInstanceUID), None): index for index, image in enumerate(source_images)}


def _slice(references: Sequence[Dataset], slices: Mapping[tuple[str, int | None], int]) -> int:
    if len(references) != 1:
        raise refused("reference", "a picture does not name exactly one source image")
    frame = references[0].get("ReferencedFrameNumber")
    key = (str(references[0].ReferencedSOPInstanceUID), None if frame is None else int(frame))
    if key not in slices:
        raise refused("reference", "a picture names an image that is no slice of the source")
    return slices[key]


def _pixels(capture: Dataset) -> npt.NDArray[np.uint8]:
    rows, columns = int(capture.Rows), int(capture.Columns)
    size = rows * columns * 3
    described = (
        capture.get("PhotometricInterpretation") == "RGB"
        and capture.get("PlanarConfiguration") == 0
        and capture.get("BitsAllocated") == 8
    )
    if not described or len(capture.PixelData) not in (size, size + 1):
        raise refused("shape", "a picture is no 8 bit RGB image of its size")
    return np.frombuffer(capture.PixelData, np.uint8, size).reshape(rows, columns, 3)


def _check_contours(
    pixels: npt.NDArray[np.uint8], section: LabelMap, colors: Mapping[int, Any]
) -> None:
    rows, columns = section.shape
    if pixels.shape[0] < rows or pixels.shape[1] < columns:
        raise refused("shape", "a picture is smaller than its source image")
    picture = pixels[:rows, :columns]
    width = line_width(rows, columns)
    if is_overlapping(section):
        rim, wanted = _rims_of_each(section, width, colors)
    else:
        rim = _rim(section, width)
        wanted = _table(colors)[section]
    if (picture[rim] != wanted[rim]).any():
        raise refused("contour", "the contour of a label is not the rim of its mask")
    if (picture[~rim] != picture[~rim][:, :1]).any():
        raise refused("contour", "something in colour is drawn that is no contour")


def _table(colors: Mapping[int, Any]) -> npt.NDArray[np.uint8]:
    table = np.zeros((256, 3), np.uint8)
    for value, color in colors.items():
        table[value] = color
    return table


def _rims_of_each(
    section: LabelMap, width: int, colors: Mapping[int, Any]
) -> tuple[Mask, npt.NDArray[np.uint8]]:
    """The rims of labels that share pixels, and the colour seen there: that of the last label."""
    wanted = np.zeros((*section.shape, 3), np.uint8)
    rims = np.zeros(section.shape, bool)
    for value, color in colors.items():
        rim = _rim(mask_of(section, value).astype(np.uint8), width)
        wanted[rim] = color
        rims |= rim
    return rims, wanted


def _rim(section: LabelMap, width: int) -> Mask:
    """Pixels of a label from which a walk of ``width`` along rows and columns leaves it."""
    padded = np.pad(section, width)
    near = np.zeros(section.shape, bool)
    rows, columns = section.shape
    for down in range(-width, width + 1):
        reach = width - abs(down)
        for across in range(-reach, reach + 1):
            top, left = width + down, width + across
            near |= padded[top : top + rows, left : left + columns] != section
    return np.asarray(near & (section > 0))


def _check_referenced_series(decoded: Dataset, source_images: Sequence[Dataset]) -> None:
    known = {str(image.SOPInstanceUID) for image in source_images}
    series = decoded.get("ReferencedSeriesSequence", [])
    listed = [
        str(i.ReferencedSOPInstanceUID) for one in series for i in one.ReferencedImageSequence
    ]
    if [str(one.SeriesInstanceUID) for one in series] != [str(source_images[0].SeriesInstanceUID)]:
        raise refused("reference", "the presentation state does not refer to the source series")
    used = {
        str(image.ReferencedSOPInstanceUID)
        for annotation in decoded.get("GraphicAnnotationSequence", [])
        for image in annotation.get("ReferencedImageSequence", [])
    }
    if not set(listed) <= known or not used <= set(listed) or len(set(listed)) != len(listed):
        raise refused("reference", "the presentation state refers to images it does not list")


def _values_of_layers(decoded: Dataset, labels: Sequence[Label]) -> dict[str, int]:
    """Graphic layer to label value: its name begins with L and that, its description is the
    label's name."""
    names = {label.value: long_string(label.name) for label in labels}
    values = {}
    for layer in decoded.get("GraphicLayerSequence", []):
        number = re.match(r"L(\d+)\b", str(layer.GraphicLayer))
        if number and names.get(int(number[1])) == layer.get("GraphicLayerDescription"):
            values[str(layer.GraphicLayer)] = int(number[1])
    return values


def _outlines(
    decoded: Dataset,
    values: Mapping[str, int],
    slices: Mapping[tuple[str, int | None], int],
) -> dict[int, dict[int, list[Dataset]]]:
    """The graphics of each label on each slice."""
    outlines: dict[int, dict[int, list[Dataset]]] = {}
    for annotation in decoded.get("GraphicAnnotationSequence", []):
        graphics = annotation.get("GraphicObjectSequence", [])
        if graphics:
            value = values.get(str(annotation.GraphicLayer))
            if value is None:
                raise refused("labels", "outlines lie in a layer that is of no label")
            index = _slice(annotation.ReferencedImageSequence, slices)
            outlines.setdefault(index, {}).setdefault(value, []).extend(graphics)
    return outlines


def _filled(outlines: Mapping[int, Sequence[Dataset]], section: LabelMap) -> LabelMap:
    """The label map that the outlines of one slice enclose, of the kind of ``section``."""
    shown = np.zeros_like(section)
    for value, graphics in outlines.items():
        (row, column), enclosed = _enclosed(graphics, section.shape)
        place = shown[row : row + enclosed.shape[0], column : column + enclosed.shape[1]]
        if is_overlapping(section):
            place[enclosed] |= bit_of(value)
            continue
        if place[enclosed].any():
            raise refused("contour", "the outlines of two labels enclose the same pixels")
        place[enclosed] = value
    return shown


def _enclosed(graphics: Sequence[Dataset], shape: tuple[int, ...]) -> tuple[tuple[int, int], Mask]:
    """Pixels that lie right of an odd number of upright edges (the even-odd rule).

    Returns the (row, column) of the first pixel of a rectangle, and the mask in it.
    """
    edges = np.concatenate([_upright_edges(graphic, shape) for graphic in graphics])
    if not len(edges):
        raise refused("contour", "an outline encloses nothing")
    top, left = int(edges[:, 1].min()), int(edges[:, 0].min())
    rows, columns = int(edges[:, 2].max()) - top, int(edges[:, 0].max()) - left
    changes = np.zeros((rows + 1, columns + 1), np.int32)
    np.add.at(changes, (edges[:, 1] - top, edges[:, 0] - left), 1)
    np.add.at(changes, (edges[:, 2] - top, edges[:, 0] - left), -1)
    crossings = np.cumsum(np.cumsum(changes, axis=0)[:-1], axis=1) % 2 == 1
    # Beyond its last edge an outline that closes has been crossed an even number of times.
    if crossings[:, -1].any():
        raise refused("contour", "an outline is not closed")
    return (top, left), crossings[:, :-1]


def _upright_edges(graphic: Dataset, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """(column, first row, row behind the last) of the edges that run along a column."""
    if graphic.GraphicType != "POLYLINE" or graphic.GraphicAnnotationUnits != "PIXEL":
        raise refused("contour", "an outline is no polyline in pixels")
    points = np.asarray(graphic.GraphicData, float).reshape(-1, 2)
    corners = np.rint(points).astype(np.int64)
    steps = np.diff(corners, axis=0)
    if (
        (corners < 0).any()
        or (corners > shape[::-1]).any()
        or np.abs(points - corners).max() > 1e-3
        or (steps != 0).all(axis=1).any()
    ):
        raise refused("contour", "an outline does not run along pixel edges of its image")
    starts, ends = corners[:-1][steps[:, 1] != 0], corners[1:][steps[:, 1] != 0]
    low, high = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    return np.stack([starts[:, 0], low, high], axis=1)
