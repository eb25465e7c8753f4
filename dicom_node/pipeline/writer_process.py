"""A writer whose weights lie in a folder, in a process of its own beside those of the models.

    write -> its turn -> room on a device (`InferencePool.room`) -> a worker -> text -> sentences

The process is begun with the first draft and ended when none was wanted for a while, when a draft
takes too long, or when a model needs its memory: models come first, and the draft that ends so is
one that the template stands for. What ends by itself is begun again with the next draft; after a
second time in a row the writer rests.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ai_models.drafting.asking import messages, sentences_in
from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.impression import WriterIdentity, Written
from ai_models.drafting.writer_card import WriterCard, why_writer_refused
from ai_models.trust import Site
from ai_models.types import ModelError, writable
from dicom_node.errors import DeadlineExceeded, NodeError, WorkerLost
from dicom_node.events import Events
from dicom_node.pipeline.guests import Guest
from dicom_node.pipeline.inference import HEARTBEAT_S, InferencePool
from dicom_node.pipeline.turns import Turns
from dicom_node.pipeline.worker_process import WorkerProcess
from dicom_node.records import Priority

REST_S = 60.0
IDLE_S = 600.0
MADE_WAY = "worker.made_way"
_STOPPING = "worker.stopping"
_LIBRARIES_MIB = 1024.0
_BESIDE_WEIGHTS = 1.25
_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "nf4": 0.75}
_STORED_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}
_MOST_NOTES, _LONGEST_NOTE = 8, 300


class WriterProcess:
    """Thread-safe: one draft at a time, the most urgent first.

    Parameters
    ----------
    card
        Of ``huggingface``.
    site
        What this site allows its writers.
    pool
        Whose devices it may have room on.
    idle_s
        Seconds without a draft after which its memory is given back.
    heartbeat_s
        As of the pool's workers.
    rest_s
        Seconds for which it is not asked after it was lost, or late, twice in a row.
    stopping
        Whether the node stops.
    """

    def __init__(
        self, card: WriterCard, site: Site, pool: InferencePool, events: Events, *,
        idle_s: float = IDLE_S, heartbeat_s: float = HEARTBEAT_S, rest_s: float = REST_S,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        if (why := why_writer_refused(card, site)) is not None:
            raise ModelError(why, reason="model.refused")
        self._card = card
        self._site = site
        self._pool = pool
        self._events = events
        self._idle_s, self._heartbeat_s, self._rest_s = idle_s, heartbeat_s, rest_s
        self._stops = stopping
        self._turns = Turns()
        self._need_mib = predicted_mib(card)
        self._process: WorkerProcess | None = None
        self._guest: Guest | None = None
        self._must_go = threading.Event()
        self._idle: threading.Timer | None = None
        self._losses = 0
        self._not_before = 0.0

    @property
    def identity(self) -> WriterIdentity:
        """See `Writer.identity`."""
        return self._card.identity

    def of(self, priority: Priority) -> PrioritisedWriter:
        """It for jobs of a priority."""
        return PrioritisedWriter(self, priority)

    def write(
        self, evidence: EvidenceList, language: str, priority: Priority = Priority.ROUTINE
    ) -> Written:
        """See `Writer.write`.

        Raises
        ------
        ModelError
            As `FolderWriter.answer` does; ``worker.*`` as `InferencePool.predict` does;
            ``worker.made_way``: a model needed the memory; ``model.wrong_output``.
        WorkerLost
            ``worker.stopping``
        """
        try:
            # Nobody waits for longer than for one draft that is begun and one that is made.
            with self._turns.taken(priority, within_s=self._card.deadline_s):
                answer = self._answer(messages(evidence, language))
        except NodeError as problem:
            if problem.reason == _STOPPING:
                raise
            raise ModelError(str(problem), reason=problem.reason) from problem
        notes = tuple(writable(str(one), _LONGEST_NOTE) for one in answer["notes"][:_MOST_NOTES])
        return Written(sentences_in(str(answer["text"])), notes)

    def close(self) -> None:
        """End the process; a draft in progress gets ``worker.stopping``."""
        self._end_now()

    def _answer(self, asked: list[dict[str, str]]) -> dict[str, Any]:
        now = time.monotonic()
        if now < self._not_before:
            raise WorkerLost(
                f"{self._card.id} ended again; it is begun again in {self._not_before - now:.0f} s"
            )
        self._still()
        self._must_go.clear()
        deadline = now + self._card.deadline_s
        try:
            answer = self._ask(asked, deadline)
        except OSError as error:
            raise WorkerLost(f"no process can be started: {error.strerror}") from error
        except NodeError as problem:
            if self._is_stopping():
                raise WorkerLost("the node is stopping", reason=_STOPPING) from problem
            if self._must_go.is_set():
                raise WorkerLost(
                    "a model needed the memory that it had", reason=MADE_WAY
                ) from problem
            if problem.reason == "worker.cancelled":
                raise DeadlineExceeded(
                    f"no device had {self._need_mib:.0f} MiB within {self._card.deadline_s:g} s"
                ) from problem
            self._lost(problem)
            raise
        finally:
            self._settle()
        self._losses = 0
        return answer

    def _ask(self, asked: list[dict[str, str]], deadline: float) -> dict[str, Any]:
        if self._process is None or self._process.pid is None:
            self._forget()
            on_processor = self._card.precision != "nf4"
            with self._pool.room(
                self._need_mib, deadline, lambda: self._must_go.is_set() or self._is_stopping(),
                on_processor=on_processor,
            ) as (number, device):
                self._process = WorkerProcess(
                    device, self._site, self._events, self._heartbeat_s, name=f"{device} (writer)"
                )
                process = self._process
                self._guest = Guest(
                    number, self._need_mib, self._end_now, lambda: process.pid
                )
                self._pool.guests.come(self._guest)
        guest = self._guest
        if guest is not None:
            guest.is_busy = True
        answer = self._process.ask(
            {"request": "draft", "writer": str(self._card.folder),
             "content": self._card.content.decode(), "messages": asked},
            deadline, lambda: self._must_go.is_set() or self._is_stopping(),
        )
        if not isinstance(answer.get("text"), str) or not isinstance(answer.get("notes"), list):
            raise WorkerLost("the worker of the writer answered off the protocol")
        # What it held at most: the next draft takes it again.
        self._need_mib = float(answer.get("memory", {}).get("peak_mib", self._need_mib))
        if guest is not None:
            guest.held_mib = self._need_mib
        return answer

    def _is_stopping(self) -> bool:
        return self._stops() or self._pool.is_closed

    def _lost(self, problem: NodeError) -> None:
        """Rest after the second loss in a row; what the weights or the answer lack is none."""
        if not problem.reason.startswith("worker."):
            return
        self._losses += 1
        if self._losses > 1:
            self._not_before = time.monotonic() + self._rest_s

    def _settle(self) -> None:
        """After a draft: what is left of the process is counted, or forgotten."""
        if self._process is None or self._process.pid is None:
            self._forget()
            return
        if self._guest is not None:
            self._guest.is_busy = False
        self._idle = threading.Timer(self._idle_s, self._end_if_idle)
        self._idle.daemon = True
        self._idle.start()

    def _still(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _forget(self) -> None:
        if self._guest is not None:
            self._pool.guests.leave(self._guest)
        self._guest = None
        self._process = None

    def _end_if_idle(self) -> None:
        with self._turns.if_free() as is_free:
            if is_free and self._process is not None:
                self._process.end()
                self._forget()

    def _end_now(self) -> None:
        """Called by who needs its memory, in any thread; returns when the process is gone.

        A draft in progress is ended by its own thread, which looks a few times a second.
        """
        self._must_go.set()
        with self._turns.taken(None, within_s=None):
            self._still()
            if self._process is not None:
                self._process.end()
            self._forget()


@dataclass(frozen=True)
class PrioritisedWriter:
    """A `WriterProcess` for jobs of one priority."""

    writer: WriterProcess
    priority: Priority

    @property
    def identity(self) -> WriterIdentity:
        """See `Writer.identity`."""
        return self.writer.identity

    def write(self, evidence: EvidenceList, language: str) -> Written:
        """See `WriterProcess.write`."""
        return self.writer.write(evidence, language, self.priority)


def predicted_mib(card: WriterCard) -> float:
    """What a writer will take, as its card says, else by its weights; nothing is measured."""
    if card.device_memory_mib is not None:
        return float(card.device_memory_mib)
    folder = card.folder / (card.weights.path or "")
    size = sum(_size(one) for one in folder.glob("*.safetensors"))
    try:
        settings = json.loads((folder / "config.json").read_bytes())
        stored = _STORED_BYTES[settings.get("dtype") or settings.get("torch_dtype")]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        stored = min(_STORED_BYTES.values())
    weights_mib = size * _BYTES[card.precision] / stored / (1 << 20)
    return _LIBRARIES_MIB + weights_mib * _BESIDE_WEIGHTS


def _size(path: Any) -> int:
    try:
        return int(path.stat().st_size)
    except OSError:
        # Not there: that is told when it is loaded.
        return 0

