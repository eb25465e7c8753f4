"""The last look at a report on segments: do its numbers and outlines say what was computed?

A number of a segment is compared with what was measured of it, an outline with the mask that it
should enclose, and what a group calls its finding with the segment of the same tracking UID. A
report with its sides exchanged, or with an outline that is mirrored, shifted or on another slice,
is refused. Codes are those of the standard; what a template adds under other codes is not known
here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from scipy import ndimage

from ai_models.array.labels import Counts, mask_of, place_of, voxels_by_slice
from ai_models.types import LabelMap
from dicom_node.results.explicit_decoding import Part, items_of
from dicom_node.results.gate_reading import Given, read_back, refused
from dicom_node.results.report_numbers import SegmentMeasurement

Mask = npt.NDArray[np.bool_]

_GROUP, _TRACKING_UID, _FINDING, _LATERALITY = "125007", "112040", "121071", "272741003"
_COMMENT, _SUMMARY = "121106", "111017"
_SEGMENT, _AREA, _VOLUME = "121191", "42798000", "118565006"
_ATTENUATION, _DERIVATION, _MEAN, _DEVIATION = "112031", "121401", "373098007", "386136009"
# An outline of more has lost some of its corners, as one FL element holds 64 KB (up to half of it
# is left): then it must enclose the most of its segment, and one that is mirrored does not.
_WHOLE_POINTS = 8000


def check_findings(
    report: Given,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    measurements: Mapping[int, SegmentMeasurement],
    segmentation: Dataset,
    sizes: Counts | None = None,
) -> None:
    """Refuse a report whose groups do not say of each segment what was computed of it.

    Parameters
    ----------
    report
        Volumetric or planar, on a segmentation that has passed ``check_segmentation``.
    label_map
        ``(slices, rows, columns)`` of the model.
    measurements
        Label value to what was measured.
    sizes
        Those of ``voxels_by_slice(label_map)``, where they are known.

    Raises
    ------
    GateRefused
        ``gate.unreadable``; ``gate.labels``: a group is of no segment, or calls it something
        else, or a segment has no group; ``gate.number``; ``gate.contour``.
    """
    segments = {str(one.TrackingUID): one for one in segmentation.SegmentSequence}
    if sizes is None:
        sizes = voxels_by_slice(label_map)
    present = np.flatnonzero(sizes.any(axis=0)).tolist()
    values: dict[int, int] = dict(enumerate(present, start=1))
    told = set()
    for group in _groups(read_back(report)):
        numbers = _segment_numbers(group)
        if len(numbers) > 1:
            _check_measured(group, [measurements[values[number]] for number in numbers])
            continue
        segment = segments.get(_text(group, _TRACKING_UID))
        if segment is None or numbers - {int(segment.SegmentNumber)}:
            raise refused("labels", "a measurement group is not of the segment that it names")
        value = values[int(segment.SegmentNumber)]
        _check_name(group, segment)
        _check_measured(group, [measurements[value]])
        for region in _items_of_type(group, "SCOORD"):
            index = _slice_of(region, source_images, frame_numbers)
            if sizes[index, value] != sizes[:, value].max():
                raise refused("contour", "an outline is not on the largest section of its segment")
            _check_outline(_points(region), mask_of(label_map[index], value))
        told.add(value)
    if told != set(present):
        raise refused("labels", "a segment has no measurement group, or more than one name")


def check_text(report: Given, text: str) -> None:
    """Refuse a draft of a language model that is more, less or other than a draft of ``text``.

    Spaces and line breaks are not compared, and control characters are left out.

    Raises
    ------
    GateRefused
        ``gate.unreadable``; ``gate.text``: the text is not in the comments as it is, or stands
        there as more than a draft: as final, or with coded answers or measurements.
    """
    decoded = read_back(report)
    comments = "".join(str(one.TextValue) for one in _named(decoded, _COMMENT))
    words = _squeezed(text)
    if not words or words not in _squeezed(comments):
        raise refused("text", "the text of the model is not in the report as it is")
    if decoded.get("PreliminaryFlag") != "PRELIMINARY":
        raise refused("text", "the draft of a language model poses as final")
    if next(_named(decoded, _GROUP), None) is not None or _code(decoded, _SUMMARY):
        raise refused("text", "the draft of a language model has coded findings")


def _squeezed(text: str) -> str:
    return "".join(one for one in text if one.isprintable() and not one.isspace())


def _check_name(group: Part, segment: Dataset) -> None:
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence", [])
    side = str(modifiers[0].CodeValue) if modifiers else ""
    said = {name: _code(group, name) for name in (_FINDING, _LATERALITY)}
    if said != {_FINDING: str(kind.CodeValue), _LATERALITY: side}:
        raise refused("labels", "a measurement group calls its segment something else")


def _check_measured(group: Part, measured: Sequence[SegmentMeasurement]) -> None:
    for item in _items_of_type(group, "NUM"):
        name = str(item.ConceptNameCodeSequence[0].CodeValue)
        derivation = _code(item, _DERIVATION)
        if name == _VOLUME:
            expected = sum(one.volume_ml for one in measured)
        elif name == _ATTENUATION and len(measured) == 1 and derivation == _MEAN:
            expected = measured[0].mean_hu
        elif name == _ATTENUATION and len(measured) == 1 and derivation == _DEVIATION:
            expected = measured[0].standard_deviation_hu
        else:
            continue
        text = str(item.MeasuredValueSequence[0].NumericValue)
        decimals = len(text.partition(".")[2])
        if not abs(float(text) - expected) <= 0.5 * 10.0**-decimals + 1e-6 * abs(expected):
            raise refused("number", "a number of the report is not what was measured")


def _check_outline(points: npt.NDArray[np.float64], mask: Mask) -> None:
    """Refuse an outline of anything but the largest part of ``mask``, with its holes filled."""
    shown = _enclosed(points, mask.shape)
    # What surrounds both is of neither, and is not gone through.
    top, left, box = place_of((mask | shown).view(np.uint8))
    around = slice(top, top + box.shape[0]), slice(left, left + box.shape[1])
    mask, shown = mask[around], shown[around]
    parts, _ = ndimage.label(mask)
    areas = np.bincount(parts.ravel())[1:]
    allowed = 0 if len(points) < _WHOLE_POINTS // 2 else int(areas.max()) // 2
    differing = [
        # A hole ends at pixels that touch at a corner: what is outside gets in between them.
        int((ndimage.binary_fill_holes(parts == 1 + part, np.ones((3, 3))) != shown).sum())
        for part in np.flatnonzero(areas == areas.max())
    ]
    if min(differing) > allowed:
        raise refused("contour", f"an outline differs from its segment in {min(differing)} pixels")


def _enclosed(points: npt.NDArray[np.float64], shape: tuple[int, ...]) -> Mask:
    """Pixels whose centre the closed line goes around, by the even-odd rule."""
    if len(points) < 4 or (points[0] != points[-1]).any():
        raise refused("contour", "an outline is not closed")
    (x0, y0), (x1, y1) = points[:-1].T, points[1:].T
    centres = np.arange(shape[1]) + 0.5
    enclosed = np.zeros(shape, bool)
    first, last = math.floor(y0.min()), math.ceil(y0.max())
    for row in range(max(first, 0), min(last, shape[0])):
        middle = row + 0.5
        crosses = (y0 <= middle) != (y1 <= middle)
        rise = y1[crosses] - y0[crosses]
        places = x0[crosses] + (middle - y0[crosses]) * (x1[crosses] - x0[crosses]) / rise
        enclosed[row] = np.searchsorted(np.sort(places), centres) % 2 == 1
    return enclosed


def _slice_of(
    region: Part, source_images: Sequence[Dataset], frame_numbers: Sequence[int]
) -> int:
    (image,) = _items_of_type(region, "IMAGE")
    reference = image.ReferencedSOPSequence[0]
    frame = reference.get("ReferencedFrameNumber")
    several = len(source_images) > 1
    for index, number in enumerate(frame_numbers):
        source = source_images[index] if several else source_images[0]
        is_image = source.SOPInstanceUID == reference.ReferencedSOPInstanceUID
        if is_image and (frame is None or int(frame) == number):
            return index
    raise refused("contour", "an outline is not on an image of the source")


def _points(region: Part) -> npt.NDArray[np.float64]:
    """(column, row), 0, 0 at the outer corner of the first pixel (PS3.3 C.18.6.1.2)."""
    if region.GraphicType != "POLYLINE":
        raise refused("contour", "an outline is no polyline")
    return np.asarray(region.GraphicData, float).reshape(-1, 2)


def _segment_numbers(group: Part) -> set[int]:
    found: set[int] = set()
    for item in _named(group, _SEGMENT):
        numbers = item.ReferencedSOPSequence[0].ReferencedSegmentNumber
        found |= {int(numbers)} if isinstance(numbers, int) else {int(one) for one in numbers}
    return found


def _items(item: Part) -> Iterator[Part]:
    for child in items_of(item, "ContentSequence"):
        yield child
        yield from _items(child)


def _named(item: Part, code: str) -> Iterator[Part]:
    yield from (one for one in _items(item) if _is_named(one, code))


def _is_named(item: Part, code: str) -> bool:
    names = item.get("ConceptNameCodeSequence")
    return bool(names) and names[0].CodeValue == code


def _groups(report: Part) -> Iterator[Part]:
    """Measurement groups: containers (TID 1410, 1411), so that no image need be asked its name."""
    for one in _items(report):
        if one.ValueType == "CONTAINER" and _is_named(one, _GROUP):
            yield one


def _items_of_type(item: Part, value_type: str) -> list[Part]:
    return [one for one in _items(item) if one.ValueType == value_type]


def _code(item: Part, name: str) -> str:
    found = next(_named(item, name), None)
    return str(found.ConceptCodeSequence[0].CodeValue) if found is not None else ""


def _text(item: Part, name: str) -> str:
    found = next(_named(item, name), None)
    return str(found.UID) if found is not None else ""
