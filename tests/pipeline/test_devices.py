"""Several devices of one pool, each with a real process: which gets what, what is remembered."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ai_models.card import Card, load_card
from ai_models.trust import Site
from ai_models.types import Volume
from dicom_node.errors import DeadlineExceeded, WorkerLost
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.retry import OUT_OF_MEMORY
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.pipeline.odd_models import Endless, Greedy, Holding, Stuck, write_torchscript
from tests.pipeline.test_inference import Seen, segment, volume_with_a_block

MIG = "MIG-d0e4c1a2-6b1f-5c0f-8f0e-3b1a2c3d4e5f"
BLOCK = volume_with_a_block()
EMPTY = Volume(np.full((8, 8, 8), -1000, dtype=np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Card]:
    directory = tmp_path_factory.mktemp("models")
    write_model(directory / "bright", threshold_onnx(0.5))
    write_torchscript(directory / "endless", Endless())
    write_torchscript(directory / "greedy", Greedy())
    for name in ("holding", "holding-too"):
        write_torchscript(directory / name, Holding(150), runtime__device_memory_mib=160)
    return {folder.name: load_card(folder) for folder in directory.iterdir()}


class Where(Seen):
    """Keeps on which device what happened, too."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[tuple[str, str, str]] = []

    def worker_changed(self, device: str, what: str, reason: str = "") -> None:
        super().worker_changed(device, what, reason)
        self.at.append((device, what, reason))


@pytest.fixture
def seen() -> Where:
    return Where()


def pool_of(
    tmp_path: Path, seen: Where, *devices: str, budgets: dict[str, float] | None = None,
    heartbeat_s: float = 30.0,
) -> InferencePool:
    return InferencePool(
        devices or ("cpu",), Site(), tmp_path / "scratch", seen, heartbeat_s,
        device_memory_mib=budgets, measured=tmp_path / "memory.json",
    )


@pytest.fixture
def two(tmp_path: Path, seen: Where) -> Iterator[InferencePool]:
    pool = pool_of(tmp_path, seen, "cpu", "cpu")
    yield pool
    pool.close()


def numbers_of_started(pool: InferencePool) -> list[int]:
    return [number for number, one in enumerate(pool._workers) if one._live is not None]


def lose(pool: InferencePool, card: Card, job_id: str) -> WorkerLost:
    """Kill the worker that computes the job."""

    def kill_once_it_computes() -> bool:
        for worker in pool._workers:
            live = worker._live
            if live is not None and live.is_ready and not live.may_be_slow:
                os.kill(live.process.pid, signal.SIGKILL)
                live.may_be_slow = True
        return False

    with pytest.raises(WorkerLost, match="SIGKILL") as caught:
        pool.predict(
            card, BLOCK, deadline_s=250, cancelled=kill_once_it_computes, job_id=job_id
        )
    return caught.value


def test_a_job_whose_worker_was_killed_goes_to_the_other_device_and_then_to_any(
    two: InferencePool, cards: dict[str, Card]
) -> None:
    segment(two, cards["bright"])
    assert numbers_of_started(two) == [0]
    assert lose(two, cards["endless"], "job-1").reason == "worker.lost"
    assert two._lost == {"job-1": {1}}, "the empty one was taken before the one with a warm model"
    lose(two, cards["endless"], "job-1")
    assert two._lost == {"job-1": {0, 1}}
    segment(two, cards["bright"], job_id="job-1")
    assert two._lost == {}, "a job that came through is forgotten"


def test_a_job_that_passed_its_deadline_or_ran_out_of_memory_goes_elsewhere(
    two: InferencePool, cards: dict[str, Card]
) -> None:
    segment(two, cards["bright"])
    with pytest.raises(DeadlineExceeded):
        segment(two, cards["endless"], deadline_s=8, job_id="late")
    with pytest.raises(WorkerLost) as caught:
        segment(two, cards["greedy"], job_id="greedy")
    assert caught.value.reason == OUT_OF_MEMORY
    assert {len(numbers) for numbers in two._lost.values()} == {1}
    (avoided,) = two._lost["late"]
    segment(two, cards["bright"], job_id="late")
    assert 1 - avoided in numbers_of_started(two)


def test_a_worker_beside_which_another_hangs_goes_on(
    two: InferencePool, cards: dict[str, Card]
) -> None:
    stop = threading.Event()

    def hang() -> None:
        with pytest.raises(WorkerLost):
            two.predict(cards["endless"], BLOCK, deadline_s=250, cancelled=stop.is_set)

    thread = threading.Thread(target=hang)
    thread.start()
    try:
        for _ in range(2):
            assert segment(two, cards["bright"]).label_map.any()
    finally:
        stop.set()
        thread.join()


