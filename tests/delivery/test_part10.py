from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.delivery.part10 import read_file_head
from dicom_node.errors import NotUnderstood
from tests.dicom_samples import ct_series, write_instance


@pytest.mark.parametrize("transfer_syntax_uid", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"])
def test_head_names_the_object_and_where_its_data_set_begins(
    tmp_path: Path, transfer_syntax_uid: str
) -> None:
    dataset = ct_series((1, 16, 16))[0]
    path = write_instance(dataset, tmp_path / "a.dcm", transfer_syntax_uid=transfer_syntax_uid)

    with path.open("rb") as file:
        head = read_file_head(file)
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        offset_bytes = file.tell()

    assert head.sop_class_uid == dataset.SOPClassUID
    assert head.sop_instance_uid == dataset.SOPInstanceUID
    assert head.transfer_syntax_uid == transfer_syntax_uid
    assert head.data_set_offset_bytes == offset_bytes


def meta(*elements: tuple[int, bytes, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<HH2sH", 2, number, vr, len(value)) + value for number, vr, value in elements
    )
    return bytes(128) + b"DICM" + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not DICOM" * 100,
        bytes(128) + b"DICM",
        meta((2, b"UI", b"1.2.3\0"), (3, b"UI", b"1.2.4\0")),
        meta((2, b"UI", b"1.2.3\0"), (3, b"UI", b""), (0x10, b"UI", b"1.2\0")),
        meta((2, b"UI", b"1.2.3\0"), (3, b"UI", b"../../etc\0"), (0x10, b"UI", b"1.2\0")),
        meta((2, b"UI", b"1.2.3\0"), (3, b"UI", b"1." * 40), (0x10, b"UI", b"1.2\0")),
        bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 2, b"UI", 60_000) + b"1.2",
        bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 1, b"OB", 0, 0xFFFFFFFF),
    ],
)
def test_file_without_a_usable_head_is_not_understood(content: bytes) -> None:
    with pytest.raises(NotUnderstood):
        read_file_head(BytesIO(content))


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_prefix_are_read_or_not_understood(tail: bytes) -> None:
    content = bytes(128) + b"DICM" + tail
    try:
        head = read_file_head(BytesIO(content))
    except NotUnderstood:
        return
    assert head.data_set_offset_bytes <= len(content)
