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


LIMITS: tuple[Limit, ...] = (
    Limit(
        "OHIF",
        r"volumetric report",
        r"reading '(ReferencedSOPSequence|ReferencedFrameOfReferenceSequence)'",
        "its loader reads the coordinates of every group, and a group that refers to a segment has "
        "none; the planar report of the same job is what it draws",
    ),
    Limit(
        "OHIF",
        r"planar report",
        r"drawn measurements hydrated",
        "contours and numbers are drawn; to be taken over for editing it wants the coordinates "
        "inside the number (as in its own reports, TID 1410 has them beside it) and a tracking "
        "identifier that begins with Cornerstone3DTools: the same report with both is hydrated "
        "whole",
    ),
    Limit(
        "OHIF",
        r"segmentation, radiograph",
        r"reading 'ImageOrientationPatient'",
        "it shows no segmentation on an image without a place in the patient; viewers get "
        "contours in the planar report and pictures",
    ),
    Limit(
        "dcmqi",
        r"segmentation, radiograph",
        r"[Oo]rientation|[Gg]eometry|no .*position",
        "it makes volumes, and a radiograph has no orientation in the patient",
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
