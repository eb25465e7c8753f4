"""Complaints that are accepted, each with its reason; what no entry accounts for is an error.

What the static tools say wrongly or for want of the source's values is listed where every test of
conformance finds it (``validators.NOISE``). Here stands what readers and viewers cannot do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.acceptance.compatibility.specimen import Specimen
from tests.conformance.validators import Complaint


@dataclass(frozen=True)
class Limit:
    """Something that a tool cannot do with objects whose name matches ``objects``."""

    tool: str
    objects: str
    pattern: str
    reason: str


_LABEL_MAP = r"segmentation \(labelmap\)"
_PROJECTION = r"segmentation, radiograph"

LIMITS: tuple[Limit, ...] = (
    Limit(
        "dciodvfy",
        _LABEL_MAP,
        r"Information Object Not found|SegmentNumber of 0",
        "Label Map Segmentation (Supplement 243) is newer than the tool; segment 0 is the "
        "background, which a label map describes",
    ),
    Limit(
        "dciodvfy",
        r".*report \(.*labelmap\)",
        r"ReferencedSegmentNumber.*not segmentation",
        "Label Map Segmentation is newer than the tool",
    ),
    Limit(
        "dsrdump",
        r".*report \(.*labelmap\)",
        r"Reading|parsing file|unknown image SOP class",
        "DCMTK 3.6.7 does not know Label Map Segmentation and reads no report that refers to one; "
        "such a report goes only where a label map was taken",
    ),
    Limit(
        "pixelmed-sr",
        r".*report \(text\)",
        r"Content Item not in template",
        "a Basic Text SR follows no template (TID 1500 needs numbers and references, which it "
        "cannot hold), so that the tool finds no rule for any item",
    ),
    Limit(
        "pixelmed-iod",
        _PROJECTION,
        r"DerivationImageMacro.*Missing required sequence",
        "the sequence is there, in the item of each frame; the tool looks for it among the shared "
        "ones where there is no frame of reference",
    ),
    Limit(
        "pixelmed-iod",
        _PROJECTION,
        r"PatientOrientation: Incorrect value multiplicity - got 2",
        "Patient Orientation has two values (PS3.6); the tool's table has one",
    ),
    Limit(
        "dcmqi",
        _PROJECTION,
        r"Failed to get image directions",
        "it makes volumes, and a radiograph has no orientation in the patient",
    ),
    Limit(
        "SimpleITK",
        _PROJECTION,
        r"cosines",
        "GDCM asks a segmentation for its orientation in the patient, and a radiograph has none",
    ),
    Limit(
        "highdicom",
        _PROJECTION,
        r"Pixel Measures Sequence",
        "it reads no pixel spacing without a slice thickness, and a radiograph has no slices; a "
        "segmentation of a radiograph without Pixel Spacing is read whole",
    ),
    Limit(
        "gdcm",
        rf"{_LABEL_MAP}|parametric map",
        r"Unknown MediaStorage",
        "GDCM 3.0.21 knows neither Label Map Segmentation nor Parametric Map",
    ),
    Limit(
        "SimpleITK",
        rf"{_LABEL_MAP}|parametric map",
        r"Unable to determine ImageIO reader",
        "its GDCM knows neither Label Map Segmentation nor Parametric Map",
    ),
    Limit(
        "Orthanc",
        _LABEL_MAP,
        r"presentation context refused",
        "1.10.1 does not know the SOP class; with UnknownSopClassAccepted it keeps the object, and "
        "what it gives back is identical. The node asks each destination what it takes, and sends "
        "this one the BINARY segmentation",
    ),
    Limit(
        "OHIF",
        r"(volumetric|image) report",
        r"reading 'Referenced(SOP|FrameOfReference)Sequence'",
        "its loader reads the coordinates of every group, and a group on a segment (TID 1411) or "
        "on whole images (TID 1501) has none; of findings with a place it draws the planar report",
    ),
    Limit(
        "OHIF",
        r"planar report",
        r"drawn measurements hydrated",
        "contours and numbers are drawn on the image; to be taken over for editing it wants the "
        "coordinates inside the number (as in its own reports; TID 1410 has them beside it) and, "
        "but for rectangles, a tracking identifier that begins with Cornerstone3DTools. Measured: "
        "the same report with both is taken over whole",
    ),
    Limit(
        "OHIF",
        r"key objects|rejection note|presentation state",
        r"unsupported display set",
        "it shows neither selections nor presentation states",
    ),
    Limit(
        "OHIF",
        r"probability map",
        r"Fractional segmentations are not yet supported",
        "it shows no FRACTIONAL segmentation; the BINARY one goes beside it",
    ),
    Limit(
        "OHIF",
        r"parametric map",
        r"stack viewport PMAP is not supported yet",
        "it shows a map in its volume viewport only; where a model looked is also drawn as a "
        "picture",
    ),
    Limit(
        "OHIF",
        _PROJECTION,
        r"reading 'ImageOrientationPatient'",
        "it shows no segmentation on an image without a place in the patient; viewers get a "
        "picture with contours instead",
    ),
)


def reason(specimen: Specimen, complaint: Complaint) -> str | None:
    """Why the complaint is accepted, ``None`` where nothing accounts for it."""
    if complaint.explanation is not None:
        return complaint.explanation
    for limit in LIMITS:
        if (
            limit.tool == complaint.tool
            and re.match(limit.objects, specimen.name)
            and re.search(limit.pattern, complaint.text)
        ):
            return limit.reason
    return None
