"""A series that is read as a whole before its job asks: the same to the last bit, or nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.card_entries import InputEntry
from ai_models.types import ModelInput, Volume
from dicom_node.imaging.decoded import Decoded
from dicom_node.pipeline import made_ready as module
from dicom_node.pipeline.exchange import read_source
from dicom_node.pipeline.laid_out import LaidOut
from dicom_node.pipeline.loading import Loaded, load_input
from dicom_node.pipeline.made_ready import MadeReady
from tests.dicom_samples import ct_series, write_instance

PATIENCE_S = 60.0
ENTRY: Any = {
    "modality": ["CT"], "ndim": 3, "spacing_mm": [2.0, 2.0, 2.0],
    "intensity": {"unit": "HU", "clip": [-1000.0, 1000.0]},
}


def entry(**changes: Any) -> InputEntry:
    return InputEntry.model_validate({**ENTRY, **changes})


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "series"
    folder.mkdir()
    return [
        write_instance(one, folder / f"{number}.dcm")
        for number, one in enumerate(ct_series((12, 32, 40)))
    ]


def read_one_by_one(paths: list[Path], budget_bytes: int = 64 << 20) -> Decoded:
    decoded = Decoded(budget_bytes)
    for path in paths:
        assert decoded.read("1.2.3", path)
    return decoded


def test_what_is_taken_is_what_the_job_would_have_read_and_is_taken_once(
    paths: list[Path],
) -> None:
    decoded = read_one_by_one(paths)
    ready, alone = MadeReady(decoded), load_input(paths, entry())
    assert ready.make("1.2.3", paths, entry())
    assert (ready.series, decoded.images) == (["1.2.3"], 0)
    assert isinstance(alone.model_input, Volume)
    assert decoded.held_bytes == alone.model_input.array.nbytes
    taken = ready.take("1.2.3", paths, entry())
    assert taken is not None and isinstance(taken.model_input, Volume)
    np.testing.assert_array_equal(taken.model_input.array, alone.model_input.array)
    np.testing.assert_array_equal(taken.model_input.affine_lps, alone.model_input.affine_lps)
    assert taken.content_digests == alone.content_digests
    assert list(taken.content_digests) == list(alone.content_digests)
    assert taken.source_images == alone.source_images
    assert (taken.frame_numbers, taken.notes) == (alone.frame_numbers, alone.notes)
    assert ready.take("1.2.3", paths, entry()) is None
    assert decoded.held_bytes == 0


def _another_file(paths: list[Path]) -> tuple[list[Path], InputEntry]:
    return paths[:-1], entry()


def _another_order(paths: list[Path]) -> tuple[list[Path], InputEntry]:
    return paths[::-1], entry()


def _another_model(paths: list[Path]) -> tuple[list[Path], InputEntry]:
    return paths, entry(min_slices=5)


def _written_anew(paths: list[Path]) -> tuple[list[Path], InputEntry]:
    content = paths[3].read_bytes()
    paths[3].unlink()
    paths[3].write_bytes(content)
    return paths, entry()


def _gone(paths: list[Path]) -> tuple[list[Path], InputEntry]:
    paths[3].unlink()
    return paths, entry()


@pytest.mark.parametrize(
    "changed", [_another_file, _another_order, _another_model, _written_anew, _gone]
)
def test_of_other_or_changed_files_or_for_another_model_nothing_is_taken(
    paths: list[Path], changed: Any
) -> None:
    forgotten: list[ModelInput] = []
    decoded = Decoded(64 << 20)
    ready = MadeReady(decoded, forget=forgotten.append)
    assert ready.make("1.2.3", paths, entry())
    assert ready.take("1.2.3", *changed(list(paths))) is None
    assert len(forgotten) == 1 and decoded.held_bytes == 0 and not ready.series


def test_what_cannot_be_read_whole_is_left_to_the_job(paths: list[Path]) -> None:
    ready = MadeReady(Decoded(64 << 20))
    assert not ready.make("1.2.3", paths, entry(min_slices=13))
    paths[5].write_bytes(b"no DICOM")
    assert not ready.make("1.2.3", paths, entry())
    assert not ready.series and ready.take("1.2.3", paths, entry()) is None


def test_what_has_no_room_is_not_kept_and_what_is_dropped_gives_its_room_back(
    paths: list[Path],
) -> None:
    small = Decoded(1000)
    assert not MadeReady(small).make("1.2.3", paths, entry())
    assert small.held_bytes == 0
    decoded = Decoded(64 << 20)
    forgotten: list[ModelInput] = []
    ready = MadeReady(decoded, forget=forgotten.append)
    assert ready.make("1.2.3", paths, entry())
    ready.drop(["1.2.3", "unheard of"])
    assert (decoded.held_bytes, ready.series, len(forgotten)) == (0, [], 1)


def test_what_will_have_no_room_is_not_even_read(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A series that is larger than all that may be kept: to read it twice costs its job time, and
    # memory that nobody has counted.
    def never(*_: Any) -> Loaded:
        raise AssertionError("it was read")

    monkeypatch.setattr(module, "load_input", never)
    frame_bytes = 32 * 40 * 2
    assert not MadeReady(Decoded(11 * frame_bytes)).make("1.2.3", paths, entry())
    resting = read_one_by_one(paths)
    full = read_one_by_one(paths, resting.held_bytes + 11 * frame_bytes)
    others = [path.with_name(f"other-{path.name}") for path in paths]
    for path, other in zip(paths, others, strict=True):
        other.write_bytes(path.read_bytes())
    assert not MadeReady(full).make("1.2.4", others, entry())
    assert full.images == len(paths), "what waits for its own job stays"


def test_a_job_that_comes_meanwhile_waits_for_what_is_being_read(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = MadeReady(Decoded(64 << 20))
    began, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Loaded:
        began.set()
        assert go_on.wait(PATIENCE_S)
        return load_input(*arguments)

    monkeypatch.setattr(module, "load_input", slow)
    making = threading.Thread(target=ready.make, args=("1.2.3", paths, entry()))
    making.start()
    assert began.wait(PATIENCE_S)
    assert ready.take("another", paths, entry()) is None
    taken: list[Loaded | None] = []
    taking = threading.Thread(target=lambda: taken.append(ready.take("1.2.3", paths, entry())))
    taking.start()
    go_on.set()
    taking.join(PATIENCE_S)
    making.join(PATIENCE_S)
    assert taken[0] is not None


def volume(value: int = 7) -> Volume:
    return Volume(np.full((4, 5, 6), value, dtype=np.int16), np.eye(4))


def test_an_input_that_was_laid_out_lies_in_the_folder_of_its_request(tmp_path: Path) -> None:
    laid, folder = LaidOut(tmp_path), tmp_path / "request"
    folder.mkdir()
    source, other = volume(), volume()
    laid.lay(source)
    [held] = tmp_path.glob("ahead-*/source.npy")
    inode = held.stat().st_ino
    assert (folder / "source.npy").exists() is False
    told = laid.told(source, folder)
    assert (folder / "source.npy").stat().st_ino == inode
    assert not list(tmp_path.glob("ahead-*"))
    np.testing.assert_array_equal(np.asarray(read_source(told).array), source.array)
    # The same values are another input.
    again = laid.told(other, folder)
    assert Path(again["path"]).stat().st_ino != inode or again == told


def test_what_was_laid_out_and_removed_by_somebody_is_written(tmp_path: Path) -> None:
    laid, folder, source = LaidOut(tmp_path), tmp_path / "request", volume()
    folder.mkdir()
    laid.lay(source)
    next(tmp_path.glob("ahead-*/source.npy")).unlink()
    np.testing.assert_array_equal(
        np.asarray(read_source(laid.told(source, folder)).array), source.array
    )


def test_nothing_that_was_laid_out_stays_behind(tmp_path: Path) -> None:
    laid, first, second = LaidOut(tmp_path), volume(1), volume(2)
    laid.lay(first)
    laid.lay(second)
    laid.forget(first)
    laid.forget(first)
    assert len(list(tmp_path.glob("ahead-*"))) == 1
    LaidOut(tmp_path / "nowhere").lay(first)
    laid.close()
    assert not list(tmp_path.iterdir())
    laid.lay(second)
    (tmp_path / "inference-1").mkdir()
    (tmp_path / "inference-1" / "source.npy").touch()
    LaidOut(tmp_path)
    assert not list(tmp_path.iterdir()), "what a process that was killed had laid out"
