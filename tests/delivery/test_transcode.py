from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from dicom_node.delivery.sender import Sender
from dicom_node.delivery.transcode import alternatives, transcoded
from dicom_node.errors import NotUnderstood, StorageFailed
from tests.delivery.scripted_peer import EXPLICIT, IMPLICIT, scripted_peer
from tests.dicom_samples import ct_series, enhanced_series, write_instance, write_series

DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
MPEG_4 = "1.2.840.10008.1.2.4.102"
BOTH = pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT])

# Files that come with pydicom: colour, signed, several frames, lossy, big endian.
REAL = [
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_bigendian.dcm",
    "JPEG2000.dcm",
    "JPGExtended.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_16bit.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "examples_ybr_color.dcm",
    "image_dfl.dcm",
    "ExplVR_BigEnd.dcm",
    "liver_expb_1frame.dcm",
]


def sample(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this pydicom comes without {name}")
    return Path(str(path))


def read(file: BinaryIO) -> FileDataset:
    with file:
        return dcmread(file)


def without_pixels(dataset: Dataset, *changed: str) -> dict[Any, Any]:
    left_out = {"PixelData", *changed}
    # Group lengths are retired and no writer keeps them.
    return {e.tag: e.value for e in dataset if e.keyword not in left_out and e.tag.element != 0}


@BOTH
@pytest.mark.parametrize("name", REAL)
def test_plain_form_of_a_real_file_has_the_pixels_that_the_compressed_one_decodes_to(
    name: str, target: str
) -> None:
    path = sample(name)
    original, plain = dcmread(path), read(transcoded(path, target))
    assert plain.file_meta.TransferSyntaxUID == target
    assert plain.SOPInstanceUID == original.SOPInstanceUID
    assert plain.file_meta.MediaStorageSOPInstanceUID == original.SOPInstanceUID
    assert np.array_equal(plain.pixel_array, original.pixel_array)
    assert plain.get("NumberOfFrames") == original.get("NumberOfFrames")
    cells = original.Rows * original.Columns * original.SamplesPerPixel
    bits = original.BitsAllocated * int(original.get("NumberOfFrames") or 1)
    assert len(plain.PixelData) == (cells * bits + 15) // 16 * 2


@BOTH
@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_2000, DEFLATED])
def test_lossless_file_gives_back_the_cells_and_elements_that_were_compressed(
    tmp_path: Path, syntax: str, target: str
) -> None:
    dataset = enhanced_series((5, 40, 33))
    path = write_instance(dataset, tmp_path / "e.dcm", transfer_syntax_uid=syntax)
    plain = read(transcoded(path, target))
    assert plain.PixelData == dataset.PixelData
    assert without_pixels(plain) == without_pixels(dcmread(path))


@BOTH
def test_encapsulated_offset_tables_go_with_the_compression(tmp_path: Path, target: str) -> None:
    path = write_instance(enhanced_series((3, 32, 32)), tmp_path / "e.dcm", transfer_syntax_uid=RLE)
    dataset = dcmread(path)
    dataset.ExtendedOffsetTable = bytes(24)
    dataset.ExtendedOffsetTableLengths = bytes(24)
    dataset.save_as(path)
    plain = read(transcoded(path, target))
    assert "ExtendedOffsetTable" not in plain
    assert "ExtendedOffsetTableLengths" not in plain


def colour(tmp_path: Path, photometric: str, *, size: int = 3) -> Path:
    """One odd-sized RLE colour image, planes stored one after the other."""
    dataset = dcmread(sample("SC_rgb_rle_2frame.dcm"))
    cells = np.arange(size * size * 3, dtype=np.uint8).reshape(size, size, 3)
    dataset.Rows = dataset.Columns = size
    dataset.PhotometricInterpretation = photometric
    dataset.PlanarConfiguration = 0
    del dataset.NumberOfFrames
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    dataset.PixelData = cells.tobytes() + b"\0"
    dataset["PixelData"].is_undefined_length = False
    dataset.compress(RLE, generate_instance_uid=False)
    dataset.PlanarConfiguration = 1
    path = tmp_path / "colour.dcm"
    dataset.save_as(path)
    return path