def test_two_models_stay_warm_within_the_budget_and_the_oldest_goes_beyond_it(
    tmp_path: Path, seen: Where, cards: dict[str, Card]
) -> None:
    pool = pool_of(tmp_path, seen, budgets={"cpu": 700.0})
    try:
        for name in ("holding", "holding-too", "holding"):
            segment(pool, cards[name])
        assert seen.count("model loaded") == 2 and seen.count("model evicted") == 0
        held = pool._workers[0].warm_mib
        assert len(held) == 2 and all(mib > 100 for mib in held.values())
    finally:
        pool.close()
    # What both took was measured and kept: a smaller device has room for one of them at a time.
    assert (tmp_path / "memory.json").exists()
    pool = pool_of(tmp_path, seen, budgets={"cpu": 350.0})
    try:
        for name in ("holding", "holding-too"):
            segment(pool, cards[name])
        assert seen.at[-2:] == [
            ("cpu", "model evicted", "holding"), ("cpu", "model loaded", "holding-too")
        ]
    finally:
        pool.close()


def test_what_a_job_took_is_measured_and_kept(
    tmp_path: Path, seen: Where, cards: dict[str, Card]
) -> None:
    path = tmp_path / "memory.json"
    path.write_bytes(b"\x00 damaged")
    pool = pool_of(tmp_path, seen)
    try:
        segment(pool, cards["holding"])
    finally:
        pool.close()
    by_kind = json.loads(path.read_text())["cards"][cards["holding"].fingerprint]
    ((size, peak_mib),) = by_kind["cpu"].items()
    assert 150 <= peak_mib < 2000 and int(size) > 0


def test_a_model_is_loaded_while_its_series_is_still_coming(
    tmp_path: Path, seen: Where, cards: dict[str, Card]
) -> None:
    loaded = threading.Event()
    seen.on["model loaded"] = lambda _reason: loaded.set()
    pool = pool_of(tmp_path, seen)
    try:
        assert pool.prepare(cards["bright"])
        assert not pool.prepare(cards["bright"]), "no device is idle"
        assert loaded.wait(120)
        assert "load" not in segment(pool, cards["bright"]).seconds_by_stage
        assert not pool.prepare(cards["bright"]), "it is warm"
    finally:
        pool.close()
    assert not pool.prepare(cards["bright"])


def test_a_model_that_cannot_be_loaded_ahead_is_told_and_costs_nothing(
    tmp_path: Path, seen: Where, cards: dict[str, Card]
) -> None:
    altered = load_card(write_model(tmp_path / "altered", threshold_onnx(0.5), id="altered"))
    (altered.folder / "weights.onnx").write_bytes(threshold_onnx(0.6))
    told = threading.Event()
    seen.on["model not loaded ahead"] = lambda _reason: told.set()
    pool = pool_of(tmp_path, seen)
    try:
        assert pool.prepare(altered)
        assert told.wait(120)
        assert ("model not loaded ahead", "model.hash_mismatch") in seen.what
        assert segment(pool, cards["bright"]).label_map.any()
    finally:
        pool.close()


def test_a_job_of_another_model_gets_the_device_of_one_that_never_ends_loading_ahead(
    tmp_path: Path, seen: Where, cards: dict[str, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.pipeline.inference._AHEAD_WAITED_FOR_S", 1.0)
    stuck = write_torchscript(tmp_path / "stuck", Stuck())
    pool = pool_of(tmp_path, seen)
    try:
        assert pool.prepare(stuck)
        assert segment(pool, cards["bright"]).label_map.any()
        assert ("model not loaded ahead", "worker.cancelled") in seen.what
    finally:
        pool.close()


def test_closing_does_not_wait_for_a_model_that_is_loaded_ahead(
    tmp_path: Path, seen: Where, cards: dict[str, Card]
) -> None:
    pool = pool_of(tmp_path, seen)
    assert pool.prepare(cards["bright"])
    pool.close()
    assert all(worker._live is None for worker in pool._workers)


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


@pytest.mark.parametrize(
    ("device", "visible", "inside"), [(MIG, MIG, "cuda:0"), ("cuda:3", "3", "cuda:0")]
)
def test_a_worker_is_started_with_its_device_and_no_other(
    tmp_path: Path, seen: Where, cards: dict[str, Card], monkeypatch: pytest.MonkeyPatch,
    device: str, visible: str, inside: str,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    pool = pool_of(tmp_path, seen, device)
    try:
        prediction = pool.predict(cards["bright"], EMPTY, deadline_s=200)
        assert any("was asked for" in note for note in prediction.notes), "there is no such device"
        live = pool._workers[0]._live
        assert live is not None
        assert environment_of(live.process.pid)["CUDA_VISIBLE_DEVICES"] == visible
        words = Path(f"/proc/{live.process.pid}/cmdline").read_bytes().decode().split("\0")
        assert words[words.index("--device") + 1] == inside
        assert {told for told, _, _ in seen.at} == {device}
    finally:
        pool.close()
