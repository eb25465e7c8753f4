"""A writer whose weights lie in a folder writes in a process of its own; models come before it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.drafting.impression import impression
from ai_models.drafting.writer_card import load_writer_card
from ai_models.trust import Site
from ai_models.types import ModelError, Volume
from ai_models.weights import folder_sha256
from dicom_node.errors import DeadlineExceeded, WorkerLost
from dicom_node.events import Events
from dicom_node.pipeline import writer_process
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.writer_process import WriterProcess, predicted_mib
from dicom_node.records import Priority
from tests.ai_models.drafting.test_folder_writer import DRAFT, WORDS, write_model
from tests.ai_models.drafting.test_impression import TOLD
from tests.ai_models.drafting.writers import writer_folder
from tests.ai_models.tiny_models import threshold_onnx
from tests.ai_models.tiny_models import write_model as write_tiny

PATIENCE_S = 120.0
WEIGHTS = {"path": "model", "sha256": "0" * 64, "licence": "MIT", "source": "test"}


class Scripted:
    """Stands for the process: answers what it is told to, when it is let go."""

    made: ClassVar[list[Scripted]] = []
    script: ClassVar[Any]

    def __init__(self, device: str, *_: object, name: str) -> None:
        self.device, self.name = device, name
        self.pid: int | None = 4711
        self.asked: list[dict[str, Any]] = []
        self.is_asked = threading.Event()
        type(self).made.append(self)

    def ask(
        self, request: dict[str, Any], deadline: float, cancelled: Callable[[], bool]
    ) -> dict[str, Any]:
        self.asked.append(request)
        self.is_asked.set()
        self.cancelled, self.deadline = cancelled, deadline
        try:
            said: dict[str, Any] = type(self).script(self)
            return said
        except WorkerLost:
            self.pid = None
            raise

    def end(self) -> None:
        self.pid = None

    def wait(self) -> dict[str, Any]:
        """As a process that draws on until it is wanted no more."""
        while not self.cancelled():
            time.sleep(0.01)
        raise WorkerLost("killed", reason="worker.cancelled")


def answer(_: Scripted) -> dict[str, Any]:
    return {"text": DRAFT, "notes": ["by a script"], "memory": {"peak_mib": 300.0}}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    class Mine(Scripted):
        made: ClassVar[list[Scripted]] = []
        script = staticmethod(answer)

    monkeypatch.setattr(writer_process, "WorkerProcess", Mine)
    return Mine


def made_pool(folder: Path) -> InferencePool:
    return InferencePool(["cpu"], Site(), folder, Events(), device_memory_mib={"cpu": 4000})


@pytest.fixture(scope="module")
def one_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferencePool]:
    made = made_pool(tmp_path_factory.mktemp("scratch"))
    yield made
    made.close()


@pytest.fixture
def pool(one_pool: InferencePool) -> Iterator[InferencePool]:
    yield one_pool
    one_pool.guests.send_away()


def writer_in(folder: Path, pool: InferencePool, **changes: Any) -> WriterProcess:
    options = {name: changes.pop(name) for name in ("idle_s", "rest_s") if name in changes}
    card = load_writer_card(writer_folder(folder, **{
        "writer": "huggingface", "endpoint": None, "weights": WEIGHTS, "max_tokens": 64,
        "device_memory_mib": 400, **changes,
    }))
    return WriterProcess(card, Site(), pool, Events(), **options)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def test_one_process_writes_draft_after_draft_and_its_memory_counts(
    tmp_path: Path, pool: InferencePool, scripted: type[Scripted]
) -> None:
    writer = writer_in(tmp_path, pool)
    for _ in range(2):
        made = impression(TOLD, writer, "en")
        assert (made.is_drafted, made.notes) == (True, ("by a script",))
    (process,) = scripted.made
    assert process.name == "cpu (writer)" and len(process.asked) == 2
    assert pool.held_mib() == {"cpu": 300.0}
    assert 4711 in pool.pids
    assert "E2" in process.asked[0]["messages"][1]["content"]


def test_without_a_draft_for_a_while_its_memory_is_given_back(
    tmp_path: Path, pool: InferencePool, scripted: type[Scripted]
) -> None:
    writer = writer_in(tmp_path, pool, idle_s=0.01)
    assert impression(TOLD, writer, "en").is_drafted
    until(lambda: scripted.made[0].pid is None and pool.held_mib() == {"cpu": 0.0})
    assert impression(TOLD, writer, "en").is_drafted
    assert len(scripted.made) == 2


@pytest.mark.parametrize("problem", [
    WorkerLost("ended by SIGKILL"), DeadlineExceeded("too late"),
    WorkerLost("short", reason="worker.out_of_memory"),
])
def test_a_process_that_is_lost_is_begun_again_and_rests_after_a_second_loss(
    tmp_path: Path, pool: InferencePool, scripted: type[Scripted],
    problem: WorkerLost | DeadlineExceeded,
) -> None:
    def lose(process: Scripted) -> dict[str, Any]:
        process.pid = None
        raise problem

    writer = writer_in(tmp_path, pool, rest_s=600.0)
    scripted.script = staticmethod(lose)
    assert impression(TOLD, writer, "en").fallback == problem.reason
    assert pool.held_mib() == {"cpu": 0.0}
    scripted.script = staticmethod(answer)
    assert impression(TOLD, writer, "en").is_drafted
    scripted.made[-1].pid = None
    scripted.script = staticmethod(lose)
    for _ in range(2):
        impression(TOLD, writer, "en")
    number = len(scripted.made)
    made = impression(TOLD, writer, "en")
    assert "it is begun again in 600 s" in made.why or "599 s" in made.why
    assert len(scripted.made) == number


def test_a_model_that_needs_the_memory_gets_it_and_the_template_stands(
    tmp_path: Path, pool: InferencePool, scripted: type[Scripted], monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripted.script = Scripted.wait
    writer, whys = writer_in(tmp_path, pool), []
    thread = threading.Thread(target=lambda: whys.append(impression(TOLD, writer, "en")))
    thread.start()
    until(lambda: scripted.made and scripted.made[0].is_asked.is_set())
    monkeypatch.setattr(pool, "_run", lambda *_: "predicted")
    write_tiny(tmp_path / "tiny", threshold_onnx(0.5), id="tiny", runtime__device_memory_mib=3800)
    card = load_card(tmp_path / "tiny")
    volume = Volume(np.full((9, 9, 9), 700, dtype=np.int16), np.eye(4))
    predicted: object = pool.predict(card, volume, deadline_s=60.0)
    assert predicted == "predicted"
    thread.join(PATIENCE_S)
    assert [one.fallback for one in whys] == ["worker.made_way"]
    assert scripted.made[0].pid is None


def test_what_no_device_has_room_for_is_a_fallback(
    tmp_path: Path, pool: InferencePool, scripted: type[Scripted]
) -> None:
    made = impression(TOLD, writer_in(tmp_path, pool, device_memory_mib=5000), "en")
    assert (made.fallback, scripted.made) == ("worker.out_of_memory", [])
    assert "5000 MiB are needed, and cpu has 4000" in made.why
    assert impression(
        TOLD, writer_in(tmp_path / "4", pool, precision="nf4"), "en"
    ).fallback == "model.backend_missing"


def test_the_draft_of_a_stat_job_is_the_next_one(
    tmp_path: Path, pool: InferencePool, scripted: type[Scripted]
) -> None:
    free, order = threading.Event(), []

    def slow(_: Scripted) -> dict[str, Any]:
        assert free.wait(PATIENCE_S)
        return answer(_)

    scripted.script = staticmethod(slow)
    writer = writer_in(tmp_path, pool)

    def draft(priority: Priority) -> None:
        writer.of(priority).write(TOLD, "en")
        order.append(priority)

    threads = []
    for number, one in enumerate((Priority.ROUTINE, Priority.BACKGROUND, Priority.STAT)):
        threads.append(threading.Thread(target=draft, args=(one,)))
        threads[-1].start()
        if number:
            until(partial(_stand_in_line, writer, number))
        else:
            until(lambda: scripted.made and scripted.made[0].is_asked.is_set())
    free.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == [Priority.ROUTINE, Priority.STAT, Priority.BACKGROUND]


def test_a_node_that_stops_ends_the_process_and_the_job_is_done_again(
    tmp_path: Path, scripted: type[Scripted]
) -> None:
    scripted.script, pool = Scripted.wait, made_pool(tmp_path / "scratch")
    writer, raised = writer_in(tmp_path, pool), []

    def draft() -> None:
        with pytest.raises(WorkerLost) as told:
            writer.write(TOLD, "en")
        raised.append(told.value.reason)

    thread = threading.Thread(target=draft)
    thread.start()
    until(lambda: scripted.made and scripted.made[0].is_asked.is_set())
    pool.close()
    thread.join(PATIENCE_S)
    assert raised == ["worker.stopping"]
    assert scripted.made[0].pid is None


def _stand_in_line(writer: WriterProcess, number: int) -> bool:
    return len(writer._turns._line) == number


def _said(said: dict[str, Any], _: Scripted) -> dict[str, Any]:
    return said


@pytest.mark.parametrize("said", [
    {"notes": []}, {"text": 3, "notes": []}, {"text": DRAFT, "notes": "x"}, {"text": "no JSON",
                                                                         "notes": []},
])
def test_what_is_no_answer_is_a_fallback(
    tmp_path: Path, pool: InferencePool, scripted: type[Scripted], said: dict[str, Any]
) -> None:
    scripted.script = staticmethod(partial(_said, said))
    made = impression(TOLD, writer_in(tmp_path, pool), "en")
    assert made.fallback in ("worker.lost", "model.wrong_output")


def test_what_it_takes_is_expected_by_its_weights(tmp_path: Path, pool: InferencePool) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"\0" * (8 << 20))
    (tmp_path / "model" / "config.json").write_text('{"torch_dtype": "float32"}')
    for precision, mib in (("fp32", 10), ("bf16", 5), ("nf4", 1.875)):
        writer = writer_in(tmp_path, pool, precision=precision, device_memory_mib=None)
        assert predicted_mib(writer._card) == 1024 + mib
    with pytest.raises(ModelError, match="demonstration"):
        WriterProcess(writer._card, Site(use="clinical"), pool, Events())


@pytest.mark.long
def test_tiny_language_model_writes_is_killed_and_writes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where torchvision is of another build than torch, workers are to see none.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\nsys.modules['torchvision'] = None\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    pool = made_pool(tmp_path / "scratch")
    write_model(tmp_path / "model", WORDS)
    weights = {**WEIGHTS, "sha256": folder_sha256(tmp_path / "model")}
    writer = writer_in(tmp_path, pool, weights=weights, device_memory_mib=1500)
    made = impression(TOLD, writer, "en")
    assert made.sentences[0].text == "Pleural effusion is present.", made.why
    assert "cpu, fp32" in made.notes[0]
    (pid,) = set(pool.pids) - {one.pid for one in pool._workers}
    assert pid not in (None, os.getpid())
    assert 50 < pool.held_mib()["cpu"] < 3000
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in pool.pids)
    assert impression(TOLD, writer, "en").is_drafted
    late = writer_in(tmp_path, pool, weights=weights, deadline_s=0.05)
    assert impression(TOLD, late, "en").fallback == "worker.deadline_exceeded"
    other = writer_in(tmp_path, pool)
    assert impression(TOLD, other, "en").fallback == "model.hash_mismatch"
    assert pool.pids
    pool.close()
    assert pool.pids == []