@BOTH
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_lossless_colour_is_not_converted_and_is_padded_to_even_length(
    tmp_path: Path, photometric: str, target: str
) -> None:
    plain = read(transcoded(colour(tmp_path, photometric), target))
    assert plain.PixelData == bytes(range(27)) + b"\0"
    assert plain.PhotometricInterpretation == photometric
    assert plain.PlanarConfiguration == 0


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("examples_ybr_color.dcm", "YBR_FULL_422", "RGB"),
        ("SC_rgb_jpeg_dcmtk.dcm", "YBR_FULL", "RGB"),
        ("GDCMJ2K_TextGBR.dcm", "YBR_RCT", "RGB"),
        ("SC_rgb_dcmtk_+eb+cr.dcm", "RGB", "RGB"),
    ],
)
def test_colour_model_names_what_the_codec_left(name: str, before: str, after: str) -> None:
    path = sample(name)
    assert dcmread(path, stop_before_pixels=True).PhotometricInterpretation == before
    plain = read(transcoded(path, EXPLICIT))
    assert plain.PhotometricInterpretation == after
    assert plain.PlanarConfiguration == 0
    assert plain["PixelData"].VR == "OB"


def test_image_that_was_compressed_with_loss_still_says_so(tmp_path: Path) -> None:
    dataset = dcmread(sample("JPGExtended.dcm"))
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = "7.5"
    dataset.save_as(tmp_path / "said.dcm")
    plain = read(transcoded(tmp_path / "said.dcm", EXPLICIT))
    assert (plain.LossyImageCompression, plain.LossyImageCompressionRatio) == ("01", 7.5)


def test_image_that_never_said_it_was_compressed_with_loss_says_so_now(tmp_path: Path) -> None:
    dataset = dcmread(sample("JPGExtended.dcm"))
    for keyword in ("", "Method", "Ratio"):
        if f"LossyImageCompression{keyword}" in dataset:
            delattr(dataset, f"LossyImageCompression{keyword}")
    dataset.save_as(tmp_path / "silent.dcm")
    plain = read(transcoded(tmp_path / "silent.dcm", EXPLICIT))
    assert plain.LossyImageCompression == "01"
    assert plain.LossyImageCompressionMethod == "ISO_10918_1"
    assert 1 < plain.LossyImageCompressionRatio < 100


def test_bits_above_the_stored_ones_survive_rle(tmp_path: Path) -> None:
    dataset = ct_series((1, 16, 16))[0]
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    cells = np.arange(256, dtype="<u2") | 0x8000
    dataset.PixelData = cells.tobytes()
    path = write_instance(dataset, tmp_path / "overlay.dcm", transfer_syntax_uid=RLE)
    assert read(transcoded(path, EXPLICIT)).PixelData == cells.tobytes()


def test_signed_values_of_few_bits_come_back_signed_with_their_high_bit(tmp_path: Path) -> None:
    dataset = ct_series((1, 32, 32))[0]
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1
    cells = np.arange(-512, 512, dtype="<i2")
    dataset.PixelData = cells.tobytes()
    path = write_instance(dataset, tmp_path / "signed.dcm", transfer_syntax_uid=JPEG_LS)
    plain = read(transcoded(path, EXPLICIT))
    assert plain.PixelData == cells.tobytes()
    assert (plain.BitsAllocated, plain.BitsStored, plain.HighBit) == (16, 12, 11)


@BOTH
def test_compressed_icon_is_decompressed_with_its_image(tmp_path: Path, target: str) -> None:
    icon, image = ct_series((2, 32, 32))
    write_instance(icon, tmp_path / "icon.dcm", transfer_syntax_uid=RLE)
    path = write_instance(image, tmp_path / "image.dcm", transfer_syntax_uid=RLE)
    small, whole = dcmread(tmp_path / "icon.dcm"), dcmread(path)
    item = Dataset()
    for element in small:
        if element.tag.group in (0x0028, 0x7FE0):
            item.add(element)
    whole.IconImageSequence = [item]
    whole.save_as(path)
    plain = read(transcoded(path, target))
    assert plain.IconImageSequence[0].PixelData == icon.PixelData
    assert not plain.IconImageSequence[0]["PixelData"].is_undefined_length
    assert plain.PixelData == image.PixelData


