"""What was read ahead: the same volume and the same refusals with it and without it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node.errors import NodeError
from dicom_node.imaging import decode
from dicom_node.imaging.codec_pool import CodecPool
from dicom_node.imaging.codec_process import CodecLimits
from dicom_node.imaging.decoded import Decoded
from dicom_node.imaging.volume import LoadedVolume, load_volume
from tests.dicom_samples import ct_series, enhanced_series, mr_series, write_series
from tests.imaging import bad_codec

SHAPE = (24, 33, 40)
MIB = 1 << 20
NATIVE, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
RLE, JPEG_LS, J2K = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
Outcome = LoadedVolume | tuple[type[NodeError], str, str]


def kept(paths: list[Path], decoded: Decoded | None = None, series: str = "1.2") -> Decoded:
    """A store that has all of them that can be read."""
    store = decoded or Decoded(64 * MIB)
    for path in paths:
        try:
            store.read(series, path)
        except NodeError:
            continue
    return store


def outcome(paths: list[Path], ahead: Decoded | None = None) -> Outcome:
    try:
        return load_volume(paths, ahead=ahead)
    except NodeError as error:
        return type(error), error.reason, str(error)


def assert_same(found: Outcome, expected: Outcome) -> None:
    if isinstance(expected, tuple) or isinstance(found, tuple):
        assert found == expected
        return
    array, other = found.volume.array, expected.volume.array
    assert array.dtype == other.dtype
    assert array.tobytes() == other.tobytes()
    np.testing.assert_array_equal(found.volume.affine_lps, expected.volume.affine_lps)
    np.testing.assert_array_equal(found.slice_coordinates, expected.slice_coordinates)
    assert found.volume.unit == expected.volume.unit
    assert found.content_digests == expected.content_digests
    assert found.frame_numbers == expected.frame_numbers
    assert found.notes == expected.notes
    assert found.unreadable == expected.unreadable
    for image, same in zip(found.source_images, expected.source_images, strict=True):
        assert image == same
        assert image.file_meta == same.file_meta
        assert "PixelData" not in image


@pytest.mark.parametrize("syntax", [NATIVE, IMPLICIT, DEFLATED, RLE, JPEG_LS, J2K])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_series_that_was_read_ahead_is_the_same_bit_by_bit(
    syntax: str, modality: str, tmp_path: Path
) -> None:
    noise = np.random.default_rng(5).integers(0, 1500, SHAPE).astype(np.int16)
    datasets = ct_series(SHAPE, values_hu=noise) if modality == "CT" else mr_series(SHAPE)
    paths = write_series(datasets, tmp_path, transfer_syntax_uid=syntax)
    expected = outcome(paths)
    decoded = kept(paths)
    assert_same(outcome(paths, decoded), expected)
    assert isinstance(expected, LoadedVolume)
    assert decoded.hits == SHAPE[0]
    assert (decoded.held_bytes, decoded.series) == (0, [])


def test_what_was_found_out_ahead_is_not_found_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_series(ct_series(SHAPE), tmp_path)
    expected, decoded = outcome(paths), kept(paths)

    def again(*_: object) -> None:
        raise AssertionError("it is known already")

    for name in ("image_digest", "planes_of", "rescale_of", "pixel_format"):
        monkeypatch.setattr(f"dicom_node.imaging.volume.{name}", again)
    assert_same(outcome(paths, decoded), expected)


def test_an_image_with_a_table_that_is_none_is_read_ahead_and_the_job_refuses_it(
    tmp_path: Path,
) -> None:
    datasets = ct_series(SHAPE)
    for dataset in datasets:
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [0, 0, 16], "HU"
        dataset.ModalityLUTSequence = [table]
    paths = write_series(datasets, tmp_path)
    expected = outcome(paths)
    assert isinstance(expected, tuple)
    assert expected[1] == "input.rescale_invalid"
    decoded = kept(paths)
    assert decoded.images == SHAPE[0]
    assert_same(outcome(paths, decoded), expected)


# What becomes of a file, before it is read ahead and after.
FATES = ("stays", "gone", "cut", "noise", "other pixels", "other header", "swapped", "unread")


def meet(fate: str, path: Path, others: Path) -> None:
    whole = path.read_bytes()
    if fate == "gone":
        path.unlink()
    elif fate == "cut":
        path.write_bytes(whole[: -len(whole) // 5])
    elif fate == "noise":
        path.write_bytes(b"noise" * 1000)
    elif fate == "other pixels":
        path.write_bytes(whole[:-40] + bytes(40))
    elif fate == "other header":
        path.write_bytes(whole.replace(b"Synthetic^Phantom", b"Phantom^Synthetic"))
    elif fate == "swapped":
        # As the spool replaces a file: another one under the same name.
        shutil.copy(others / path.name, path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)


@settings(
    max_examples=20, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    compressed=st.booleans(),
    before=st.dictionaries(st.integers(0, SHAPE[0] - 1), st.sampled_from(FATES), max_size=4),
    after=st.dictionaries(st.integers(0, SHAPE[0] - 1), st.sampled_from(FATES), max_size=4),
    late=st.sets(st.integers(0, SHAPE[0] - 1), max_size=5),
)
def test_whatever_became_of_its_files_a_series_is_the_same_with_and_without_reading_ahead(
    compressed: bool, before: dict[int, str], after: dict[int, str], late: set[int],
    samples: tuple[Path, Path, Path],
) -> None:
    native, encoded, others = samples
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "series")
        shutil.copytree(encoded if compressed else native, folder)
        paths = sorted(folder.iterdir())
        for number, fate in before.items():
            meet(fate, paths[number], others)
        decoded = kept([path for number, path in enumerate(paths) if number not in late])
        for number, fate in after.items():
            if paths[number].exists():
                meet(fate, paths[number], others)
        assert_same(outcome(paths, decoded), outcome(paths))
        assert decoded.held_bytes == 0


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A series as it is, the same compressed, and another one of the same shape."""
    folder = tmp_path_factory.mktemp("samples")
    datasets = ct_series(SHAPE)
    write_series(datasets, folder / "native")
    write_series(datasets, folder / "encoded", transfer_syntax_uid=JPEG_LS)
    noise = np.random.default_rng(7).integers(-1000, 1000, SHAPE).astype(np.int16)
    same = {"SeriesInstanceUID": datasets[0].SeriesInstanceUID,
            "StudyInstanceUID": datasets[0].StudyInstanceUID,
            "FrameOfReferenceUID": datasets[0].FrameOfReferenceUID}
    write_series(ct_series(SHAPE, values_hu=noise, **same), folder / "others")
    return folder / "native", folder / "encoded", folder / "others"


