"""Data sets that list instances: read as another library writes them, and safe from anybody."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom.dsutils import decode as pynetdicom_decode
from pynetdicom.dsutils import encode as pynetdicom_encode

from dicom_node import references
from dicom_node.errors import NotUnderstood

CT = "1.2.840.10008.5.1.4.1.1.2"
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
UNDEFINED = struct.pack("<L", 0xFFFFFFFF)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def listed(count: int, *, undefined_length: bool = False) -> Dataset:
    items = []
    for number in range(count):
        item = Dataset()
        item.ReferencedSOPClassUID = CT
        item.ReferencedSOPInstanceUID = f"1.2.{number}"
        item.is_undefined_length_sequence_item = undefined_length
        items.append(item)
    dataset = Dataset()
    dataset.TransactionUID = "1.2.3"
    dataset.ReferencedSOPSequence = Sequence(items)
    dataset["ReferencedSOPSequence"].is_undefined_length = undefined_length
    return dataset


def encoded(dataset: Dataset, *, explicit_vr: bool) -> bytes:
    data = pynetdicom_encode(dataset, not explicit_vr, True)
    assert data is not None
    return data


@pytest.mark.parametrize("explicit_vr", [False, True])
@pytest.mark.parametrize("undefined_length", [False, True])
def test_what_another_library_writes_is_read(explicit_vr: bool, undefined_length: bool) -> None:
    dataset = listed(3, undefined_length=undefined_length)
    dataset.PatientName = "SOMEBODY^ELSE"
    dataset.add_new(0x00091001, "UN", b"\1\2\3\4")
    found = references.decode(encoded(dataset, explicit_vr=explicit_vr), explicit_vr=explicit_vr)
    assert found.uid(references.TRANSACTION_UID) == "1.2.3"
    expected = [(CT, f"1.2.{number}") for number in range(3)]
    assert found.references(references.REFERENCED_SOP_SEQUENCE) == expected
    assert set(found.values) == {references.TRANSACTION_UID}


@pytest.mark.parametrize("explicit_vr", [False, True])
def test_what_is_written_another_library_reads(explicit_vr: bool) -> None:
    data = references.encode(
        {
            references.TRANSACTION_UID: "1.2.3",
            references.FAILED_SOP_SEQUENCE: [
                {**references.reference(CT, "1.2.4"), references.FAILURE_REASON: 0x0112}
            ],
        },
        explicit_vr=explicit_vr,
    )
    dataset = pynetdicom_decode(BytesIO(data), not explicit_vr, True)
    assert dataset.TransactionUID == "1.2.3"
    (item,) = dataset.FailedSOPSequence
    assert (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) == (CT, "1.2.4")
    assert item.FailureReason == 0x0112


def test_more_items_than_there_are_in_this_world_are_refused() -> None:
    items = ITEM * (references.MOST_ITEMS + 1)
    data = struct.pack("<HHL", 0x0008, 0x1199, len(items)) + items
    with pytest.raises(references.TooManyItems):
        references.decode(data, explicit_vr=False)


def test_nesting_without_end_is_refused() -> None:
    level = struct.pack("<HH", 0x0008, 0x1199) + UNDEFINED
    level += struct.pack("<HH", 0xFFFE, 0xE000) + UNDEFINED
    with pytest.raises(NotUnderstood):
        references.decode(level * 5000, explicit_vr=False)


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x00\x95\x11",
        struct.pack("<HHL", 0x0008, 0x1195, 500) + b"1.2",
        struct.pack("<HHL", 0x0008, 0x1199, 500) + ITEM,
        struct.pack("<HH", 0x0008, 0x1199) + UNDEFINED + ITEM,
        struct.pack("<HHL", 0x0008, 0x1199, 8) + struct.pack("<HHL", 0x0008, 0x1195, 0),
        struct.pack("<HHL", 0x0008, 0x1199, 8) + struct.pack("<HHL", 0xFFFE, 0xE000, 9),
    ],
)
def test_lengths_that_do_not_fit_are_refused(data: bytes) -> None:
    with pytest.raises(NotUnderstood):
        references.decode(data, explicit_vr=False)


def test_a_value_that_is_no_uid_is_none() -> None:
    value = b"1.2\xc3\x28"
    data = struct.pack("<HHL", 0x0008, 0x1195, len(value)) + value
    found = references.decode(data, explicit_vr=False)
    assert found.uid(references.TRANSACTION_UID) == ""


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, explicit_vr: bool) -> None:
    try:
        references.decode(data, explicit_vr=explicit_vr)
    except NotUnderstood:
        return


@given(st.integers(0, 200), st.integers(0, 255), st.booleans())
def test_a_changed_byte_is_read_or_refused(place: int, value: int, explicit_vr: bool) -> None:
    data = bytearray(encoded(listed(3, undefined_length=True), explicit_vr=explicit_vr))
    data[place % len(data)] = value
    try:
        references.decode(bytes(data), explicit_vr=explicit_vr)
    except NotUnderstood:
        return
