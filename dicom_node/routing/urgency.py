"""How urgent the department says that an examination is: pure, on the header alone.

A modality copies it from the worklist, when it does, into one of these elements:

    RequestedProcedurePriority      (0040,1003)  STAT HIGH ROUTINE MEDIUM LOW
    ScheduledProcedureStepPriority  (0074,1200)  HIGH MEDIUM LOW; HIGH is what others call STAT
    StudyPriorityID                 (0032,000C)  HIGH MEDIUM LOW; retired, and still sent
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dicom_node.records import Priority

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

KEYWORDS = ("RequestedProcedurePriority", "ScheduledProcedureStepPriority", "StudyPriorityID")
_EMERGENCIES = frozenset({"STAT", "HIGH"})


def emergency(dataset: Dataset) -> str:
    """The keyword by which the header calls the examination an emergency; empty where none does.

    Looked at are the data set and the items of its Request Attributes Sequence (0040,0275).
    """
    return next(
        (
            keyword
            for place in _places(dataset)
            for keyword in KEYWORDS
            if str(place.get(keyword, "")).strip().upper() in _EMERGENCIES
        ),
        "",
    )


def raised(configured: Priority, dataset: Dataset) -> tuple[Priority, str]:
    """The priority of a job whose rule says ``configured``, and why it is another, or nothing.

    Only ever raised, and only for an emergency: most departments call everything else routine or
    medium, which would make routine work of what the site's rule calls background.
    """
    keyword = emergency(dataset)
    if not keyword or configured is Priority.STAT:
        return configured, ""
    return Priority.STAT, f"{Priority.STAT} by {keyword}"


def _places(dataset: Dataset) -> Iterator[Dataset]:
    yield dataset
    # A peer may send this element with another VR, which has values and no items.
    for item in dataset.get("RequestAttributesSequence") or ():
        if hasattr(item, "get"):
            yield item
