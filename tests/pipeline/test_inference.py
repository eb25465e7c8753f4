"""Worker processes: what happens to a job when its process is slow, killed, or fails."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.card import Card, load_card
from ai_models.trust import Site
from ai_models.types import SegmentationPrediction, Volume
from dicom_node.errors import DeadlineExceeded, ModelFailed, UnsuitableInput, WorkerLost
from dicom_node.events import Events
from dicom_node.pipeline.inference import InferencePool, resolve_devices
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.pipeline.odd_models import Endless, Greedy, Stuck, Talkative, write_torchscript

Cards = dict[str, Card]


class Seen(Events):
    """Keeps what the workers did, and tells one waiting test about it."""

    def __init__(self) -> None:
        self.what: list[tuple[str, str]] = []
        self.on: dict[str, Callable[[str], None]] = {}

    def worker_changed(self, device: str, what: str, reason: str = "") -> None:
        self.what.append((what, reason))
        if what in self.on:
            self.on[what](reason)

    def count(self, what: str) -> int:
        return sum(1 for entry, _ in self.what if entry == what)

    @property
    def pid(self) -> int:
        return int([reason for what, reason in self.what if what == "started"][-1].split()[1])


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Cards:
    directory = tmp_path_factory.mktemp("models")
    write_model(directory / "bright", threshold_onnx(0.5))
    write_model(directory / "nan", threshold_onnx(float("nan")), id="nan")
    write_model(directory / "thick", threshold_onnx(0.5), id="thick", input__min_slices=900)
    write_torchscript(directory / "slow", Endless())
    write_torchscript(directory / "greedy", Greedy())
    write_torchscript(directory / "talkative", Talkative())
    write_torchscript(directory / "stuck", Stuck())
    write_model(
        directory / "asked", threshold_onnx(0.5), id="asked", output__probabilities=True
    )
    altered = write_model(directory / "altered", threshold_onnx(0.5), id="altered")
    (altered / "weights.onnx").write_bytes(threshold_onnx(0.6))
    return {folder.name: load_card(folder) for folder in directory.iterdir()}


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def pool(scratch: Path, seen: Seen) -> Iterator[InferencePool]:
    pool = InferencePool(["cpu"], Site(), scratch, seen)
    yield pool
    pool.close()


def volume_with_a_block() -> Volume:
    array = np.full((20, 24, 28), -1000, dtype=np.int16)
    array[6:14, 8:16, 10:20] = 1000
    return Volume(array, np.array([[0, 0, 2.0, 5], [0, 2.0, 0, 6], [2.0, 0, 0, 7], [0, 0, 0, 1]]))


def segment(
    pool: InferencePool, card: Card, deadline_s: float = 120, **options: Any
) -> SegmentationPrediction:
    prediction = pool.predict(card, volume_with_a_block(), deadline_s=deadline_s, **options)
    assert isinstance(prediction, SegmentationPrediction)
    return prediction


def test_prediction_comes_back_whole_from_the_worker(
    pool: InferencePool, cards: Cards, scratch: Path
) -> None:
    volume = volume_with_a_block()
    prediction = segment(pool, cards["bright"])
    assert np.array_equal(prediction.label_map == 1, volume.array > 0)
    assert prediction.labels[0].type.value == "39607008"
    assert prediction.labels[0].color_rgb == (255, 0, 0)
    assert prediction.algorithm.model_id == "bright"
    assert prediction.algorithm.family.value == "123110"
    assert prediction.seconds_by_stage["load"] > 0
    assert "CPUExecutionProvider" in prediction.notes[0]
    assert list(scratch.iterdir()) == []


def test_probabilities_that_the_card_asks_for_come_back_from_the_worker(
    pool: InferencePool, cards: Cards, scratch: Path
) -> None:
    volume = volume_with_a_block()
    prediction = segment(pool, cards["asked"])
    scores = prediction.probabilities[1]
    assert (scores.shape, scores.dtype) == (volume.array.shape, np.float32)
    assert np.array_equal(scores > 0.5, volume.array > 0)
    assert list(scratch.iterdir()) == []
    assert segment(pool, cards["bright"]).probabilities == {}


def test_a_model_that_never_ends_loading_ahead_gives_the_device_back(
    pool: InferencePool, cards: Cards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.pipeline.inference._LONGEST_AHEAD_S", 2.0)
    segment(pool, cards["bright"])
    assert pool.prepare(cards["stuck"])
    too_late = time.monotonic() + 60
    segment(pool, cards["bright"], cancelled=lambda: time.monotonic() > too_late)


def test_the_kernel_short_of_memory_takes_a_worker_before_the_listeners(
    pool: InferencePool, cards: Cards, seen: Seen
) -> None:
    segment(pool, cards["bright"])
    score = int(Path(f"/proc/{seen.pid}/oom_score_adj").read_text())
    assert score > int(Path("/proc/self/oom_score_adj").read_text())


def test_what_a_network_says_of_itself_is_cut_to_what_a_report_can_hold(
    pool: InferencePool, cards: Cards
) -> None:
    with pytest.raises(ModelFailed) as caught:
        segment(pool, cards["talkative"])
    said = str(caught.value)
    assert len(said) < 2100 and "NORMAL" in said
    assert "\x1b" not in said


def test_two_jobs_share_one_process_and_one_loaded_model(
    pool: InferencePool, cards: Cards, seen: Seen
) -> None:
    first = segment(pool, cards["bright"])
    second = segment(pool, cards["bright"])
    assert seen.count("started") == 1
    assert seen.count("model loaded") == 1
    assert "load" not in second.seconds_by_stage
    assert first.label_map.tobytes() == second.label_map.tobytes()


def test_worker_killed_during_a_job_costs_that_job_only(
    pool: InferencePool, cards: Cards, seen: Seen, scratch: Path
) -> None:
    def kill_soon() -> bool:
        if seen.count("started") == 1 and seen.count("killed") == 0:
            os.kill(seen.pid, signal.SIGKILL)
        return False

    with pytest.raises(WorkerLost, match="SIGKILL"):
        segment(pool, cards["slow"], cancelled=kill_soon)
    assert list(scratch.iterdir()) == []
    assert segment(pool, cards["bright"]).label_map.any()
    assert seen.count("started") == 2


def test_worker_that_died_between_jobs_is_replaced_unnoticed(
    pool: InferencePool, cards: Cards, seen: Seen
) -> None:
    segment(pool, cards["bright"])
    os.kill(seen.pid, signal.SIGSEGV)
    os.waitid(os.P_PID, seen.pid, os.WEXITED | os.WNOWAIT)
    assert segment(pool, cards["bright"]).label_map.any()


def test_deadline_kills_the_worker_and_the_next_job_gets_a_new_one(
    pool: InferencePool, cards: Cards, seen: Seen
) -> None:
    segment(pool, cards["bright"])
    pid = seen.pid
    with pytest.raises(DeadlineExceeded):
        segment(pool, cards["slow"], deadline_s=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert segment(pool, cards["bright"]).label_map.any()
    assert seen.count("started") == 2


def test_cancelling_kills_the_worker(pool: InferencePool, cards: Cards, seen: Seen) -> None:
    with pytest.raises(WorkerLost) as caught:
        segment(pool, cards["slow"], cancelled=lambda: seen.count("started") > 0)
    assert caught.value.reason == "worker.cancelled"
    assert ("killed", "cancelled") in seen.what


def test_a_worker_that_is_stopped_gives_no_heartbeat_and_is_replaced(
    cards: Cards, scratch: Path, seen: Seen
) -> None:
    pool = InferencePool(["cpu"], Site(), scratch, seen, heartbeat_s=3.0)
    stopped: list[int] = []

    def stop_once_it_computes() -> bool:
        live = pool._workers[0]._live
        if live is not None and not live.may_be_slow and not stopped:
            os.kill(live.process.pid, signal.SIGSTOP)
            stopped.append(live.process.pid)
        return False

    try:
        with pytest.raises(WorkerLost) as caught:
            segment(pool, cards["slow"], deadline_s=250, cancelled=stop_once_it_computes)
        assert caught.value.reason == "worker.no_heartbeat"
        assert ("killed", "no heartbeat") in seen.what
        with pytest.raises(ProcessLookupError):
            os.kill(stopped[0], 0)
        assert segment(pool, cards["bright"]).label_map.any()
    finally:
        pool.close()


def test_a_worker_that_computes_for_longer_than_the_heartbeat_is_left_alone(
    cards: Cards, scratch: Path, seen: Seen
) -> None:
    pool = InferencePool(["cpu"], Site(), scratch, seen, heartbeat_s=3.0)
    began: list[float] = []

    def cancel_after_more_than_a_heartbeat() -> bool:
        live = pool._workers[0]._live
        if live is not None and not live.may_be_slow:
            began.append(time.monotonic())
        return bool(began) and time.monotonic() - began[0] > 4.5

    try:
        with pytest.raises(WorkerLost) as caught:
            segment(
                pool, cards["slow"], deadline_s=250, cancelled=cancel_after_more_than_a_heartbeat
            )
        assert caught.value.reason == "worker.cancelled"
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("model_id", "error", "reason"),
    [
        ("nan", ModelFailed, "model.not_finite"),
        ("altered", ModelFailed, "model.hash_mismatch"),
        ("thick", UnsuitableInput, "input.too_few_slices"),
    ],
)
def test_what_the_model_raises_comes_back_typed_and_the_worker_lives(
    pool: InferencePool, cards: Cards, seen: Seen, model_id: str, error: type[Exception],
    reason: str,
) -> None:
    with pytest.raises(error) as caught:
        segment(pool, cards[model_id])
    assert caught.value.reason == reason  # type: ignore[attr-defined]
    assert segment(pool, cards["bright"]).label_map.any()
    assert seen.count("started") == 1


def test_two_devices_work_at_once(cards: Cards, scratch: Path, seen: Seen) -> None:
    pool = InferencePool(["cpu", "cpu"], Site(), scratch, seen)
    both_started = threading.Barrier(2, timeout=60)
    seen.on["started"] = lambda _reason: both_started.wait() and None
    try:
        threads = [
            threading.Thread(
                target=pool.predict, args=(cards["bright"], volume_with_a_block()),
                kwargs={"deadline_s": 120},
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        pool.close()
    assert seen.count("model loaded") == 2
    assert seen.count("ended") == 2


def test_closed_pool_takes_no_job(cards: Cards, scratch: Path, seen: Seen) -> None:
    pool = InferencePool(["cpu"], Site(), scratch, seen)
    pool.close()
    with pytest.raises(WorkerLost) as caught:
        segment(pool, cards["bright"])
    assert caught.value.reason == "worker.stopping"


def test_worker_ends_when_the_node_is_gone(pool: InferencePool, cards: Cards, seen: Seen) -> None:
    segment(pool, cards["bright"])
    live = pool._workers[0]._live
    assert live is not None
    live.requests.close()
    assert live.process.wait(timeout=30) == -signal.SIGKILL, "its group with it"


def test_devices_named_in_the_configuration_are_taken_as_they_are() -> None:
    assert resolve_devices(["cuda:1", "cpu"]) == ["cuda:1", "cpu"]
    assert resolve_devices("cpu") == ["cpu"]
