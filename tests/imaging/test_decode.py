"""Pixel data of every wrapping, whole and damaged."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.errors import NotUnderstood, UnsuitableInput
from dicom_node.imaging.decode import decode_frames
from dicom_node.imaging.volume import load_volume
from tests.dicom_samples import ct_series, phantom_hu, radiograph, write_instance, write_series
from tests.shared_data import needs_shared, shared

WADO = shared("data", "dicom", "cornerstone-wado", "testImages")
PYDICOM = shared("data", "dicom", "pydicom-data", "data_store", "data")
SHAPE = (3, 33, 40)
LOSSLESS = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
]


def refused(dataset: Dataset, folder: Path) -> str:
    path = write_instance(dataset, folder / "image.dcm")
    with pytest.raises(UnsuitableInput) as caught:
        load_volume([path])
    return caught.value.reason


def test_every_lossless_syntax_gives_the_same_values_and_digests(tmp_path: Path) -> None:
    datasets = ct_series(SHAPE)
    digests = []
    for syntax in LOSSLESS:
        paths = write_series(datasets, tmp_path / syntax, transfer_syntax_uid=syntax)
        loaded = load_volume(paths)
        np.testing.assert_array_equal(loaded.volume.array, phantom_hu(SHAPE))
        digests.append(loaded.content_digests)
    assert all(found == digests[0] for found in digests)
    assert len(set(digests[0].values())) == 3


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    dataset = ct_series((1, 33, 40))[0]
    native = load_volume([write_instance(dataset, tmp_path / "little.dcm")])
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    path = tmp_path / "big.dcm"
    pydicom.dcmwrite(path, dataset, little_endian=False, implicit_vr=False)
    loaded = load_volume([path])
    np.testing.assert_array_equal(loaded.volume.array, native.volume.array)
    assert loaded.content_digests == native.content_digests


def test_a_deflate_bomb_is_refused_without_being_inflated(tmp_path: Path) -> None:
    path = write_instance(
        ct_series((1, 33, 40))[0], tmp_path / "bomb.dcm", transfer_syntax_uid=LOSSLESS[2]
    )
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    data_set = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    at = data_set.index(b"\xe0\x7f\x10\x00OW") + 8
    bomb = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    megabytes = 400
    with path.open("wb") as file:
        file.write(content[:start])
        file.write(bomb.compress(data_set[:at] + (megabytes << 20).to_bytes(4, "little")))
        for _ in range(megabytes):
            file.write(bomb.compress(bytes(1 << 20)))
        file.write(bomb.flush())
    tracemalloc.start()
    try:
        with pytest.raises(UnsuitableInput) as caught:
            load_volume([path])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "input.undecodable"
    assert peak_bytes < 64 << 20


def test_one_changed_pixel_position_or_intercept_changes_the_digest(tmp_path: Path) -> None:
    def digest() -> str:
        (found,) = load_volume(
            [write_instance(dataset, tmp_path / "image.dcm")]
        ).content_digests.values()
        return found

    dataset = ct_series((1, 33, 40))[0]
    found = [digest()]
    dataset.RescaleIntercept = "-1024.0"
    found.append(digest())
    assert found[0] == found[1]
    dataset.RescaleIntercept = "-1000"
    found.append(digest())
    dataset.ImagePositionPatient = [0, 0, 1]
    found.append(digest())
    dataset.PixelData = b"\1" + dataset.PixelData[1:]
    found.append(digest())
    assert len(set(found)) == 4


def test_overlays_and_junk_above_bits_stored_are_removed(tmp_path: Path) -> None:
    dataset = ct_series((1, 33, 40))[0]
    clean = np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.PixelData = (clean | 0xA000).astype("<u2").tobytes()
    (frame,) = decode_frames(write_instance(dataset, tmp_path / "image.dcm"))
    np.testing.assert_array_equal(frame.reshape(-1), clean)


def test_signed_cells_of_twelve_bits_are_sign_extended(tmp_path: Path) -> None:
    dataset = ct_series((1, 2, 2))[0]
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1
    dataset.PixelData = np.array([0x0FFF, 0x0800, 0x07FF, 0x0001], "<u2").tobytes()
    (frame,) = decode_frames(write_instance(dataset, tmp_path / "image.dcm"))
    assert frame.tolist() == [[-1, -2048], [2047, 1]]


def test_a_high_bit_at_the_top_is_shifted_down(tmp_path: Path) -> None:
    dataset = ct_series((1, 2, 2))[0]
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 15, 0
    dataset.PixelData = np.array([0x0010, 0x0020, 0xFFF0, 0x7FFF], "<u2").tobytes()
    (frame,) = decode_frames(write_instance(dataset, tmp_path / "image.dcm"))
    assert frame.tolist() == [[1, 2], [4095, 2047]]


def test_short_pixel_data_are_declined(tmp_path: Path) -> None:
    dataset = ct_series((1, 33, 40))[0]
    dataset.PixelData = dataset.PixelData[:-2]
    assert refused(dataset, tmp_path) == "input.undecodable"


def test_a_file_cut_inside_its_pixels_is_declined(tmp_path: Path) -> None:
    path = write_instance(ct_series((1, 33, 40))[0], tmp_path / "image.dcm")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnsuitableInput) as caught:
        load_volume([path])
    assert caught.value.reason == "input.undecodable"


@pytest.mark.parametrize("syntax", LOSSLESS[3:])
def test_damaged_compressed_data_are_declined(syntax: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(-1000, 1000, (1, 33, 40))
    (dataset,) = ct_series((1, 33, 40), values_hu=noise)
    path = write_instance(dataset, tmp_path / "image.dcm", transfer_syntax_uid=syntax)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 300])
    with pytest.raises((UnsuitableInput, NotUnderstood)) as caught:
        load_volume([path])
    assert caught.value.reason in ("input.undecodable", "dataset.not_understood")


def test_an_unknown_transfer_syntax_is_declined(tmp_path: Path) -> None:
    path = write_instance(ct_series((1, 33, 40))[0], tmp_path / "image.dcm")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0"))
    with pytest.raises(UnsuitableInput) as caught:
        load_volume([path])
    assert caught.value.reason == "input.undecodable"


def test_an_object_without_pixels_is_declined(tmp_path: Path) -> None:
    dataset = ct_series((1, 33, 40))[0]
    del dataset.PixelData
    assert refused(dataset, tmp_path) == "input.no_pixel_data"


def test_a_colour_image_is_declined(tmp_path: Path) -> None:
    dataset = ct_series((1, 33, 40))[0]
    dataset.PhotometricInterpretation = "RGB"
    assert refused(dataset, tmp_path) == "input.color"


def test_impossible_bits_are_declined(tmp_path: Path) -> None:
    dataset = ct_series((1, 33, 40))[0]
    dataset.BitsStored = 20
    assert refused(dataset, tmp_path) == "input.pixel_format"


def test_a_radiograph_decodes_from_memory_as_from_its_file(tmp_path: Path) -> None:
    dataset = radiograph()
    frames = decode_frames(write_instance(dataset, tmp_path / "image.dcm"))
    np.testing.assert_array_equal(frames, decode_frames(dataset))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damaged_byte_ends_in_a_volume_or_a_coded_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "image.dcm"
    uids: dict[str, Any] = dict.fromkeys(
        ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"), "1.2.3"
    )
    (dataset,) = ct_series((1, 8, 8), FrameOfReferenceUID="1.2.4", **uids)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    write_instance(dataset, path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(132, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        assert load_volume([path]).volume.array.ndim == 3
    except (UnsuitableInput, NotUnderstood) as error:
        assert error.reason


@needs_shared("data", "dicom", "cornerstone-wado")
def test_one_real_ct_is_the_same_image_in_every_lossless_syntax() -> None:
    digests = {}
    for path in sorted(WADO.glob("CTImage.dcm*")):
        syntax = path.name.rsplit("_", 1)[-1].removesuffix(".dcm") if "_" in path.name else ""
        (digests[syntax],) = load_volume([path]).content_digests.values()
    lossy = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 53, 55, 81, 91)}
    same = {digest for syntax, digest in digests.items() if syntax not in lossy}
    assert len(digests) == 16
    assert len(same) == 1


@needs_shared("data", "dicom", "pydicom-data")
@pytest.mark.parametrize("name", ["RLE", "big_endian", "jpeg_2k_lossless", "jpeg_ls_lossless"])
def test_a_real_multi_frame_mr_decodes_alike_in_every_syntax(name: str) -> None:
    frames = decode_frames(PYDICOM / "emri_small.dcm")
    assert frames.shape == (10, 64, 64)
    np.testing.assert_array_equal(decode_frames(PYDICOM / f"emri_small_{name}.dcm"), frames)


@needs_shared("data", "dicom", "pydicom-data")
def test_a_truncated_jpeg_2000_multi_frame_is_declined() -> None:
    with pytest.raises(UnsuitableInput) as caught:
        decode_frames(PYDICOM / "emri_small_jpeg_2k_lossless_too_short.dcm")
    assert caught.value.reason == "input.undecodable"
