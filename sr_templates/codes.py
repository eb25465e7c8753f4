"""Codes of PS3.16 that every report needs, and the way from our codes to highdicom's."""

from __future__ import annotations

import functools
from typing import Any

from ai_models.types import Code

ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
COMMENT = Code("121106", "DCM", "Comment")
DEVICE = Code("121007", "DCM", "Device")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
SOURCE = Code("260753009", "SCT", "Source")
MODALITY = Code("121139", "DCM", "Modality")
FRAME_OF_REFERENCE_UID = Code("112227", "DCM", "Frame of Reference UID")
ROWS = Code("110910", "DCM", "Pixel Data Rows")
COLUMNS = Code("110911", "DCM", "Pixel Data Columns")
HORIZONTAL_SPACING = Code("111026", "DCM", "Horizontal Pixel Spacing")
VERTICAL_SPACING = Code("111066", "DCM", "Vertical Pixel Spacing")
SLICE_THICKNESS = Code("112225", "DCM", "Slice Thickness")
ORIENTATION = (
    Code("110904", "DCM", "Image Orientation (Patient) Row X"),
    Code("110905", "DCM", "Image Orientation (Patient) Row Y"),
    Code("110906", "DCM", "Image Orientation (Patient) Row Z"),
    Code("110907", "DCM", "Image Orientation (Patient) Column X"),
    Code("110908", "DCM", "Image Orientation (Patient) Column Y"),
    Code("110909", "DCM", "Image Orientation (Patient) Column Z"),
)
PIXELS = Code("{pixels}", "UCUM", "Pixels")
MILLIMETER = Code("mm", "UCUM", "mm")
DIRECTION_COSINE = Code("{-1:1}", "UCUM", "{-1:1}")
VISUAL_EXPLANATION = Code("130401", "DCM", "Visual explanation")
SOURCE_OF_MEASUREMENT = Code("121112", "DCM", "Source of Measurement")
# RFC 5646, CID 5000: the languages that reports are written in.
LANGUAGE_CODES = {
    "en": Code("en", "RFC5646", "English"),
    "de": Code("de", "RFC5646", "German"),
    "fr": Code("fr", "RFC5646", "French"),
    "zh": Code("zh", "RFC5646", "Chinese"),
}
# The scheme of what no dictionary of the standard has, with the name that reports give it
# (PS3.3 C.12.1, Coding Scheme Identification Sequence).
PRIVATE_SCHEMES = {"99DCMNODE": ("DICOM Node concepts", "DICOM Node project")}


# What stands for the digest of weights that lie on another host.
NOT_CHECKED = "not checked by this node"


@functools.lru_cache(maxsize=1024)
def concept(code: Code) -> Any:
    """``code`` as highdicom's coded concept; nobody may change it, for it stands in many places."""
    import highdicom as hd

    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)