def test_a_file_whose_time_was_put_back_is_another_file_all_the_same(tmp_path: Path) -> None:
    paths = write_series(ct_series(SHAPE), tmp_path)
    decoded = kept(paths)
    found = paths[3].stat()
    meet("other pixels", paths[3], tmp_path)
    os.utime(paths[3], ns=(found.st_atime_ns, found.st_mtime_ns))
    assert decoded.take(paths[3]) is None
    assert decoded.take(paths[4]) is not None


def test_an_image_is_taken_once(tmp_path: Path) -> None:
    paths = write_series(ct_series(SHAPE), tmp_path)
    decoded = kept(paths)
    header = decoded.take(paths[0])
    assert header is not None and header.frame is not None
    assert header.frame.shape == (1, *SHAPE[1:])
    assert decoded.take(paths[0]) is None
    assert decoded.hits == 1


def test_copies_at_one_position_are_compared_with_what_was_read_ahead(tmp_path: Path) -> None:
    datasets = ct_series(SHAPE)
    copy = ct_series((1, *SHAPE[1:]), SeriesInstanceUID=datasets[0].SeriesInstanceUID,
                     StudyInstanceUID=datasets[0].StudyInstanceUID,
                     FrameOfReferenceUID=datasets[0].FrameOfReferenceUID)
    paths = write_series([*datasets, *copy], tmp_path)
    assert_same(outcome(paths, kept(paths)), outcome(paths))


