"""What compressed frames say of their size, and that it is checked before they are decoded."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pydicom.encaps import encapsulate, get_frame

from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.codestream import claimed_size
from dicom_node.imaging.pixel_decoder import Undecodable, decoded_frames
from dicom_node.imaging.volume import load_volume
from tests.dicom_samples import ct_series

JPEG_LS, JPEG_2000, RLE = (
    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5",
)


@pytest.mark.parametrize(
    ("syntax", "size"), [(JPEG_LS, (33, 40)), (JPEG_2000, (33, 40)), (RLE, None)]
)
def test_the_size_of_a_frame_is_read_from_its_codestream(
    syntax: str, size: tuple[int, int] | None
) -> None:
    dataset = ct_series((1, 33, 40))[0]
    dataset.compress(syntax, generate_instance_uid=False)
    assert claimed_size(get_frame(dataset.PixelData, 0, number_of_frames=1)) == size


@pytest.mark.parametrize(
    "frame", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xc0\0", b"x" * 9]
)
def test_a_damaged_frame_claims_nothing(frame: bytes) -> None:
    assert claimed_size(frame) is None


def test_a_frame_that_claims_another_size_is_never_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ct_series((1, 33, 40))[0]
    dataset.compress(JPEG_LS, generate_instance_uid=False)
    frame = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
    at = frame.index(b"\xff\xf7") + 5
    frame[at : at + 4] = struct.pack(">HH", 65535, 65535)
    dataset.PixelData = encapsulate([bytes(frame)])

    def decodes(*_: object, **__: object) -> None:
        raise AssertionError("it must not be decoded")

    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.as_array", decodes)
    with pytest.raises(Undecodable, match="another size"):
        list(decoded_frames(dataset, JPEG_LS, (33, 40), 1, [1]))
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(UnsuitableInput, match="another size"):
        load_volume([path])
