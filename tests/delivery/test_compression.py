"""Results compressed on their way: the same object, in fewer bytes, for every reader."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.delivery.compression import SYNTAXES, compressed, compressed_syntax
from dicom_node.delivery.dicomweb import StowSender
from dicom_node.delivery.part10 import read_file_head
from dicom_node.delivery.sender import Sender
from dicom_node.errors import NotUnderstood
from tests.delivery.scripted_peer import scripted_peer
from tests.delivery.scripted_service import failed, scripted_service, stored
from tests.dicom_samples import ct_series, write_instance
from tests.peers import DcmtkStorescp, Orthanc, run_program

EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
OF_PIXELS = ("rle", "jpeg_ls", "jpeg_2000")


def image(
    folder: Path, bits: int, frames: int, samples: int = 1, *, size: tuple[int, int] = (33, 41)
) -> Path:
    """An image of odd size with noise of every value, and something behind its pixels."""
    dataset = ct_series((1, 8, 8))[0]
    shape = (frames, *size, samples)
    kind = np.dtype(f"<u{bits // 8}")
    pixels = np.random.default_rng(7).integers(0, 2**bits, shape, dtype=kind)
    pixels[:, :, 8:] = 0
    dataset.Rows, dataset.Columns = size
    dataset.SamplesPerPixel = samples
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    dataset.NumberOfFrames = frames
    dataset.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        dataset.PlanarConfiguration = 0
    data = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    dataset.PixelData = data + bytes(len(data) % 2)
    dataset.DataSetTrailingPadding = b"\1\2"
    return write_instance(dataset, folder / "image.dcm")


def syntax_of(path: Path, compression: str) -> str:
    with path.open("rb") as file:
        return compressed_syntax(path, read_file_head(file), compression)


def without_pixels(dataset: Dataset) -> dict[str, object]:
    return {str(one.tag): one.value for one in dataset if one.keyword != "PixelData"}


@pytest.mark.parametrize("compression", SYNTAXES)
@pytest.mark.parametrize(
    ("bits", "frames", "samples"), [(8, 3, 1), (16, 2, 1), (8, 1, 3), (8, 1, 1)]
)
def test_pixels_and_every_other_element_come_back_as_they_were(
    tmp_path: Path, compression: str, bits: int, frames: int, samples: int
) -> None:
    path = image(tmp_path, bits, frames, samples)
    syntax = syntax_of(path, compression)
    assert syntax == SYNTAXES[compression]
    before = dcmread(path)
    with compressed(path, syntax, tmp_path) as file:
        after = dcmread(file)
        assert after.file_meta.TransferSyntaxUID == syntax
        assert without_pixels(after) == without_pixels(before)
        assert np.array_equal(after.pixel_array, before.pixel_array)
    assert after.file_meta.MediaStorageSOPInstanceUID == before.SOPInstanceUID
    assert [one.name for one in tmp_path.iterdir()] == ["image.dcm"]


@pytest.mark.parametrize("compression", OF_PIXELS)
def test_each_frame_is_found_by_the_offset_table(tmp_path: Path, compression: str) -> None:
    from pydicom.encaps import get_frame, parse_basic_offsets

    with compressed(image(tmp_path, 8, 3), SYNTAXES[compression]) as file:
        pixels = dcmread(file).PixelData
    assert len(parse_basic_offsets(pixels)) == 3
    frames = [get_frame(pixels, number, number_of_frames=3) for number in range(3)]
    assert len(set(frames)) == 3 and all(frames)


def test_the_same_object_gives_the_same_bytes(tmp_path: Path) -> None:
    path = image(tmp_path, 8, 2)
    for syntax in SYNTAXES.values():
        with compressed(path, syntax) as first, compressed(path, syntax) as second:
            assert first.read() == second.read()


def test_a_deflated_data_set_is_the_data_set_and_of_even_length(tmp_path: Path) -> None:
    path = image(tmp_path, 8, 1)
    with path.open("rb") as file:
        file.seek(read_file_head(file).data_set_offset_bytes)
        data_set = file.read()
    with compressed(path, SYNTAXES["deflated"]) as file:
        file.seek(read_file_head(file).data_set_offset_bytes)
        deflated = file.read()
    assert len(deflated) % 2 == 0
    assert zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated) == data_set


@pytest.mark.parametrize("compression", OF_PIXELS)
@pytest.mark.parametrize("kind", ["bits", "floats", "none", "planes"])
def test_what_has_no_pixels_of_whole_bytes_goes_as_it_is(
    tmp_path: Path, compression: str, kind: str
) -> None:
    dataset = dcmread(image(tmp_path, 8, 1, 3 if kind == "planes" else 1))
    if kind == "bits":
        dataset.BitsAllocated = dataset.BitsStored = 1
    elif kind == "planes":
        dataset.PlanarConfiguration = 1
    else:
        del dataset.PixelData
    if kind == "floats":
        dataset.FloatPixelData = bytes(4 * 33 * 41)
    path = write_instance(dataset, tmp_path / "other.dcm")
    assert syntax_of(path, compression) == ""
    assert syntax_of(path, "deflated") == SYNTAXES["deflated"]


def test_without_the_setting_and_for_what_is_compressed_already_nothing_is_done(
    tmp_path: Path,
) -> None:
    path = image(tmp_path, 8, 1)
    assert syntax_of(path, "none") == ""
    with compressed(path, SYNTAXES["rle"]) as file:
        (tmp_path / "rle.dcm").write_bytes(file.read())
    assert syntax_of(tmp_path / "rle.dcm", "jpeg_ls") == ""


def test_damaged_pixel_data_are_not_compressed_into_something_else(tmp_path: Path) -> None:
    dataset = dcmread(image(tmp_path, 8, 2))
    dataset.NumberOfFrames = 3
    path = write_instance(dataset, tmp_path / "short.dcm")
    for compression in OF_PIXELS:
        with pytest.raises(NotUnderstood, match="another size") as caught:
            compressed(path, SYNTAXES[compression])
        assert caught.value.reason == "file.not_reencodable"


@pytest.mark.parametrize("compression", ["jpeg_ls", "jpeg_2000"])
def test_an_image_that_an_encoder_cannot_take_is_refused_in_our_words(
    tmp_path: Path, compression: str
) -> None:
    path = image(tmp_path, 8, 1, size=(7, 8))
    with pytest.raises(NotUnderstood) as caught:
        compressed(path, SYNTAXES[compression], tmp_path)
    assert caught.value.reason == "file.not_reencodable"
    assert [one.name for one in tmp_path.iterdir()] == ["image.dcm"]


@pytest.mark.parametrize("compression", SYNTAXES)
@pytest.mark.parametrize("is_taken", [True, False])
def test_a_peer_gets_compressed_what_it_takes_compressed(
    tmp_path: Path, compression: str, is_taken: bool
) -> None:
    path, syntax = image(tmp_path, 8, 2), SYNTAXES[compression]
    with scripted_peer(transfer_syntaxes=[EXPLICIT, *([syntax] if is_taken else [])]) as peer:
        (outcome,) = Sender("NODE").send(peer.peer(), [path], compression=compression)
    assert outcome.stored
    assert peer.transfer_syntaxes == [syntax if is_taken else EXPLICIT]
    assert (len(peer.data_sets[0]) < path.stat().st_size - 500) is is_taken


def test_what_cannot_be_compressed_goes_as_it_is(tmp_path: Path) -> None:
    path = image(tmp_path, 8, 1, size=(7, 8))
    with scripted_peer(transfer_syntaxes=[EXPLICIT, SYNTAXES["jpeg_2000"]]) as peer:
        (outcome,) = Sender("NODE").send(peer.peer(), [path], compression="jpeg_2000")
    assert outcome.stored
    assert peer.transfer_syntaxes == [EXPLICIT]


def test_a_dicomweb_service_that_refuses_the_compressed_object_gets_it_as_it_is(
    tmp_path: Path,
) -> None:
    path = image(tmp_path, 8, 2)
    with scripted_service(failed(0xC122), stored) as service:
        (outcome,) = StowSender().send(service.peer(), [path], compression="rle")
    assert outcome.stored
    first, second = (request.parts[0] for request in service.requests)
    assert dcmread(BytesIO(first)).file_meta.TransferSyntaxUID == SYNTAXES["rle"]
    assert second == path.read_bytes()


def test_a_file_is_not_compressed_unless_the_caller_says_so(tmp_path: Path) -> None:
    with scripted_peer(transfer_syntaxes=[EXPLICIT, SYNTAXES["rle"]]) as peer:
        Sender("NODE").send(peer.peer(), [image(tmp_path, 8, 1)])
    assert peer.proposed[0] == (CT, [EXPLICIT])
    assert peer.transfer_syntaxes == [EXPLICIT]


@pytest.mark.parametrize(
    ("compression", "program"),
    [("rle", "dcmdrle"), ("jpeg_ls", "dcmdjpls"), ("deflated", "dcmconv"),
     ("jpeg_2000", "gdcmconv")],
)
def test_another_maker_reads_the_same_pixels(
    tmp_path: Path, compression: str, program: str
) -> None:
    path, theirs = image(tmp_path, 8, 2), tmp_path / "theirs.dcm"
    with compressed(path, SYNTAXES[compression]) as file:
        (tmp_path / "ours.dcm").write_bytes(file.read())
    options = ["--raw"] if program == "gdcmconv" else []
    run_program(program, [*options, str(tmp_path / "ours.dcm"), str(theirs)])
    assert dcmread(theirs).PixelData == dcmread(path).PixelData


@pytest.mark.network
def test_archives_keep_what_was_compressed_as_the_same_object(tmp_path: Path) -> None:
    path = image(tmp_path, 8, 2)
    before = dcmread(path)
    with DcmtkStorescp(tmp_path, options=("+xa",)) as storescp, Orthanc(tmp_path) as orthanc:
        for peer in (storescp.peer, orthanc.peer):
            (outcome,) = Sender("NODE").send(peer, [path], compression="rle")
            assert outcome.stored
        (kept,) = storescp.files()
        there = orthanc.download(str(before.SOPInstanceUID))
    (tmp_path / "there.dcm").write_bytes(there)
    for arrived in (dcmread(kept), dcmread(tmp_path / "there.dcm")):
        assert arrived.file_meta.TransferSyntaxUID == SYNTAXES["rle"]
        assert np.array_equal(arrived.pixel_array, before.pixel_array)
