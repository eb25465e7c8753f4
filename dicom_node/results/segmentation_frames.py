"""Segmentations of many frames without an object for each: content as highdicom's, at its limits.

highdicom authors a skeleton of one pixel a frame: for the frames of an enhanced source that show
something, and for the first slice of a stack, from which the others follow (`segmentation_stack`).
What differs between the segments of a slice are two numbers in the functional groups of the frame,
and its pixels. The groups of a slice are encoded once and carry these two numbers for every
segment; pixels are packed straight from the label map. Cost and memory are those of the pixels
(``python -m bench segmentation``).
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import bit_of, is_overlapping
from ai_models.types import FloatArray, LabelMap
from dicom_node.errors import GateRefused, UnsuitableInput
from dicom_node.results.equipment import authored, describe
from dicom_node.results.finish import finish, local_time, set_dimension_organization
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation_stack import lay_over_stack

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

PROBABILITY_STEPS = 255
_PER_FRAME_FUNCTIONAL_GROUPS = 0x52009230
_PIXEL_DATA = 0x7FE00010
# Tag and VR as they stand in explicit VR little endian (PS3.5 7.1.2).
_ITEM = b"\xfe\xff\x00\xe0"
_DIMENSION_INDEX_VALUES = b"\x20\x00\x57\x91UL"
_REFERENCED_SEGMENT_NUMBER = b"\x62\x00\x0b\x00US"
_TAG_VR_LENGTH_BYTES = 8
_NUMBERS = {"US": "H", "UL": "I"}

Shown = tuple[int, int]
Occupancy = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Form:
    """One way to write a Segmentation: its type, what its UIDs derive from, and its title."""

    segmentation_type: str
    purpose: str
    title: str
    content_label: str


BINARY = Form("BINARY", "segmentation", "Segmentation", "AI_SEGMENTATION")
FRACTIONAL = Form("FRACTIONAL", "probability_map", "Probability map", "AI_PROBABILITY")
LABELMAP = Form("LABELMAP", "label_map", "Label map", "AI_SEGMENTATION")


def check_grid(shape: tuple[int, ...], request: ResultRequest) -> None:
    """Refuse what is not one plane per slice of the source, and a source whose planes lie nowhere.

    Raises
    ------
    GateRefused
        ``gate.shape``.
    UnsuitableInput
        ``input.no_frame_of_reference``: several planes without a place in the patient, as in a
        cine loop. A single image (a radiograph) needs none.
    """
    first = request.source_images[0]
    frames, slices = int(first.get("NumberOfFrames") or 1), len(request.frame_numbers)
    grid = (slices, int(first.Rows), int(first.Columns))
    single_frames = len(request.source_images) > 1 or frames == 1
    expected = len(request.source_images) if single_frames else slices
    if shape != grid or slices != expected or max(request.frame_numbers) > frames:
        raise GateRefused(f"the mask is {shape} where the source has {grid}", reason="gate.shape")
    placed = "ImagePositionPatient" if single_frames else "PerFrameFunctionalGroupsSequence"
    if placed not in first and max(frames, slices) > 1:
        raise UnsuitableInput(
            "the frames have no place in the patient: a segmentation could not be laid over them",
            reason="input.no_frame_of_reference",
        )


def build_frames(
    request: ResultRequest,
    sources: Sequence[Dataset],
    form: Form,
    segments: Sequence[Any],
    occupied: Occupancy,
    encode: Callable[[Sequence[Shown]], bytes],
    *,
    series_number: int,
    segments_overlap: bool = False,
) -> Dataset:
    """A Segmentation of the frames that ``occupied`` names.

    Parameters
    ----------
    sources
        ``normalise(request.source_images)``, not used after this.
    segments
        Items of the Segment Sequence, numbered from 1.
    occupied
        ``(slices, segments)``: which segment is shown on which slice; one column for LABELMAP.
    encode
        Gives the bytes of all frames, each named by its slice and its column of ``occupied``.
    segments_overlap
        Whether some pixel belongs to several segments, which the skeleton does not know.

    Returns
    -------
    Dataset
        Per-frame Functional Groups encoded already: they become objects when they are read.
    """
    from pydicom.dataset import Dataset
    from pydicom.filewriter import correct_ambiguous_vr

    rows, columns = int(sources[0].Rows), int(sources[0].Columns)
    moment = local_time(request.created_at, sources[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skeleton = _skeleton(request, sources, form, segments, occupied, series_number, moment)
        encoded = {
            index: _encoded_item(group)
            for index, group in _groups_of_slices(skeleton, request, sources, occupied)
        }
    frames = [
        (index, column)
        for column in range(occupied.shape[1])
        for index in encoded
        if occupied[index, column]
    ]
    result = Dataset()
    result.update(skeleton[:_PER_FRAME_FUNCTIONAL_GROUPS])
    result.file_meta = skeleton.file_meta
    result.Rows, result.Columns, result.NumberOfFrames = rows, columns, len(frames)
    correct_ambiguous_vr(result, True)
    _add_encoded(result, _groups_of_frames(encoded, frames, several=occupied.shape[1] > 1))
    result.add_new(_PIXEL_DATA, "OB", encode(frames))
    if segments_overlap:
        result.SegmentsOverlap = "YES"
    set_dimension_organization(result, request.identity.uid(f"{form.purpose}.dimensions"))
    if "ImagePositionPatient" not in sources[0] and "PatientOrientation" in sources[0]:
        result.PatientOrientation = sources[0].PatientOrientation
    return finish(result, sources[0], request.equipment, moment)


def pack_bits(label_map: LabelMap, values: Sequence[int], frames: Sequence[Shown]) -> bytes:
    """Frames of one bit a pixel without padding between them (PS3.5 8.1.1), of BINARY.

    ``values`` are the label values of the columns. Eight frames together always fill whole bytes.
    """
    pixels = label_map[0].size
    batch = np.empty((8, pixels), bool)
    overlapping = is_overlapping(label_map)

    def parts() -> Iterator[memoryview]:
        for start in range(0, len(frames), 8):
            chosen = frames[start : start + 8]
            for bits, (index, column) in zip(batch, chosen, strict=False):
                plane = label_map[index].reshape(-1)
                if overlapping:
                    np.not_equal(plane & bit_of(values[column]), 0, out=bits)
                else:
                    np.equal(plane, values[column], out=bits)
            yield np.packbits(batch[: len(chosen)], bitorder="little").data

    return _collected(parts(), -(-len(frames) * pixels // 8))


def pack_probabilities(maps: Sequence[FloatArray], frames: Sequence[Shown]) -> bytes:
    """Frames of one byte a pixel, probability times ``PROBABILITY_STEPS``, of FRACTIONAL."""
    steps = np.float32(PROBABILITY_STEPS)
    parts = (np.rint(maps[column][index] * steps).astype(np.uint8).data for index, column in frames)
    return _collected(parts, len(frames) * maps[0][0].size)


def pack_numbers(label_map: LabelMap, numbers: dict[int, int], frames: Sequence[Shown]) -> bytes:
    """Frames of one byte a pixel, segment numbers, of LABELMAP."""
    table = np.zeros(256, np.uint8)
    table[list(numbers)] = list(numbers.values())
    parts = (table[label_map[index]].data for index, _ in frames)
    return _collected(parts, len(frames) * label_map[0].size)


def is_probable(values: FloatArray) -> bool:
    """Whether some value is large enough to be shown at all."""
    return bool(values.max(initial=0.0) >= 1.0 / PROBABILITY_STEPS)


def _collected(parts: Iterable[memoryview], size_bytes: int) -> bytes:
    """All parts, of an even length (PS3.5 8.2).

    Room for all is made at once: what grows is copied, and leaves its smaller selves in memory.
    """
    collected = io.BytesIO()
    collected.seek(size_bytes + size_bytes % 2 - 1)
    collected.write(b"\0")
    collected.seek(0)
    for part in parts:
        collected.write(part)
    return collected.getvalue()


def _skeleton(
    request: ResultRequest,
    sources: Sequence[Dataset],
    form: Form,
    segments: Sequence[Any],
    occupied: Occupancy,
    series_number: int,
    moment: Any,
) -> Any:
    """What highdicom makes of one pixel a slice, all in the first segment.

    Of a stack the first slice alone: ``lay_over_stack`` describes the others.
    """
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    first = sources[0]
    first.Rows = first.Columns = 1
    if "PerFrameFunctionalGroupsSequence" in first:
        # An object with several moments has every place more than once: only those frames that
        # the result lies on are handed over. Which they were, `_groups_of_slices` says.
        groups = first.PerFrameFunctionalGroupsSequence
        first.PerFrameFunctionalGroupsSequence = [
            groups[number - 1] for number in request.frame_numbers
        ]
        first.NumberOfFrames = len(request.frame_numbers)
    algorithm, equipment, identity = request.algorithm, request.equipment, request.identity
    return hd.seg.Segmentation(
        source_images=[first],
        pixel_array=_pixel_per_slice(first, occupied, form),
        segmentation_type=form.segmentation_type,
        segment_descriptions=segments,
        series_instance_uid=identity.uid(f"{form.purpose}.series"),
        series_number=series_number,
        sop_instance_uid=identity.uid(f"{form.purpose}.instance"),
        instance_number=1,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        max_fractional_value=PROBABILITY_STEPS,
        omit_empty_frames=True,
        content_label=form.content_label,
        content_description=describe(algorithm.name, algorithm),
        content_creator_name=equipment.creator_name,
        series_description=describe(f"{form.title} {algorithm.model_id}", algorithm),
        content_date=moment.date(),
        content_time=moment.time(),
        **authored(algorithm, equipment, moment),
    )


def _pixel_per_slice(
    source: Dataset, occupied: Occupancy, form: Form
) -> npt.NDArray[Any]:
    """1 where a frame of the source shows something."""
    planes: npt.NDArray[np.uint8] = np.ones(1, np.uint8)
    if "PerFrameFunctionalGroupsSequence" in source:
        planes = np.asarray(occupied.any(axis=1), dtype=np.uint8)
    if form.segmentation_type != "FRACTIONAL":
        return planes.reshape(-1, 1, 1)
    of_segments = np.zeros((len(planes), 1, 1, occupied.shape[1]), np.float32)
    of_segments[:, 0, 0, 0] = planes
    return of_segments


def _groups_of_slices(
    skeleton: Any, request: ResultRequest, sources: Sequence[Dataset], occupied: Occupancy
) -> Iterator[tuple[int, Dataset]]:
    """Every slice that shows something with its functional groups, in the order of its index."""
    if len(sources) > 1:
        shown = np.flatnonzero(occupied.any(axis=1)).tolist()
        yield from lay_over_stack(skeleton, sources, shown, of_one_segment=occupied.shape[1] == 1)
        return
    for group in skeleton.PerFrameFunctionalGroupsSequence:
        origin = group.DerivationImageSequence[0].SourceImageSequence[0]
        index = int(origin.get("ReferencedFrameNumber", 1)) - 1
        if "ReferencedFrameNumber" in origin:
            origin.ReferencedFrameNumber = request.frame_numbers[index]
        yield index, group


def _encoded_item(item: Dataset) -> bytes:
    """An item in explicit VR little endian, of the few VRs that functional groups hold here."""
    content = b"".join(_encoded_element(element) for element in item)
    return _ITEM + struct.pack("<I", len(content)) + content


def _encoded_element(element: DataElement) -> bytes:
    head = struct.pack("<HH2s", element.tag.group, element.tag.element, element.VR.encode())
    if element.VR == "SQ":
        items = b"".join(_encoded_item(item) for item in element.value)
        return head + struct.pack("<HI", 0, len(items)) + items
    values = element.value if element.VM > 1 else [element.value]
    if element.VR in _NUMBERS:
        content = struct.pack(f"<{len(values)}{_NUMBERS[element.VR]}", *values)
    else:
        content = "\\".join(str(value) for value in values).encode("utf-8")
        content += (b"\0" if element.VR == "UI" else b" ") * (len(content) % 2)
    return head + struct.pack("<H", len(content)) + content


def _groups_of_frames(
    encoded: dict[int, bytes], frames: Sequence[Shown], *, several: bool
) -> bytes:
    """The items of all frames, each that of its slice with the number of its own segment.

    A single segment is named in the shared groups, and its dimension index is 1 already.
    """
    if not several:
        return b"".join(encoded[index] for index, _ in frames)
    groups = bytearray()
    for index, column in frames:
        item = encoded[index]
        start = len(groups) + _TAG_VR_LENGTH_BYTES
        groups += item
        struct.pack_into("<I", groups, start + item.index(_DIMENSION_INDEX_VALUES), column + 1)
        struct.pack_into("<H", groups, start + item.index(_REFERENCED_SEGMENT_NUMBER), column + 1)
    return bytes(groups)


def _add_encoded(result: Dataset, groups: bytes) -> None:
    """Add the encoded sequence, and say how, so that it is written again as it stands."""
    from pydicom.charset import convert_encodings
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    tag = Tag(_PER_FRAME_FUNCTIONAL_GROUPS)
    result[tag] = RawDataElement(tag, "SQ", len(groups), groups, 0, False, True)
    result.set_original_encoding(False, True, convert_encodings("ISO_IR 192"))
