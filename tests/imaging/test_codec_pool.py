"""Codec processes that crash, loop, eat memory or are killed, and what is said of the file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import encapsulate, get_frame

from dicom_node.errors import NodeError, StorageFailed, UnsuitableInput, WorkerLost
from dicom_node.imaging import codec_process
from dicom_node.imaging.codec_pool import CodecPool
from dicom_node.imaging.codec_process import CodecLimits, EncodedFrames, Stored
from tests.dicom_samples import ct_series, enhanced_series, phantom_hu, write_instance
from tests.imaging import bad_codec

RLE, JPEG_LS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
BLAMES_THE_FILE = {"input.undecodable", "input.codec_crashed", "input.codec_timeout"}
SHAPE = (33, 40)
QUICK = CodecLimits(cpu_s=0.5, waiting_s=600.0, memory_bytes=1 << 30)
BAD_CODEC = (sys.executable, str(Path(bad_codec.__file__)))


@pytest.fixture
def pool() -> Iterator[CodecPool]:
    """One process with a codec that fails as the file name says."""
    made = CodecPool(1, QUICK, BAD_CODEC)
    yield made
    made.close()


def encoded(folder: Path, name: str) -> Path:
    dataset = ct_series((1, *SHAPE))[0]
    return write_instance(dataset, folder / f"{name}.dcm", transfer_syntax_uid=RLE)


def decode(pool: CodecPool, path: Path, syntax: str = RLE) -> Stored:
    out = np.empty((1, *SHAPE), "<i2")
    pool.decode(EncodedFrames(path, syntax, SHAPE, 1, (1,), out.dtype), out)
    return out


def failure(pool: CodecPool, path: Path, syntax: str = RLE) -> NodeError:
    with pytest.raises(NodeError) as caught:
        decode(pool, path, syntax)
    return caught.value


def assert_decodes(pool: CodecPool, folder: Path) -> None:
    expected = phantom_hu((1, *SHAPE)) + 1024
    np.testing.assert_array_equal(decode(pool, encoded(folder, "good")), expected)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash", "input.codec_crashed"),
        ("exit", "input.codec_crashed"),
        ("loop", "input.codec_timeout"),
        ("memory", "input.undecodable"),
    ],
)
def test_a_file_that_brings_its_codec_down_costs_only_itself(
    pool: CodecPool, tmp_path: Path, name: str, reason: str
) -> None:
    assert_decodes(pool, tmp_path)
    error = failure(pool, encoded(tmp_path, name))
    assert isinstance(error, UnsuitableInput)
    assert error.reason == reason
    assert_decodes(pool, tmp_path)


def test_a_file_that_crashed_a_codec_is_not_tried_again(pool: CodecPool, tmp_path: Path) -> None:
    path = encoded(tmp_path, "crash")
    assert [failure(pool, path).reason for _ in range(3)] == ["input.codec_crashed"] * 3
    assert bad_codec.tries(path) == 1


def test_a_file_that_was_replaced_is_tried_again(pool: CodecPool, tmp_path: Path) -> None:
    path = encoded(tmp_path, "crash")
    failure(pool, path)
    encoded(tmp_path, "new").replace(path)
    failure(pool, path)
    assert bad_codec.tries(path) == 2


def test_a_process_killed_between_files_is_replaced_unseen(
    pool: CodecPool, tmp_path: Path
) -> None:
    for _ in range(3):
        assert_decodes(pool, tmp_path)
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
    assert_decodes(pool, tmp_path)


def test_a_file_whose_process_was_killed_from_outside_is_tried_once_more(
    pool: CodecPool, tmp_path: Path
) -> None:
    path = encoded(tmp_path, "interrupted")
    decode(pool, path)
    assert bad_codec.tries(path) == 2


def test_a_file_is_not_blamed_for_processes_that_are_killed_from_outside(
    pool: CodecPool, tmp_path: Path
) -> None:
    path = encoded(tmp_path, "killed")
    error = failure(pool, path)
    assert isinstance(error, WorkerLost)
    assert error.reason == "worker.codec_killed"
    failure(pool, path)
    assert bad_codec.tries(path) == 4


def test_a_codec_that_stands_still_is_killed_and_the_file_not_blamed(tmp_path: Path) -> None:
    limits = CodecLimits(cpu_s=0.05, waiting_s=0.1)
    pool = CodecPool(1, limits, BAD_CODEC)
    error = failure(pool, encoded(tmp_path, "sleep"))
    assert error.transient
    assert error.reason == "worker.codec_stalled"
    assert pool.pids == []


def test_a_program_that_does_not_start_is_no_fault_of_the_file(tmp_path: Path) -> None:
    for command in (("/bin/false",), ("/nowhere/at/all",)):
        error = failure(CodecPool(1, QUICK, command), encoded(tmp_path, "good"))
        assert isinstance(error, WorkerLost)
        assert error.reason == "worker.codec_unavailable"


def test_a_file_that_is_gone_is_of_the_disk(pool: CodecPool, tmp_path: Path) -> None:
    assert isinstance(failure(pool, tmp_path / "absent.dcm"), StorageFailed)


def test_a_jpeg_ls_frame_without_a_height_loops_in_the_codec_and_is_ended(tmp_path: Path) -> None:
    dataset = ct_series((1, *SHAPE))[0]
    dataset.compress(JPEG_LS, generate_instance_uid=False)
    frame = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
    at = frame.index(b"\xff\xf7") + 5
    frame[at : at + 2] = b"\0\0"
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    pool = CodecPool(1, QUICK)
    assert failure(pool, tmp_path / "image.dcm", JPEG_LS).reason == "input.codec_timeout"
    assert_decodes(pool, tmp_path)
    pool.close()


def test_an_rle_run_beyond_the_image_panics_in_the_codec_and_is_declined(tmp_path: Path) -> None:
    dataset = ct_series((1, *SHAPE))[0]
    dataset.compress(RLE, generate_instance_uid=False)
    frame = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
    frame[190] = 129
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    pool = CodecPool(1, QUICK)
    assert failure(pool, tmp_path / "image.dcm").reason == "input.codec_crashed"
    assert_decodes(pool, tmp_path)
    pool.close()


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_2000])
def test_a_damaged_codestream_ends_in_an_image_or_in_an_answer_that_blames_the_file(
    syntax: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(11)
    dataset = ct_series((1, *SHAPE))[0]
    dataset.compress(syntax, generate_instance_uid=False)
    whole = get_frame(dataset.PixelData, 0, number_of_frames=1)
    pool = CodecPool(1, QUICK)
    for number in range(25):
        frame = bytearray(whole)
        for at in random.integers(0, len(frame), random.integers(1, 4)):
            frame[at] = random.choice([0, 1, 127, 129, 255])
        dataset.PixelData = encapsulate([bytes(frame)])
        dataset.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        try:
            assert decode(pool, tmp_path / f"{number}.dcm", syntax).shape == (1, *SHAPE)
        except UnsuitableInput as error:
            assert error.reason in BLAMES_THE_FILE
    pool.close()


def test_many_frames_come_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_process, "_BATCH_BYTES", 3 * 2 * 33 * 40)
    path = tmp_path / "enhanced.dcm"
    write_instance(enhanced_series((8, *SHAPE)), path, transfer_syntax_uid=RLE)
    out = np.empty((7, *SHAPE), "<i2")
    numbers = (8, 1, 3, 2, 7, 5, 4)
    pool = CodecPool(1)
    pool.decode(EncodedFrames(path, RLE, SHAPE, 8, numbers, out.dtype), out)
    pool.close()
    expected = phantom_hu((8, *SHAPE))[[number - 1 for number in numbers]] + 1024
    np.testing.assert_array_equal(out, expected)


def test_a_codec_process_knows_no_settings_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_NODE__DATABASE__URL", "postgresql://node:secret@host/node")
    pool = CodecPool(1)
    assert_decodes(pool, tmp_path)
    (pid,) = pool.pids
    assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert "Max core file size        0" in Path(f"/proc/{pid}/limits").read_text()
    pool.close()
    assert pool.pids == []


def test_codec_processes_end_with_the_process_that_has_them(tmp_path: Path) -> None:
    path = encoded(tmp_path, "good")
    code = (
        "import sys, time, numpy as np\n"
        "from dicom_node.imaging.codec_pool import shared_pool\n"
        "from dicom_node.imaging.decode import decode_frames\n"
        "from pathlib import Path\n"
        f"decode_frames(Path({str(path)!r}))\n"
        "print(shared_pool().pids[0], flush=True)\n"
        "time.sleep(3600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        pid = int(node.stdout.readline())
        assert _runs(pid)
        node.kill()
    until = time.monotonic() + 60
    while _runs(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