@BOTH
@pytest.mark.parametrize("syntax", [RLE, EXPLICIT, IMPLICIT, DEFLATED])
def test_elements_behind_the_pixel_data_are_kept(tmp_path: Path, syntax: str, target: str) -> None:
    if syntax == target:
        return
    dataset = ct_series((1, 16, 16))[0]
    dataset.add_new(0xFFFCFFFC, "OB", b"\1\2\3\4")
    path = write_instance(dataset, tmp_path / "tail.dcm", transfer_syntax_uid=syntax)
    assert read(transcoded(path, target))[0xFFFCFFFC].value == b"\1\2\3\4"


def test_report_without_pixels_changes_its_encoding_only() -> None:
    path = sample("reportsi.dcm")
    plain = read(transcoded(path, IMPLICIT))
    assert without_pixels(plain) == without_pixels(dcmread(path))


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE, DEFLATED])
def test_large_object_goes_through_in_pieces(tmp_path: Path, syntax: str) -> None:
    values = np.zeros((64, 512, 512), np.int16)
    path = write_instance(
        enhanced_series(values.shape, values_hu=values),
        tmp_path / "big.dcm",
        transfer_syntax_uid=syntax,
    )
    transcoded(path, IMPLICIT).close()
    tracemalloc.start()
    try:
        plain = transcoded(path, IMPLICIT, tmp_path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    with plain:
        assert plain.seek(0, 2) > values.nbytes
    assert peak_bytes < values.nbytes / 4


def test_copy_has_no_name_that_could_stay_behind(tmp_path: Path) -> None:
    path = write_instance(ct_series((1, 16, 16))[0], tmp_path / "a.dcm", transfer_syntax_uid=RLE)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with transcoded(path, EXPLICIT, scratch):
        assert list(scratch.iterdir()) == []


def test_folder_that_cannot_be_written_is_a_matter_of_now(tmp_path: Path) -> None:
    path = write_instance(ct_series((1, 16, 16))[0], tmp_path / "a.dcm", transfer_syntax_uid=RLE)
    with pytest.raises(StorageFailed) as raised:
        transcoded(path, EXPLICIT, tmp_path / "missing")
    assert raised.value.transient


def damaged(tmp_path: Path, how: str) -> Path:
    path = write_instance(
        enhanced_series((2, 32, 32)), tmp_path / "d.dcm", transfer_syntax_uid=JPEG_LS
    )
    dataset = dcmread(path)
    if how == "junk":
        dataset.PixelData = encapsulate([b"not a codestream!", b"neither is this"])
    elif how == "a frame short":
        dataset.NumberOfFrames = 3
    elif how == "another size":
        dataset.Rows = 64
    elif how == "video":
        dataset.file_meta.TransferSyntaxUID = UID(MPEG_4)
    dataset.save_as(path)
    if how == "cut off":
        path.write_bytes(path.read_bytes()[:-300])
    return path


@pytest.mark.parametrize("how", ["junk", "a frame short", "another size", "video", "cut off"])
def test_file_without_a_plain_form_is_refused_for_good(tmp_path: Path, how: str) -> None:
    with pytest.raises(NotUnderstood) as raised:
        transcoded(damaged(tmp_path, how), EXPLICIT)
    assert raised.value.reason == "file.not_reencodable"


def test_damage_at_which_the_rle_codec_panics_is_refused_like_any_other(tmp_path: Path) -> None:
    path = write_instance(ct_series((1, 16, 16))[0], tmp_path / "p.dcm", transfer_syntax_uid=RLE)
    dataset = dcmread(path)
    # Two segments whose last run goes on behind the end of the image.
    segment = bytes([257 - 128, 7]) * 3
    offsets = np.array([2, 64, 64 + len(segment), *[0] * 13], "<u4")
    dataset.PixelData = encapsulate([offsets.tobytes() + segment * 2])
    dataset.save_as(path)
    with pytest.raises(NotUnderstood) as raised:
        transcoded(path, EXPLICIT)
    assert raised.value.reason == "file.not_reencodable"


def test_report_that_is_cut_off_is_refused_for_good(tmp_path: Path) -> None:
    (tmp_path / "cut.dcm").write_bytes(sample("reportsi.dcm").read_bytes()[:692])
    with pytest.raises(NotUnderstood):
        transcoded(tmp_path / "cut.dcm", IMPLICIT)


def test_deflated_file_that_is_cut_off_is_refused_for_good(tmp_path: Path) -> None:
    path = write_instance(ct_series((1, 64, 64))[0], tmp_path / "d", transfer_syntax_uid=DEFLATED)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(NotUnderstood):
        transcoded(path, EXPLICIT)


def test_deflated_file_that_inflates_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.delivery.transcode._LONGEST_INFLATED_BYTES", 1 << 21)
    dataset = ct_series((1, 16, 16))[0]
    dataset.PixelData = bytes(1 << 23)
    path = write_instance(dataset, tmp_path / "bomb.dcm", transfer_syntax_uid=DEFLATED)
    assert path.stat().st_size < 1 << 16
    with pytest.raises(NotUnderstood, match="inflates to more"):
        transcoded(path, IMPLICIT)


def test_nothing_is_ever_turned_into_a_compressed_syntax(tmp_path: Path) -> None:
    path = write_instance(ct_series((1, 16, 16))[0], tmp_path / "a.dcm")
    for syntax in (RLE, JPEG_LS, DEFLATED):
        with pytest.raises(NotUnderstood):
            transcoded(path, syntax)
    for syntax in (EXPLICIT, IMPLICIT, RLE, JPEG_LS, DEFLATED, BIG_ENDIAN, MPEG_4):
        assert set(alternatives(syntax)) <= {EXPLICIT, IMPLICIT} - {syntax}


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_2000, DEFLATED])
def test_compressed_series_reaches_a_peer_that_takes_only_implicit_little_endian(
    tmp_path: Path, syntax: str
) -> None:
    datasets = ct_series((3, 32, 40))
    paths = write_series(datasets, tmp_path / "ct", transfer_syntax_uid=syntax)
    with scripted_peer(transfer_syntaxes=[IMPLICIT]) as script:
        outcomes = Sender("NODE").send(script.peer(), paths)
    assert [outcome.stored for outcome in outcomes] == [True] * 3
    assert script.received == [dataset.SOPInstanceUID for dataset in datasets]
    assert script.transfer_syntaxes == [IMPLICIT] * 3
    for dataset, sent in zip(datasets, script.data_sets, strict=True):
        assert dataset.PixelData in sent


