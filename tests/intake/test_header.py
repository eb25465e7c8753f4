"""The walker against pydicom's writer in every transfer syntax, and against broken bytes."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite, write_dataset

from bench.synthetic import head, text
from dicom_node.errors import NotUnderstood
from dicom_node.intake.header import Head, read_data_set_head, read_head
from dicom_node.intake.sources import BytesSource, ReceivedSource

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
ENDS = {IMPLICIT: (True, True), EXPLICIT: (False, True), BIG: (False, False)}


def rich() -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    dataset.Modality = "CT"
    code = Dataset()
    code.CodeValue = "X"
    nested = Dataset()
    nested.ConceptNameCodeSequence = [code]
    nested.ConceptNameCodeSequence.is_undefined_length = True
    dataset.ReferencedStudySequence = [nested, Dataset(), nested]
    dataset["ReferencedStudySequence"].is_undefined_length = True
    for item in dataset.ReferencedStudySequence:
        item.is_undefined_length_sequence_item = True
    dataset.add_new(0x00090010, "LO", "PRIVATE")
    dataset.add_new(0x00091001, "OB", bytes(40000))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.4", "1.2.5"
    dataset.InstanceNumber = 7
    dataset.ImagePositionPatient = [1, -2.5, 3]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.NumberOfFrames = 4
    dataset.Rows, dataset.Columns = 2, 3
    dataset.BitsAllocated = 8
    dataset.PixelData = bytes(24)
    dataset["PixelData"].VR = "OB"
    return dataset


def encode(dataset: Dataset, transfer_syntax: str) -> bytes:
    is_implicit, is_little = ENDS.get(transfer_syntax, (False, True))
    buffer = BytesIO()
    from pydicom.filebase import DicomFileLike

    file = DicomFileLike(buffer)
    file.is_implicit_VR, file.is_little_endian = is_implicit, is_little
    write_dataset(file, dataset)
    data = buffer.getvalue()
    if transfer_syntax == DEFLATED:
        squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = squeeze.compress(data) + squeeze.flush()
    return data


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
def test_every_encoding_gives_the_same_head(transfer_syntax: str) -> None:
    found = read_data_set_head(BytesSource(encode(rich(), transfer_syntax)), transfer_syntax)
    assert found == Head(
        "1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.4", "1.2.5", "CT", (1.0, -2.5, 3.0),
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 7, 4, None, None, None, 2, 3, transfer_syntax,
    )  # fmt: skip


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("kept_bytes", [0, 7, 300, 41000, 1 << 20])
def test_a_file_gives_the_same_head_however_much_of_it_is_in_memory(
    tmp_path: Path, transfer_syntax: str, kept_bytes: int
) -> None:
    data = encode(rich(), transfer_syntax)
    path = tmp_path / "received"
    path.write_bytes(b"meta" + data)
    with path.open("rb") as file:
        source = ReceivedSource(file.fileno(), 4, 4 + len(data), data[:kept_bytes])
        found = read_data_set_head(source, transfer_syntax)
    assert found == read_data_set_head(BytesSource(data), transfer_syntax)


def test_a_part_10_file_gives_what_its_meta_adds() -> None:
    dataset = rich()
    del dataset.SOPClassUID
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.9", "1.2.3"
    meta.TransferSyntaxUID = EXPLICIT
    meta.SendingApplicationEntityTitle = "CT1"
    dataset.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    found = read_head(buffer.getvalue())
    assert (found.sop_class_uid, found.calling_ae_title) == ("1.2.9", "CT1")


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_without_study_or_series_uid_nothing_can_be_kept(keyword: str, how: str) -> None:
    dataset = rich()
    if how == "absent":
        del dataset[keyword]
    else:
        setattr(dataset, keyword, "")
    with pytest.raises(NotUnderstood):
        read_data_set_head(BytesSource(encode(dataset, EXPLICIT)), EXPLICIT)


@pytest.mark.parametrize("value", ["x\\y\\z", "1\\2", "1\\2\\nan", "1\\2\\inf"])
def test_a_position_that_is_none_is_none(value: str) -> None:
    data = head("1.2.3", "1.2.4", "1.2.5", 1).replace(
        text(0x00200032, "DS", "-100\\-100\\1"), text(0x00200032, "DS", value)
    )
    assert read_data_set_head(BytesSource(data), EXPLICIT).position_mm is None


def test_the_number_of_instances_in_the_series_comes_before_that_in_the_acquisition() -> None:
    data = head("1.2.3", "1.2.4", "1.2.5", 1)
    acquisition, series = text(0x00201002, "IS", "40"), text(0x00201209, "IS", "80")
    read = lambda more: read_data_set_head(BytesSource(data + more), EXPLICIT)
    assert read(acquisition).images_in_acquisition == 40
    assert read(acquisition).expected_instances is None
    assert read(acquisition + series).expected_instances == 80


def test_a_pet_says_how_many_slices_its_series_has() -> None:
    data = head("1.2.3", "1.2.4", "1.2.5", 1) + bytes.fromhex("54008100555302003a00")
    assert read_data_set_head(BytesSource(data), EXPLICIT).slices_in_series == 58
    without = head("1.2.3", "1.2.4", "1.2.5", 1)
    assert read_data_set_head(BytesSource(without), EXPLICIT).slices_in_series is None


def test_a_deflated_bomb_before_the_uids_is_refused() -> None:
    bomb = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = bomb.compress(text(0x00080005, "CS", "X") + b"\x09\x00\x01\x10OB\0\0" + b"\xf0" * 4)
    data += b"".join(bomb.compress(bytes(1 << 20)) for _ in range(100)) + bomb.flush()
    with pytest.raises(NotUnderstood):
        read_data_set_head(BytesSource(data), DEFLATED)


def test_sequences_nested_without_end_are_refused() -> None:
    level = b"\x08\x00\x10\x11SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    with pytest.raises(NotUnderstood):
        read_data_set_head(BytesSource(level * 5000), EXPLICIT)


ENCODED = {one: encode(rich(), one) for one in [*ENDS, DEFLATED]}


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(ENCODED)),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=5),
    st.integers(0, 50000),
)
def test_broken_bytes_are_read_or_refused_and_nothing_else(
    transfer_syntax: str, changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(ENCODED[transfer_syntax])
    for position, byte in changes:
        data[position % len(data)] = byte
    try:
        read_data_set_head(BytesSource(bytes(data[:length])), transfer_syntax)
    except NotUnderstood:
        return


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([*ENDS, DEFLATED]))
def test_random_bytes_are_read_or_refused_and_nothing_else(data: bytes, syntax: str) -> None:
    for read in (lambda: read_data_set_head(BytesSource(data), syntax), lambda: read_head(data)):
        try:
            read()
        except NotUnderstood:
            continue