def test_objects_of_several_frames_are_left_to_the_job(tmp_path: Path) -> None:
    paths = write_series([enhanced_series((8, 16, 20))], tmp_path)
    decoded = Decoded(64 * MIB)
    assert not decoded.read("1.2", paths[0])
    assert_same(outcome(paths, decoded), outcome(paths))
    assert decoded.hits == 0


def test_no_more_is_kept_than_the_budget_allows(tmp_path: Path) -> None:
    paths = write_series(ct_series(SHAPE), tmp_path)
    whole = kept(paths).held_bytes
    decoded = Decoded(whole // 2, keep_s=0)
    for path in paths:
        decoded.read("1.2", path)
        assert decoded.held_bytes <= whole // 2
    assert_same(outcome(paths, decoded), outcome(paths))
    assert 0 < decoded.hits < SHAPE[0]
    assert not Decoded(100).read("1.2", paths[0])


def test_the_least_recently_used_series_goes_first(tmp_path: Path) -> None:
    paths = write_series(ct_series((4, 32, 40)), tmp_path)
    one = kept(paths[:1]).held_bytes
    decoded = Decoded(2 * one + one // 2, keep_s=0)
    decoded.read("a", paths[0])
    decoded.read("b", paths[1])
    decoded.read("a", paths[0])
    decoded.read("c", paths[2])
    assert decoded.series == ["a", "c"]
    assert decoded.take(paths[1]) is None


def test_series_that_arrive_at_once_do_not_drive_each_other_out(tmp_path: Path) -> None:
    paths = write_series(ct_series((4, 32, 40)), tmp_path)
    decoded = Decoded(kept(paths[:1]).held_bytes * 3 // 2, keep_s=3600)
    assert decoded.read("a", paths[0])
    assert not decoded.read("b", paths[1])
    assert decoded.series == ["a"]


def test_what_is_dropped_is_gone_and_its_room_is_free(tmp_path: Path) -> None:
    paths = write_series(ct_series((4, 32, 40)), tmp_path)
    decoded = kept(paths[:2], series="a")
    kept(paths[2:], decoded, series="b")
    decoded.drop(["a", "unknown"])
    assert decoded.series == ["b"]
    assert decoded.take(paths[0]) is None
    decoded.drop(["b"])
    assert decoded.held_bytes == 0


def test_an_absurd_size_in_a_header_takes_no_memory(tmp_path: Path) -> None:
    datasets = ct_series((1, 32, 40))
    datasets[0].Rows = datasets[0].Columns = 65535
    paths = write_series(datasets, tmp_path)
    assert not Decoded(1024 * MIB).read("1.2", paths[0])


@pytest.fixture
def bad_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[CodecPool]:
    """Codecs that fail as the name of the file says."""
    pool = CodecPool(2, CodecLimits(cpu_s=0.5), (sys.executable, str(Path(bad_codec.__file__))))
    monkeypatch.setattr(decode, "shared_pool", lambda: pool)
    yield pool
    pool.close()


def test_a_file_that_ended_a_codec_ahead_is_left_out_without_another_try(
    bad_pool: CodecPool, tmp_path: Path
) -> None:
    paths = write_series(ct_series(SHAPE), tmp_path, transfer_syntax_uid=JPEG_LS)
    paths[-1] = paths[-1].rename(tmp_path / "crash.dcm")
    decoded = kept(paths)
    loaded = load_volume(paths, ahead=decoded)
    assert [(one.path, one.reason) for one in loaded.unreadable] == [
        (paths[-1], "input.codec_crashed")
    ]
    assert bad_codec.tries(paths[-1]) == 1
    assert_same(loaded, outcome(paths))


def test_threads_that_read_and_take_at_once_get_whole_images(tmp_path: Path) -> None:
    paths = write_series(ct_series(SHAPE), tmp_path)
    expected = outcome(paths)
    decoded = Decoded(8 * MIB)
    stop = threading.Event()

    def keep_reading() -> None:
        while not stop.is_set():
            kept(paths, decoded)

    reader = threading.Thread(target=keep_reading)
    reader.start()
    try:
        for _ in range(10):
            assert_same(outcome(paths, decoded), expected)
    finally:
        stop.set()
        reader.join()
    decoded.drop(["1.2"])
    assert decoded.held_bytes == 0