def test_object_for_which_there_is_no_room_to_copy_is_tried_later_and_does_not_stop_others(
    tmp_path: Path,
) -> None:
    (path,) = write_series(ct_series((1, 32, 40)), tmp_path / "rle", transfer_syntax_uid=RLE)
    plain = write_series(ct_series((1, 32, 40)), tmp_path / "plain")
    with scripted_peer() as script:
        sender = Sender("NODE", scratch=tmp_path / "missing")
        outcomes = sender.send(script.peer(), [path, *plain])
    assert [outcome.stored for outcome in outcomes] == [False, True]
    assert (outcomes[0].transient, outcomes[0].reason) == (True, "storage.failed")


def test_damaged_file_does_not_hold_back_the_ones_behind_it(tmp_path: Path) -> None:
    (bad,) = write_series(ct_series((1, 32, 40)), tmp_path / "bad", transfer_syntax_uid=JPEG_LS)
    dataset = dcmread(bad)
    dataset.PixelData = encapsulate([b"not a codestream!"])
    dataset.save_as(bad)
    good = write_series(ct_series((2, 32, 40)), tmp_path / "good", transfer_syntax_uid=JPEG_LS)
    with scripted_peer(transfer_syntaxes=[IMPLICIT]) as script:
        outcomes = Sender("NODE").send(script.peer(), [bad, *good])
    assert [outcome.stored for outcome in outcomes] == [False, True, True]
    assert outcomes[0].reason == "file.not_reencodable"
    assert not outcomes[0].transient
