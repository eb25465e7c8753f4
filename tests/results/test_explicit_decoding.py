"""Sequences that are decoded here say what pydicom reads in them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.results.explicit_decoding import Item, Part, items_of
from dicom_node.results.gate_reading import read_back
from dicom_node.results.report import build_planar_report
from tests.results import samples

NESTED = ("ContentSequence", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence",
          "CurrentRequestedProcedureEvidenceSequence", "ReferencedSeriesSequence")


def report(language: str = "en") -> Dataset:
    found = build_planar_report(
        samples.request_for(samples.ct(), language=language), samples.lungs(), series_number=9003
    )
    assert found is not None
    return found


def assert_same(found: Part, expected: Dataset) -> None:
    assert isinstance(found, Item)
    for element in expected:
        value = found.get(element.keyword)
        assert element.keyword in found
        if element.VR == "SQ":
            for item, same in zip(value, element.value, strict=True):
                assert_same(item, same)
        elif element.VR in ("FD", "FL", "DS", "IS"):
            np.testing.assert_array_equal(np.asarray(value), np.asarray(element.value))
            assert element.VM > 1 or str(value) == str(element.value)
        else:
            assert str(value) == str(element.value)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_items_of_a_result_say_what_pydicom_reads(language: str) -> None:
    for result in (report(language), samples.segmentation_of(samples.ct(), samples.lungs())):
        ours, pydicoms = read_back(result), read_back(result)
        there = [keyword for keyword in NESTED if keyword in pydicoms]
        assert there
        for keyword in there:
            expected = pydicoms[keyword].value
            for found, same in zip(items_of(ours, keyword), expected, strict=True):
                assert_same(found, same)


def test_what_is_absent_is_told_as_a_data_set_does() -> None:
    [item, *_] = items_of(read_back(report()), "ContentSequence")
    assert "PatientName" not in item
    assert item.get("PatientName", "nobody") == "nobody"
    assert not hasattr(item, "PatientName")
    assert items_of(item, "ReferencedSOPSequence") == ()
    assert items_of(Dataset(), "ContentSequence") == ()


def implicit(result: Dataset) -> bytes:
    buffer = io.BytesIO()
    result.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    result.save_as(buffer, implicit_vr=True, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def of_undefined_length(result: Dataset) -> bytes:
    buffer = io.BytesIO()
    result["ContentSequence"].is_undefined_length = True
    for item in result.ContentSequence:
        item.is_undefined_length_sequence_item = True
    result.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def of_undefined_items(result: Dataset) -> bytes:
    """Only what is within is of undefined length, where the whole has a length."""
    buffer = io.BytesIO()
    for item in result.ContentSequence:
        item.is_undefined_length_sequence_item = True
    result.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("written", [implicit, of_undefined_length, of_undefined_items])
def test_what_is_written_in_another_way_is_read_by_pydicom(written: Any) -> None:
    result = report()
    expected = read_back(result)
    decoded = pydicom.dcmread(io.BytesIO(written(result)))
    found = items_of(decoded, "ContentSequence")
    assert all(isinstance(one, Dataset) for one in found)
    assert list(found) == list(expected.ContentSequence)


@pytest.mark.parametrize("cut", [1, 7, 9, 200])
def test_a_sequence_that_is_cut_off_is_left_to_pydicom(cut: int) -> None:
    decoded = read_back(report())
    raw: Any = decoded.get_item("ContentSequence")
    shorter = raw.value[:-cut]
    decoded["ContentSequence"] = raw._replace(value=shorter, length=len(shorter))
    assert all(isinstance(one, Dataset) for one in items_of(decoded, "ContentSequence"))


@pytest.mark.parametrize("written", [b"cs", b"RS", b"\0\0"])
def test_what_has_a_vr_that_there_is_not_is_left_to_pydicom(written: bytes) -> None:
    # Nobody looks at most of the elements: who passes over a damaged one passes a damaged result.
    decoded = read_back(report())
    raw: Any = decoded.get_item("ContentSequence")
    decoded["ContentSequence"] = raw._replace(value=raw.value.replace(b"CS", written, 1))
    try:
        found = items_of(decoded, "ContentSequence")
    except (AttributeError, NotImplementedError, ValueError):
        return
    assert all(isinstance(one, Dataset) for one in found)
