"""What a tool answers on a specimen, and the shape of a column of the matrix."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.compatibility.specimen import Filed
from tests.conformance.validators import Complaint

_ERROR = re.compile(r"Error|Abort|[EF]:|ERROR|Fatal")


@dataclass(frozen=True)
class Answer:
    """``found`` says what was read, such as a number of voxels; empty for a validator."""

    found: str = ""
    complaints: tuple[Complaint, ...] = ()


Answers = dict[str, Answer]
"""By the name of the specimen; a specimen that is not in it is none of the tool's business."""


@dataclass(frozen=True)
class Column:
    """One tool: ``ask`` takes the specimens and a folder to work in.

    ``ask`` raises :class:`~tests.conformance.validators.ToolMissing` where it cannot be had.
    """

    name: str
    does: str
    version: Callable[[], str]
    ask: Callable[[Sequence[Filed], Path], Answers]


def is_error(complaint: Complaint) -> bool:
    """Whether the tool itself calls it an error, and not a warning."""
    return _ERROR.match(complaint.text) is not None


def error(tool: str, filed: Filed, text: str) -> Complaint:
    """A reader's failure, or a difference between what was written and what was read."""
    return Complaint(tool, filed.path, f"Error - {text}")


def difference(
    tool: str, filed: Filed, what: str, read: object, written: object
) -> tuple[Complaint, ...]:
    """A complaint where two things that should be equal are not."""
    if read == written:
        return ()
    return (error(tool, filed, f"{what}: read {read}, written {written}"),)


def voxels_answer(tool: str, filed: Filed, read: Mapping[int, int]) -> Answer:
    """The answer of a reader that returns voxels of each segment."""
    written = dict(filed.specimen.voxels)
    found = {number: count for number, count in sorted(read.items()) if count}
    text = f"{sum(found.values())} voxels in {len(found)} segments"
    return Answer(text, difference(tool, filed, "voxels by segment", found, written))


# What libraries raise on a file that they do not like.
_REFUSALS = (AttributeError, KeyError, LookupError, NotImplementedError, TypeError, ValueError)


def each(
    tool: str, applies: Callable[[Filed], bool], check: Callable[[Filed, Path], Answer]
) -> Callable[[Sequence[Filed], Path], Answers]:
    """``ask`` of a tool that takes one file at a time; what it raises is a complaint."""

    def ask(files: Sequence[Filed], directory: Path) -> Answers:
        answers = {}
        for filed in files:
            if applies(filed):
                place = directory / filed.path.stem
                place.mkdir(parents=True, exist_ok=True)
                try:
                    answers[filed.specimen.name] = check(filed, place)
                except _REFUSALS as refused:
                    text = f"{type(refused).__name__}: {refused}"
                    answers[filed.specimen.name] = Answer(complaints=(error(tool, filed, text),))
        return answers

    return ask
