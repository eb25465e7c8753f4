"""What hospitals send, made fit to be carried into results, before highdicom sees it.

Only copies are changed. A value that was valid is carried unchanged; a value that cannot be
written is repaired where its meaning is plain and emptied where it is not; a series that cannot
carry a result at all is refused. Every repair is told in a note that names the attribute and
never its value.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import config
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID
from pydicom.valuerep import VR

from dicom_node.errors import UnsuitableInput
from dicom_node.results.header_text import TEXT_VRS, decoded, defined_terms
from dicom_node.results.header_values import (
    is_valid_uid,
    repaired_date,
    repaired_sex,
    repaired_time,
)


def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


Note = Callable[[str], object]

_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_PER_SLICE = frozenset(
    _tag(keyword)
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "InstanceNumber",
        "ImagePositionPatient",
        "PixelSpacing",
        "SliceThickness",
        "SpacingBetweenSlices",
        "Rows",
        "Columns",
        "FrameOfReferenceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "PatientID",
    )
)
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_MUST_AGREE = {
    "PatientID": "input.mixed_patients",
    "StudyInstanceUID": "input.mixed_studies",
    "SeriesInstanceUID": "input.mixed_series",
    "FrameOfReferenceUID": "input.mixed_frame_of_reference",
    "Rows": "input.mixed_matrix",
    "Columns": "input.mixed_matrix",
}
_FUNCTIONAL_GROUPS = frozenset(
    _tag(keyword)
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
)
_PIXELS = frozenset(
    _tag(keyword) for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
)
_LOSSY_METHOD = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
# Characters of text whose length is written in 16 bits (PS3.5 tables 6.2-1 and 7.1-2).
_LONGEST = {"LO": 64, "LT": 10240, "PN": 64, "SH": 16, "ST": 1024}
_MOST_BYTES = 0xFFFE
_AGE = re.compile(r"\d{3}[DWMY]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DIRECTION_TOLERANCE = 1e-3
_SPACING_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Repaired:
    """What `normalise` makes of ``source_images``, for all results that are built from them."""

    source_images: Sequence[Dataset]
    images: Sequence[Dataset]
    notes: tuple[str, ...] = ()

    def copies(self) -> list[Dataset]:
        """The images for one more result: the first, which builders change, is a copy."""
        first = self.images[0]
        copied = Dataset({tag: _copied(element) for tag, element in first.items()})
        copied.file_meta = copy.deepcopy(first.file_meta)
        return [copied, *self.images[1:]]


def repaired(source_images: Sequence[Dataset]) -> Repaired:
    """See `normalise`, whose errors it raises."""
    return Repaired(source_images, *normalise(source_images))


def _copied(element: DataElement | RawDataElement) -> DataElement | RawDataElement:
    """A copy whose value can be replaced; of functional groups, which may be many, no more."""
    if element.VR == VR.SQ and element.tag not in _FUNCTIONAL_GROUPS:
        return copy.deepcopy(element)
    return copy.copy(element)


def normalise(
    source_images: Sequence[Dataset], *, is_uid: Callable[[str], bool] = is_valid_uid
) -> tuple[list[Dataset], tuple[str, ...]]:
    """Copies of ``source_images`` that can carry a result, and notes on what was repaired.

    The first copy is complete; the others hold what describes patient, study and series (the
    first one's) and what places their slice (their own). No copy holds pixel data or private
    attributes; text is Unicode and ``SpecificCharacterSet`` is ``ISO_IR 192``.

    Orientations that differ by at most 1e-3 in a direction cosine (0.26 mm over a slice of
    512 x 0.5 mm) are set to the first slice's; pixel spacings may differ by 1e-3 of themselves.
    ``is_uid`` decides what is taken for a UID.

    Raises
    ------
    UnsuitableInput
        ``input.empty``, ``input.invalid_uid``, ``input.no_frame_of_reference``,
        ``input.mixed_pixel_spacing``, ``input.mixed_orientation`` or one of
        ``input.mixed_patients|studies|series|frame_of_reference|matrix``.
    """
    if not source_images:
        raise UnsuitableInput("a result needs at least one source image", reason="input.empty")
    notes: dict[str, None] = {}
    first = _normalised_first(source_images, notes.setdefault)
    shared = {tag: element for tag, element in first.items() if tag not in _PER_SLICE}
    others = [_normalised_slice(image, shared, notes) for image in source_images[1:]]
    copies = [first, *others]
    _check_uids(copies, is_uid)
    _check_agreement(copies)
    _check_spacing(copies)
    _snap_orientation(copies, source_images, notes)
    _fill_thickness(copies, notes)
    return copies, tuple(notes)


def _normalised_first(source_images: Sequence[Dataset], note: Note) -> Dataset:
    source = source_images[0]
    terms, corrected = defined_terms(_declared_character_set(source))
    if corrected:
        note("SpecificCharacterSet is not a defined term: read as the nearest one")
    first = _cleaned(source, terms, note)
    first.file_meta = copy.deepcopy(_file_meta(source))
    first.SpecificCharacterSet = "ISO_IR 192"
    _fill_sop_class(first, first.file_meta, note)
    for keyword in _TYPE_2:
        if keyword not in first:
            setattr(first, keyword, "")
            note(f"{keyword} absent: added empty")
    sex = repaired_sex(str(first.PatientSex or ""))
    if sex != (first.PatientSex or ""):
        note("PatientSex is not M, F or O: changed or emptied")
        first.PatientSex = sex
    _complete_lossy(first, source_images, note)
    return first


def _normalised_slice(
    image: Dataset,
    shared: Mapping[BaseTag, DataElement | RawDataElement],
    notes: dict[str, None],
) -> Dataset:
    normalised = Dataset(dict(shared))
    for tag in _PER_SLICE:
        if tag in image:
            normalised[tag] = copy.copy(image[tag])
    normalised.file_meta = copy.copy(_file_meta(image))
    _fill_sop_class(normalised, normalised.file_meta, notes.setdefault)
    return normalised


def _cleaned(source: Dataset, terms: Sequence[str], note: Note) -> Dataset:
    cleaned = Dataset()
    for tag, found in source.items():
        if tag in _PIXELS:
            continue
        if tag.is_private:
            note("private attributes: removed")
            continue
        element = _cleaned_element(source, tag, found, terms, note)
        if element is not None:
            cleaned[tag] = element
    return cleaned


def _cleaned_element(
    source: Dataset,
    tag: BaseTag,
    element: DataElement | RawDataElement,
    terms: Sequence[str],
    note: Note,
) -> DataElement | RawDataElement | None:
    known = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
    vr = str(element.VR or known)
    if known in TEXT_VRS and vr not in TEXT_VRS:
        note(f"{keyword_for_tag(tag)} is not encoded as text: read as text")
        value = element.value if isinstance(element, RawDataElement) and vr != VR.SQ else b""
        vr, element = known, RawDataElement(tag, known, 0, value, 0, False, True)
    if vr == VR.SQ and tag not in _FUNCTIONAL_GROUPS:
        items = [_cleaned(item, terms, note) for item in source[tag].value]
        for item in items:
            item.pop(_tag("SpecificCharacterSet"), None)
        return DataElement(tag, "SQ", DicomSequence(items))
    if vr in TEXT_VRS:
        return _text_element(element, vr, terms, note)
    if vr in (VR.DA, VR.TM):
        return _date_or_time(element, vr, note)
    if vr in (VR.DS, VR.IS, VR.AS) and not _is_readable(source, tag, vr):
        note(f"{keyword_for_tag(tag)} is malformed: left out")
        return None
    # Assigning to an attribute changes its element in place, so none is shared with the source.
    return copy.copy(element)


def _is_readable(source: Dataset, tag: BaseTag, vr: str) -> bool:
    """Whether a number or an age is one (PS3.5 6.2), so that it can be written again."""
    try:
        parts = [part.strip(" \0") for part in _joined(source[tag].value).split("\\")]
    except (ValueError, TypeError, OverflowError):
        return False
    form = _AGE if vr == VR.AS else _NUMBER
    return all(not part or form.fullmatch(part) for part in parts)


def _text_element(
    element: DataElement | RawDataElement, vr: str, terms: Sequence[str], note: Note
) -> DataElement:
    if isinstance(element, RawDataElement):
        text, of_declared_set = decoded(bytes(element.value or b""), vr, terms)
        if not of_declared_set:
            note("text is not of the declared SpecificCharacterSet: read as UTF-8 or Latin-1")
    else:
        text = _joined(element.value)
    if vr in _LONGEST and len(text.encode("utf-8", "replace")) > _MOST_BYTES:
        text = text[: _LONGEST[vr]]
        note(f"{keyword_for_tag(element.tag)} is too long to be written: cut off")
    parts = text.split("\\") if vr in ("LO", "SH", "PN", "UC") else [text]
    value = parts if len(parts) > 1 else text
    return DataElement(element.tag, vr, value, validation_mode=config.IGNORE)


def _date_or_time(element: DataElement | RawDataElement, vr: str, note: Note) -> DataElement:
    value = element.value
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else _joined(value)
    texts = [part.strip(" \0") for part in text.split("\\")]
    repaired = [(repaired_date if vr == VR.DA else repaired_time)(part) for part in texts]
    if repaired != texts:
        note(f"{keyword_for_tag(element.tag)} is malformed: repaired or emptied")
    return DataElement(element.tag, vr, repaired if len(repaired) > 1 else repaired[0])


def _joined(value: Any) -> str:
    """The text of a decoded element, several values joined as they are in a file."""
    if isinstance(value, (list, tuple, MultiValue)):
        return "\\".join(str(part) for part in value)
    return "" if value is None else str(value)


def _file_meta(source: Dataset) -> FileMetaDataset:
    file_meta = getattr(source, "file_meta", None)
    return file_meta if file_meta is not None else FileMetaDataset()


def _declared_character_set(source: Dataset) -> list[str]:
    declared = source.get("SpecificCharacterSet")
    if declared is None or declared == "":
        return []
    return [declared] if isinstance(declared, str) else [str(value) for value in declared]


def _fill_sop_class(dataset: Dataset, file_meta: Dataset, note: Note) -> None:
    if dataset.get("SOPClassUID"):
        return
    uid = file_meta.get("MediaStorageSOPClassUID")
    if uid:
        dataset.SOPClassUID = UID(str(uid))
        note("SOPClassUID absent or empty: taken from the file meta information")


def _complete_lossy(first: Dataset, source_images: Sequence[Dataset], note: Note) -> None:
    if not any(image.get("LossyImageCompression") == "01" for image in source_images):
        return
    first.LossyImageCompression = "01"
    syntax = str(first.file_meta.get("TransferSyntaxUID", ""))
    if not first.get("LossyImageCompressionMethod"):
        first.LossyImageCompressionMethod = _LOSSY_METHOD.get(syntax, "UNKNOWN")
        note("LossyImageCompressionMethod absent: taken from the transfer syntax, or UNKNOWN")
    if not first.get("LossyImageCompressionRatio"):
        first.LossyImageCompressionRatio = "1"
        note("LossyImageCompressionRatio absent: unknown, written as 1")


def _check_uids(copies: Sequence[Dataset], is_uid: Callable[[str], bool]) -> None:
    for dataset in copies:
        for keyword in (*_UIDS, "FrameOfReferenceUID"):
            value = str(dataset.get(keyword) or "")
            if keyword == "FrameOfReferenceUID" and not value:
                continue
            if not is_uid(value):
                raise UnsuitableInput(
                    f"{keyword} is absent or not a UID (PS3.5 9.1)", reason="input.invalid_uid"
                )
        if "ImagePositionPatient" in dataset and not dataset.get("FrameOfReferenceUID"):
            raise UnsuitableInput(
                "FrameOfReferenceUID is absent: a result could not be placed in the patient",
                reason="input.no_frame_of_reference",
            )


def _check_agreement(copies: Sequence[Dataset]) -> None:
    for keyword, reason in _MUST_AGREE.items():
        if len({str(dataset.get(keyword, "")) for dataset in copies}) > 1:
            raise UnsuitableInput(f"{keyword} differs between the slices", reason=reason)


def _check_spacing(copies: Sequence[Dataset]) -> None:
    spacings = [dataset.get("PixelSpacing") for dataset in copies]
    if len(copies) == 1 or all(spacing is None for spacing in spacings):
        return
    reference = spacings[0]
    for spacing in spacings:
        if (
            not reference
            or not spacing
            or not np.allclose(
                np.asarray(spacing, float), np.asarray(reference, float), rtol=_SPACING_TOLERANCE
            )
        ):
            raise UnsuitableInput(
                "PixelSpacing differs between the slices", reason="input.mixed_pixel_spacing"
            )


def _snap_orientation(
    copies: Sequence[Dataset], source_images: Sequence[Dataset], notes: dict[str, None]
) -> None:
    reference = copies[0].get("ImageOrientationPatient")
    if reference is None or len(copies) == 1:
        return
    values = np.asarray(reference, float)
    for image in source_images[1:]:
        own = image.get("ImageOrientationPatient")
        difference = np.inf if not own else np.abs(np.asarray(own, float) - values).max()
        if difference > _DIRECTION_TOLERANCE:
            raise UnsuitableInput(
                "ImageOrientationPatient differs between the slices",
                reason="input.mixed_orientation",
            )
        if difference > 0:
            notes.setdefault("ImageOrientationPatient varies: set to the first slice's")


def _fill_thickness(copies: Sequence[Dataset], notes: dict[str, None]) -> None:
    if len(copies) < 2 or all(dataset.get("SliceThickness") for dataset in copies):
        return
    positions = np.asarray([dataset.ImagePositionPatient for dataset in copies], float)
    cosines = np.asarray(copies[0].ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    spacing = float(np.median(np.abs(np.diff(positions @ normal))))
    for dataset in copies:
        if not dataset.get("SliceThickness"):
            dataset.SliceThickness = f"{spacing:.6g}"
    notes.setdefault("SliceThickness absent: the distance between slices is used")
