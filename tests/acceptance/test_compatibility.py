"""The matrix covers what the node can make, and tells what it was told."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.results import form_builders
from dicom_node.results.profile import DOCUMENTS, REPORT_KINDS
from dicom_node.results.request import SERIES_NUMBERS
from tests.acceptance.compatibility import accepted
from tests.acceptance.compatibility.__main__ import DOCUMENT
from tests.acceptance.compatibility.answer import Answer, Column, each, error, voxels_answer
from tests.acceptance.compatibility.document import Matrix, anonymous, render
from tests.acceptance.compatibility.objects import specimens
from tests.acceptance.compatibility.specimen import Filed, Specimen
from tests.conformance.validators import Complaint


@pytest.fixture(scope="module")
def built() -> list[Specimen]:
    return specimens()


def rows(document: str) -> list[str]:
    table = document.split("| object |")[1].split("\n\n", maxsplit=1)[0]
    return [line.split("|")[1].strip() for line in table.splitlines()[2:]]


def test_every_kind_and_every_form_that_the_node_makes_is_in_the_matrix(
    built: list[Specimen],
) -> None:
    kinds = {specimen.kind for specimen in built}
    assert kinds == {*REPORT_KINDS, *SERIES_NUMBERS}
    forms = {(specimen.kind, specimen.form) for specimen in built}
    assert set(form_builders._BUILDERS) <= forms
    documents = {form.split("+")[0] for kind, form in forms if kind in REPORT_KINDS and form}
    assert documents == set(DOCUMENTS)


def test_every_object_has_a_name_and_a_uid_of_its_own(built: list[Specimen]) -> None:
    assert len({specimen.name for specimen in built}) == len(built)
    assert len({specimen.dataset.SOPInstanceUID for specimen in built}) == len(built)


def test_the_document_has_a_row_for_every_object_and_no_error(built: list[Specimen]) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert rows(document) == [specimen.name for specimen in built]
    assert "FAILS" not in re.sub(r"^- \*\*FAILS\*\*:.*", "", document, flags=re.MULTILINE)
    assert "not run" not in document


def specimen(kind: str = "segmentation") -> Specimen:
    return Specimen(kind, "CT", Dataset(), [Dataset()], voxels={1: 5})


def column(name: str) -> Column:
    return Column(name, "what it does", lambda: "1.0", lambda *_: {})


def matrix(answers: dict[str, Answer]) -> Matrix:
    one = specimen()
    return Matrix(
        [one],
        [column(name) for name in ("dciodvfy", "Orthanc", "OHIF")],
        {tool: {one.name: answer} for tool, answer in answers.items()},
        {"OHIF": "chromium is not installed"},
    )


def complaint(text: str, tool: str = "dciodvfy") -> Complaint:
    return Complaint(tool, Path("00.dcm"), text)


def test_a_complaint_without_a_reason_fails_and_is_listed() -> None:
    unknown = Answer(complaints=(complaint("Error - something new at 1.2.3.4.5.6.7.8"),))
    told = matrix({"dciodvfy": unknown})
    assert told.unexplained() == ["dciodvfy: segmentation, CT: Error - something new at UID"]
    text = render(told, date(2026, 1, 2))
    assert "| segmentation, CT | **FAILS** 1 E | - | not run |" in text
    assert "- dciodvfy: segmentation, CT: Error - something new at UID" in text
    assert "not run: chromium is not installed" in text


def test_an_accepted_complaint_is_counted_and_its_reason_told() -> None:
    known = Answer(complaints=(complaint("Warning - Retired Person Name form"),))
    told = matrix({"dciodvfy": known, "Orthanc": Answer("identical")})
    assert told.unexplained() == []
    text = render(told, date(2026, 1, 2))
    assert "| segmentation, CT | 1 W [1] | ok | not run |" in text
    assert "- [1] **dciodvfy**: the source's own value, carried unchanged." in text


def test_a_limit_holds_for_its_own_objects_only() -> None:
    refused = complaint("Error - presentation context refused", "Orthanc")
    labelmap = Specimen("segmentation", "CT", Dataset(), [], form="labelmap")
    assert accepted.reason(labelmap, refused) is not None
    assert accepted.reason(specimen(), refused) is None


def test_other_voxels_than_were_written_are_an_error() -> None:
    filed = Filed(specimen(), Path("00.dcm"), ())
    assert voxels_answer("dcmqi", filed, {1: 5, 2: 0}).complaints == ()
    assert voxels_answer("dcmqi", filed, {1: 4}).complaints == (
        error("dcmqi", filed, "voxels by segment: read {1: 4}, written {1: 5}"),
    )


def test_a_file_that_a_library_refuses_is_a_complaint_and_the_others_are_read(
    tmp_path: Path,
) -> None:
    def check(filed: Filed, _: Path) -> Answer:
        if filed.specimen.kind == "segmentation":
            raise ValueError("no")
        return Answer("read")

    files = [Filed(specimen(kind), tmp_path / f"{kind}.dcm", ()) for kind in ("segmentation", "x")]
    answers = each("reader", lambda _: True, check)(files, tmp_path)
    assert [one.text for one in answers["segmentation, CT"].complaints] == [
        "Error - ValueError: no"
    ]
    assert answers["x, CT"] == Answer("read")


def test_what_differs_from_run_to_run_is_not_in_the_document() -> None:
    assert anonymous("in /tmp/x/03.dcm [7] | 1.2.840.10008.5.1.4") == "in 03.dcm [n] / UID"
