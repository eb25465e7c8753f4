"""``docs/compatibility.md``: the matrix, and below it every complaint with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from tests.acceptance.compatibility import accepted
from tests.acceptance.compatibility.answer import Answer, Answers, Column, is_error
from tests.acceptance.compatibility.specimen import Specimen
from tests.conformance.validators import Complaint

_UID = re.compile(r"\b\d+(?:\.\d+){5,}\b")
_INDEX = re.compile(r"\[\d+\]|(?<=Item )\d+")
_PATH = re.compile(r"(?<![\w:/])/\S+/(?=\S+\.dcm)")
_INTRODUCTION = """\
# Compatibility

What validators, readers, an archive and a viewer say about each kind of object that DICOM Node
writes, and each form in which a destination may get it (in brackets).

In short: OHIF shows segmentations voxel for voxel, draws planar reports, lists structures, and
shows pictures and PDFs. It shows no report on segments or on whole images, no probabilities,
presentation states or key objects, and nothing on a radiograph but pictures: that is why planar
reports and pictures are sent. Orthanc and DCMTK as they come take no label map, and get the BINARY
segmentation instead.

`make compatibility` writes this page, in some ten minutes. It installs what Debian, PyPI and npm
have, builds the objects with the node's own builders on small generated images, and asks every
tool. `COMPATIBILITY_OPTIONS='--no-ohif --no-slow'` leaves out the viewer and pixelmed; `--only
'planar report'` and `--tool OHIF` ask about a part. It fails where an error or a warning is
accounted for by nothing. `make conformance` holds the main kinds against validators in every pose
of the patient, and `make test` does so each time.

- **ok**: nothing to say. For a reader, what it read is what was written.
- **2 W** or **1 E**: so many warnings or errors of the tool, each accepted for the reason in the
  footnote: a fault of the tool, or something that it cannot do.
- **FAILS**: an error or warning that nothing accounts for.
- **-**: not the tool's business.
"""


@dataclass
class Footnotes:
    """Accepted reasons in the order in which the table meets them."""

    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    examples: dict[int, str] = field(default_factory=dict)

    def number(self, complaint: Complaint, reason: str) -> int:
        """The footnote of a reason; the first complaint becomes its example."""
        number = self.numbers.setdefault((complaint.tool, reason), len(self.numbers) + 1)
        self.examples.setdefault(number, anonymous(complaint.text))
        return number


@dataclass(frozen=True)
class Matrix:
    """Everything that was asked. ``missing`` is column name to why it could not be asked."""

    specimens: Sequence[Specimen]
    columns: Sequence[Column]
    answers: Mapping[str, Answers]
    missing: Mapping[str, str]

    def unexplained(self) -> list[str]:
        """What nothing accounts for, one line each."""
        return [
            f"{complaint.tool}: {specimen.name}: {anonymous(complaint.text)}"
            for column in self.columns
            for specimen in self.specimens
            for complaint in _complaints(self, column, specimen)
            if accepted.reason(specimen, complaint) is None
        ]


def render(matrix: Matrix, today: date) -> str:
    """The whole document."""
    footnotes = Footnotes()
    table = list(_table(matrix, footnotes))
    sections = [
        _INTRODUCTION,
        "\n".join(table),
        "\n".join(_failures(matrix)),
        "## Accepted, and why\n\n" + "\n".join(_reasons(footnotes)),
        "## What was read\n\n" + "\n".join(_read(matrix)),
        f"## Tools of {today.isoformat()}\n\n" + "\n".join(_tools(matrix)),
    ]
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"


def anonymous(text: str) -> str:
    """A complaint without what differs from run to run: UIDs, paths, indices."""
    text = _PATH.sub("", _UID.sub("UID", text))
    return _INDEX.sub("[n]", text).replace("|", "/").replace("\n", " ").strip()[:300]


def _complaints(matrix: Matrix, column: Column, specimen: Specimen) -> tuple[Complaint, ...]:
    answer = matrix.answers.get(column.name, {}).get(specimen.name)
    return answer.complaints if answer else ()


def _table(matrix: Matrix, footnotes: Footnotes) -> Iterator[str]:
    yield "| object | " + " | ".join(column.name for column in matrix.columns) + " |"
    yield "|---" * (len(matrix.columns) + 1) + "|"
    for specimen in matrix.specimens:
        cells = []
        for column in matrix.columns:
            answer = matrix.answers.get(column.name, {}).get(specimen.name)
            missing = column.name in matrix.missing
            cells.append("not run" if missing else _cell(specimen, answer, footnotes))
        yield f"| {specimen.name} | " + " | ".join(cells) + " |"


def _cell(specimen: Specimen, answer: Answer | None, footnotes: Footnotes) -> str:
    if answer is None:
        return "-"
    if not answer.complaints:
        return "ok"
    reasons = [accepted.reason(specimen, complaint) for complaint in answer.complaints]
    numbers = {
        footnotes.number(complaint, reason)
        for complaint, reason in zip(answer.complaints, reasons, strict=True)
        if reason is not None
    }
    errors = sum(is_error(complaint) for complaint in answer.complaints)
    warnings = len(answer.complaints) - errors
    counts = " ".join(f"{n} {letter}" for n, letter in ((errors, "E"), (warnings, "W")) if n)
    marks = "".join(f"[{number}]" for number in sorted(numbers))
    return f"{'**FAILS** ' if None in reasons else ''}{counts} {marks}".strip()


def _failures(matrix: Matrix) -> Iterator[str]:
    yield "## Errors"
    yield ""
    found = sorted(set(matrix.unexplained()))
    if not found:
        yield "None: every complaint is accounted for below."
    yield from (f"- {line}" for line in found)


def _reasons(footnotes: Footnotes) -> Iterator[str]:
    for (tool, reason), number in footnotes.numbers.items():
        yield f"- [{number}] **{tool}**: {reason}."
        yield f"  It says: `{footnotes.examples[number]}`"


def _read(matrix: Matrix) -> Iterator[str]:
    readers = [
        column
        for column in matrix.columns
        if any(answer.found for answer in matrix.answers.get(column.name, {}).values())
    ]
    yield "| object | " + " | ".join(column.name for column in readers) + " |"
    yield "|---" * (len(readers) + 1) + "|"
    for specimen in matrix.specimens:
        cells = []
        for column in readers:
            answer = matrix.answers.get(column.name, {}).get(specimen.name)
            cells.append((answer.found if answer else "") or "-")
        yield f"| {specimen.name} | " + " | ".join(cells) + " |"


def _tools(matrix: Matrix) -> Iterator[str]:
    yield "| tool | version | looks at |"
    yield "|---|---|---|"
    for column in matrix.columns:
        why = matrix.missing.get(column.name)
        version = f"not run: {why}" if why else column.version()
        yield f"| {column.name} | {version} | {column.does} |"
