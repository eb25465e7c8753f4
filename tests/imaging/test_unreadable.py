"""One bad file in a series: who it is, whether the rest is still a stack, and what is said."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_node.errors import NotUnderstood, StorageFailed, UnsuitableInput
from dicom_node.imaging import decode, volume
from dicom_node.imaging.codec_pool import CodecPool
from dicom_node.imaging.codec_process import CodecLimits
from dicom_node.imaging.reading import Header
from dicom_node.imaging.unreadable import LEFT_OUT, UnreadableInstances
from dicom_node.imaging.volume import VolumeLimits, load_volume
from tests.dicom_samples import ct_series, phantom_hu, write_series
from tests.imaging import bad_codec

SHAPE = (40, 33, 40)
J2K, JPEG_LS, NATIVE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1"


def series(folder: Path, syntax: str = NATIVE) -> list[Path]:
    noise = np.random.default_rng(3).integers(-1000, 1000, SHAPE).astype(np.int16)
    return write_series(ct_series(SHAPE, values_hu=noise), folder, transfer_syntax_uid=syntax)


def cut(path: Path) -> None:
    """Lose the last fifth of the file."""
    whole = path.read_bytes()
    path.write_bytes(whole[: -len(whole) // 5])


def garble(path: Path) -> None:
    """Ones in place of the first bytes of the codestream: a codec finds nothing in them."""
    whole = bytearray(path.read_bytes())
    at = whole.index(b"\xff\xd8\xff\xf7")
    whole[at : at + 60] = b"\1" * 60
    path.write_bytes(whole)


def refusal(paths: list[Path], limits: VolumeLimits = VolumeLimits()) -> UnreadableInstances:
    with pytest.raises(UnreadableInstances) as caught:
        load_volume(paths, limits)
    assert caught.value.reason == "input.unreadable_instances"
    return caught.value


@pytest.mark.parametrize("syntax", [J2K, JPEG_LS, NATIVE])
def test_a_cut_slice_inside_the_stack_declines_the_series_and_is_named(
    syntax: str, tmp_path: Path
) -> None:
    paths = series(tmp_path, syntax)
    cut(paths[17])
    error = refusal(paths)
    assert [one.path for one in error.instances] == [paths[17]]
    assert "1 of 40 images" in str(error)
    assert "input.missing_slices" in str(error)
    assert str(error.below(tmp_path)).startswith(
        "1 of 40 images cannot be read: 0017.dcm (input.undecodable); "
    )


@pytest.mark.parametrize(("syntax", "damage"), [(J2K, cut), (JPEG_LS, garble), (NATIVE, cut)])
def test_a_bad_slice_at_the_end_is_left_out_and_the_result_can_say_so(
    syntax: str, damage: object, tmp_path: Path
) -> None:
    assert callable(damage)
    paths = series(tmp_path, syntax)
    whole = load_volume(paths)
    damage(paths[39])
    loaded = load_volume(paths)
    np.testing.assert_array_equal(loaded.volume.array, whole.volume.array[:39])
    assert len(loaded.source_images) == len(loaded.content_digests) == 39
    assert [one.path for one in loaded.unreadable] == [paths[39]]
    (note,) = [note for note in loaded.notes if note.code == LEFT_OUT]
    assert note.text == (
        "1 of 40 images could not be read and was left out, nothing is said of them: "
        "slice at (-10.0, -20.0, 127.5) mm"
    )
    assert whole.unreadable == ()


def test_a_hole_that_is_allowed_is_interpolated_and_no_mask_is_claimed_for_it(
    tmp_path: Path,
) -> None:
    paths = series(tmp_path)
    cut(paths[17])
    loaded = load_volume(paths, VolumeLimits(max_missing_slices=1))
    assert loaded.volume.array.shape == SHAPE
    back = loaded.to_source_grid(np.ones(SHAPE, np.uint8))
    assert back.shape == (39, 33, 40)
    assert 18 not in [image.InstanceNumber for image in loaded.source_images]
    assert {note.code for note in loaded.notes} == {
        LEFT_OUT, "input.missing_slices_interpolated",
    }


def test_a_file_without_a_header_is_left_out_at_an_unknown_position(tmp_path: Path) -> None:
    paths = series(tmp_path)
    paths[0].write_bytes(b"noise" * 1000)
    loaded = load_volume(paths)
    assert len(loaded.source_images) == 39
    assert "one at an unknown position" in loaded.notes[0].text
    assert loaded.unreadable[0].reason == "dataset.not_understood"


def test_more_than_a_few_bad_slices_decline_the_series(tmp_path: Path) -> None:
    paths = series(tmp_path)
    for path in paths[36:]:
        cut(path)
    error = refusal(paths)
    assert [one.path for one in error.instances] == paths[36:]
    assert "too many" in str(error)
    paths = series(tmp_path)
    for path in paths[37:]:
        cut(path)
    assert len(load_volume(paths).unreadable) == 3


def test_unreadable_slices_are_named_in_one_order_whichever_is_found_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = series(tmp_path)
    cut(paths[38])
    cut(paths[39])
    found: list[Path | None] = []
    second_is_found = threading.Event()

    def late_for_the_first(header: Header, *rest: Any) -> None:
        try:
            decode.read_frames(header, *rest)
        except UnsuitableInput:
            if header.path == paths[38]:
                assert second_is_found.wait(60)
            found.append(header.path)
            second_is_found.set()
            raise

    monkeypatch.setattr(volume, "_THREADS", 4)
    monkeypatch.setattr(volume, "read_frames", late_for_the_first)
    assert [one.path for one in load_volume(paths).unreadable] == paths[38:]
    assert found == [paths[39], paths[38]]


def test_a_short_series_can_lose_none(tmp_path: Path) -> None:
    paths = series(tmp_path)[:9]
    cut(paths[8])
    refusal(paths)


def test_a_header_of_impossible_bits_is_of_its_file(tmp_path: Path) -> None:
    datasets = ct_series(SHAPE)
    datasets[39].BitsStored = 20
    loaded = load_volume(write_series(datasets, tmp_path))
    assert [one.reason for one in loaded.unreadable] == ["input.pixel_format"]


def test_a_header_of_an_absurd_size_is_of_its_file(tmp_path: Path) -> None:
    datasets = ct_series(SHAPE)
    datasets[39].Rows = datasets[39].Columns = 65535
    paths = write_series(datasets, tmp_path)
    loaded = load_volume(paths)
    assert [(one.path, one.reason) for one in loaded.unreadable] == [
        (paths[39], "input.undecodable")
    ]
    assert len(loaded.source_images) == 39


@pytest.mark.parametrize("cause", [errno.EIO, errno.EMFILE])
def test_a_header_that_the_disk_does_not_give_now_is_not_left_out(
    cause: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = series(tmp_path)
    opened = Path.open

    def failing(path: Path, *arguments: Any, **how: Any) -> Any:
        if path == paths[39]:
            raise OSError(cause, os.strerror(cause))
        return opened(path, *arguments, **how)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(StorageFailed):
        load_volume(paths)


def test_a_file_that_is_gone_is_left_out(tmp_path: Path) -> None:
    paths = series(tmp_path)
    paths[39].unlink()
    assert [one.path for one in load_volume(paths).unreadable] == [paths[39]]


def test_a_series_of_which_nothing_can_be_read_keeps_its_own_reason(tmp_path: Path) -> None:
    paths = series(tmp_path, J2K)
    for path in paths:
        cut(path)
    with pytest.raises(UnsuitableInput) as caught:
        load_volume(paths)
    assert caught.value.reason == "input.undecodable"
    for path in paths:
        path.write_bytes(b"noise")
    with pytest.raises(NotUnderstood):
        load_volume(paths)


def test_the_other_copy_of_a_bad_slice_is_enough(tmp_path: Path) -> None:
    datasets = ct_series(SHAPE)
    paths = write_series([*datasets, *ct_series(
        (1, *SHAPE[1:]), values_hu=phantom_hu(SHAPE)[:1],
        StudyInstanceUID=datasets[0].StudyInstanceUID,
        SeriesInstanceUID=datasets[0].SeriesInstanceUID,
        FrameOfReferenceUID=datasets[0].FrameOfReferenceUID,
    )], tmp_path / "copy")
    cut(paths[40])
    loaded = load_volume(paths)
    np.testing.assert_array_equal(loaded.volume.array, phantom_hu(SHAPE))
    assert [one.path for one in loaded.unreadable] == [paths[40]]


def test_what_the_disk_does_not_give_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = series(tmp_path)

    def failing(header: Header, *arguments: Any) -> None:
        if header.path == paths[39]:
            raise StorageFailed("the disk does not answer")
        decode.read_frames(header, *arguments)

    monkeypatch.setattr("dicom_node.imaging.volume.read_frames", failing)
    with pytest.raises(StorageFailed):
        load_volume(paths)


@pytest.fixture
def bad_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[CodecPool]:
    """Codecs that fail as the name of the file says."""
    pool = CodecPool(
        2, CodecLimits(cpu_s=0.5), (sys.executable, str(Path(bad_codec.__file__)))
    )
    monkeypatch.setattr(decode, "shared_pool", lambda: pool)
    yield pool
    pool.close()


@pytest.mark.parametrize(
    ("name", "reason"), [("crash", "input.codec_crashed"), ("loop", "input.codec_timeout")]
)
def test_a_slice_that_brings_the_codec_down_is_left_out_after_one_try(
    bad_pool: CodecPool, tmp_path: Path, name: str, reason: str
) -> None:
    paths = series(tmp_path, JPEG_LS)
    paths[39] = paths[39].rename(tmp_path / f"{name}.dcm")
    for _ in range(2):
        loaded = load_volume(paths)
        assert [one.reason for one in loaded.unreadable] == [reason]
        assert len(loaded.source_images) == 39
    assert bad_codec.tries(paths[39]) == 1
    paths[20] = paths[20].rename(tmp_path / f"{name}-2.dcm")
    error = refusal(paths)
    assert {one.path for one in error.instances} == {paths[20], paths[39]}


def test_a_series_of_crashing_slices_is_given_up_early(
    bad_pool: CodecPool, tmp_path: Path
) -> None:
    paths = [
        path.rename(tmp_path / f"crash-{path.name}") for path in series(tmp_path, JPEG_LS)
    ]
    refusal(paths)
    assert sum(bad_codec.tries(path) for path in paths) < 12
