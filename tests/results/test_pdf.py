from __future__ import annotations

import base64
import functools
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import GateRefused
from dicom_node.results.gate_pictures import check_pdf
from dicom_node.results.pdf import build_pdf
from dicom_node.results.report import build_negative_report, build_planar_report
from dicom_node.results.secondary_capture import build_secondary_captures
from tests.conformance import validators
from tests.results import samples

MASK = samples.lungs()


def document(
    datasets: list[Dataset] | None = None, *, with_pictures: bool = True, **changes: Any
) -> Dataset:
    request = samples.request_for(datasets or samples.ct(), **changes)
    report = build_planar_report(request, MASK, series_number=9003)
    assert report is not None
    pictures = _captures() if with_pictures else []
    return build_pdf(request, [report], pictures, series_number=9009)


@functools.cache
def _captures() -> list[Dataset]:
    grey = np.full(MASK.shape, 90, np.uint8)
    request = samples.request_for(samples.ct())
    return build_secondary_captures(request, MASK, grey, series_number=9006)


def shown_text(content: bytes) -> str:
    """The text that a document's pages draw: reportlab keeps ASCII readable in its subsets."""
    drawn = []
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        try:
            operators = zlib.decompress(base64.a85decode(stream.strip(), adobe=False))
        except (ValueError, zlib.error):
            continue
        drawn += re.findall(rb"\((.*?)(?<!\\)\) ?Tj", operators)
    return b" ".join(drawn).decode("latin-1").replace("\\(", "(").replace("\\)", ")")


def pages(content: bytes) -> str:
    return shown_text(content.replace(b"~>", b""))


def test_the_document_says_what_was_found_of_whom_and_that_nobody_verified_it() -> None:
    shown = pages(document().EncapsulatedDocument)
    for words in ("Synthetic, Phantom", "SYN-1", "CT Thorax", "AI result, not verified",
                  "DEMONSTRATION, NOT FOR CLINICAL USE", "Lung, Right", "mm"):  # fmt: skip
        assert words in shown


def test_the_document_of_a_negative_report_says_so() -> None:
    request = samples.request_for(samples.ct())
    report = build_negative_report(request, series_number=9002)
    shown = pages(build_pdf(request, [report], [], series_number=9009).EncapsulatedDocument)
    assert "Right lung" in shown


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    datasets = samples.ct()
    for number in range(2):
        document(datasets).save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    assert (tmp_path / "0.dcm").read_bytes() == (tmp_path / "1.dcm").read_bytes()


def test_names_in_every_script_and_chinese_remarks_are_set() -> None:
    named = samples.ct(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Zoë=山田^太郎=김^희")
    content = document(named, with_pictures=False, language="zh").EncapsulatedDocument
    assert b"STSong-Light" in content
    assert b"HYSMyeongJo-Medium" in content
    assert "AI result, not verified" in pages(content)


def test_at_most_four_pictures_are_shown() -> None:
    content = document().EncapsulatedDocument
    assert content.count(b"/Subtype /Image") == 4


def test_validators_have_nothing_to_say(tmp_path: Path) -> None:
    datasets = samples.ct()
    document(datasets).save_as(tmp_path / "pdf.dcm", enforce_file_format=True)
    datasets[0].save_as(tmp_path / "source.dcm", enforce_file_format=True)
    try:
        complaints = [
            *validators.dciodvfy(tmp_path / "pdf.dcm"),
            *validators.dcentvfy(tmp_path / "source.dcm", tmp_path / "pdf.dcm"),
            *validators.dcmdump(tmp_path / "pdf.dcm"),
        ]
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))
    assert validators.unexplained(complaints) == []


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("PatientID", "SOMEBODY", "gate.reference"),
        ("EncapsulatedDocument", b"%PDF-1.4 cut short", "gate.pdf"),
        ("DocumentTitle", "Report", "gate.pdf"),
        ("BurnedInAnnotation", "NO", "gate.pdf"),
        ("VerificationFlag", "VERIFIED", "gate.pdf"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7", "gate.reference"),
    ],
)
def test_a_document_that_is_not_what_it_should_be_is_refused(
    keyword: str, value: object, reason: str
) -> None:
    datasets = samples.ct()
    request = samples.request_for(datasets)
    report = build_negative_report(request, series_number=9002)
    built = build_pdf(request, [report], [], series_number=9009)
    check_pdf(built, datasets, demonstration=True)
    setattr(built, keyword, value)
    if keyword == "SOPClassUID":
        built.file_meta.MediaStorageSOPClassUID = value
    with pytest.raises(GateRefused) as refusal:
        check_pdf(built, datasets, demonstration=True)
    assert refusal.value.reason == reason
