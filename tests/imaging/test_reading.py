"""The quick header walk reads what pydicom reads."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.errors import NotUnderstood
from dicom_node.imaging.reading import read_header
from tests.dicom_samples import ct_series, enhanced_series, write_instance
from tests.shared_data import needs_shared, shared

RESTORED = ("SOPClassUID", "SOPInstanceUID")


def elements(dataset: Dataset) -> list[DataElement]:
    return [element for element in dataset if element.tag < 0x7FE00000]


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_a_header_with_nested_sequences_equals_pydicoms(
    undefined: bool, syntax: str | None, tmp_path: Path
) -> None:
    dataset = enhanced_series((3, 4, 5), PatientName="Müller^Jörg")
    for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        dataset[keyword].is_undefined_length = undefined
        for item in dataset[keyword].value:
            item.is_undefined_length_sequence_item = undefined
            item.PlanePositionSequence = item.get("PlanePositionSequence", [Dataset()])
            item["PlanePositionSequence"].is_undefined_length = undefined
    path = write_instance(dataset, tmp_path / "image.dcm", transfer_syntax_uid=syntax)
    header = read_header(path)
    assert elements(header.dataset) == elements(pydicom.dcmread(path))
    assert header.native_length == 3 * 4 * 5 * 2
    assert header.dataset.PatientName == "Müller^Jörg"


def test_a_header_longer_than_one_buffer_is_read_whole(tmp_path: Path) -> None:
    dataset = ct_series((1, 4, 5))[0]
    dataset.add_new(0x00091001, "OB", bytes(300_000))
    dataset.add_new(0x00090010, "LO", "TESTS")
    header = read_header(write_instance(dataset, tmp_path / "image.dcm"))
    assert len(header.dataset[0x00091001].value) == 300_000
    assert header.native_offset is not None


@pytest.mark.parametrize("at", [1 << 14, (1 << 14) - 8, 1 << 18])
def test_an_element_that_ends_with_the_buffer_is_not_taken_for_the_last(
    at: int, tmp_path: Path
) -> None:
    (dataset, *_) = ct_series((1, 32, 40))
    block = dataset.private_block(0x0013, "FILLING", create=True)
    block.add_new(1, "UN", b"")
    path = write_instance(dataset, tmp_path / "empty.dcm")
    place = path.read_bytes().index(b"\x13\x00\x01\x10UN") + 12
    block[1].value = b"x" * (at - place)
    path = write_instance(dataset, tmp_path / "filled.dcm")
    assert path.read_bytes()[at - 2 : at + 2].startswith(b"xx\x18")
    header = read_header(path)
    assert header.has_pixel_data
    assert elements(header.dataset) == elements(pydicom.dcmread(path))


def test_a_file_without_preamble_is_read(tmp_path: Path) -> None:
    path = write_instance(ct_series((1, 4, 5))[0], tmp_path / "image.dcm")
    bare = tmp_path / "bare.dcm"
    bare.write_bytes(path.read_bytes()[132:])
    header = read_header(bare)
    assert header.has_pixel_data
    assert elements(header.dataset) == elements(pydicom.dcmread(path))


@pytest.mark.parametrize("content", [b"", b"DICM", b"\x1f\x8b" + bytes(400), b"hello " * 100])
def test_other_files_are_not_understood(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(NotUnderstood):
        read_header(path)


def test_endless_nesting_is_not_followed(tmp_path: Path) -> None:
    path = write_instance(ct_series((1, 4, 5))[0], tmp_path / "image.dcm")
    head = path.read_bytes()
    nest = b"\x40\x00\x60\xa0SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 3000
    path.write_bytes(head[: head.index(b"\x08\x00\x05\x00CS")] + nest)
    with pytest.raises(NotUnderstood):
        read_header(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@needs_shared("data", "dicom", "pydicom")
def test_real_headers_equal_pydicoms() -> None:
    folder = shared("data", "dicom", "pydicom", "src", "pydicom", "data", "test_files")
    compared = 0
    for path in sorted(folder.glob("*.dcm")):
        try:
            found = elements(read_header(path).dataset)
        except NotUnderstood:
            continue
        expected = elements(pydicom.dcmread(path, force=True))
        assert [e for e in found if e not in expected and e.keyword not in RESTORED] == []
        assert len(found) >= len(expected), path.name
        compared += 1
    assert compared > 70
