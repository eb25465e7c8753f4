"""Sequences that are encoded here have the bytes that pydicom writes."""

from __future__ import annotations

import io
from collections.abc import Callable

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.results.explicit_encoding import sequences_encoded
from dicom_node.results.report import build_negative_report, build_planar_report
from tests.results import samples


def written(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def report(language: str = "en") -> Dataset:
    found = build_planar_report(
        samples.request_for(samples.ct(), language=language), samples.lungs(), series_number=9003
    )
    assert found is not None
    return found


@pytest.mark.parametrize(
    "build",
    [
        report,
        lambda: report("zh"),
        lambda: samples.segmentation_of(samples.ct(), samples.lungs()),
        lambda: build_negative_report(samples.request_for(samples.ct()), series_number=9002),
    ],
)
def test_a_result_has_the_bytes_that_pydicom_writes(build: Callable[[], Dataset]) -> None:
    result = build()
    assert written(sequences_encoded(result)) == written(result)


def odd(**attributes: object) -> Dataset:
    """A report whose first content item has these attributes besides."""
    result, item = report(), Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    result.ContentSequence = [item, *result.ContentSequence]
    return result


@pytest.mark.parametrize(
    "attributes",
    [
        {"PersonName": "Muster^Mäx=漢字"},
        {"TextValue": "Größe, 大小"},
        {"TextValue": "x" * 70000},
        {"ImageComments": "x" * 0xFFFE},
        {"PatientComments": "x" * 7, "CodeValue": "", "UID": "1.2.3"},
        {"GraphicData": [1.0, 2.0, 3.5, 4.25], "ReferencedFrameNumber": [1, 2]},
        {"ReferencedSegmentNumber": [1, 2], "Rows": 5, "SimpleFrameList": 3},
        {"ImageType": ["DERIVED", "SECONDARY"], "DateTime": "20260102030405.5"},
        {"MeasuredValueSequence": [], "NumericValue": "1.50", "PatientAge": "040Y"},
        {"SelectorATValue": 0x00080018, "SpecificCharacterSet": "ISO_IR 100"},
    ],
)
def test_odd_elements_have_the_bytes_that_pydicom_writes(attributes: dict[str, object]) -> None:
    result = odd(**attributes)
    assert written(sequences_encoded(result)) == written(result)


def test_a_sequence_of_undefined_length_stays_so() -> None:
    result = report()
    result["ContentSequence"].is_undefined_length = True
    assert written(sequences_encoded(result)) == written(result)


def test_an_element_whose_vr_is_open_gets_the_one_that_pydicom_chooses() -> None:
    result = report()
    result.add_new(0x00280106, "US or SS", 5)
    assert written(sequences_encoded(result)) == written(result)


def test_sequences_and_items_of_undefined_length_within_others_stay_so() -> None:
    result = report()
    result.ContentSequence[0].is_undefined_length_sequence_item = True
    inner = next(item for item in result.ContentSequence if "ContentSequence" in item)
    inner["ContentSequence"].is_undefined_length = True
    assert written(sequences_encoded(result)) == written(result)


def test_what_was_read_from_a_file_is_written_as_it_was() -> None:
    content = written(report())
    again = pydicom.dcmread(io.BytesIO(content))
    assert isinstance(again.ContentSequence, Sequence)
    assert written(sequences_encoded(again)) == content
