"""A writer that keeps no job longer than its time, whatever its host does.

A client's time-out begins anew with every piece of an answer, so that a host that sends one now and
then would hold a job for as long as it likes. A host that was too late is left alone for a while:
else each of the jobs that wait would lose that time again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ai_models.backends.http_endpoint import UNAVAILABLE
from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.impression import Writer, WriterIdentity, Written
from ai_models.types import ModelError
from dicom_node.errors import WorkerLost

REST_S = 60.0
_MOST_LATE = 4
_LOOK_EVERY_S = 0.5


class PunctualWriter:
    """Asks ``writer``, for ``within_s`` at most, and after that not for ``rest_s``.

    Parameters
    ----------
    writer
        Who writes.
    within_s, rest_s
        Seconds.
    clock
        Seconds that only go forward.
    stopping
        Whether the node stops: then nobody waits for a host.
    """

    def __init__(
        self, writer: Writer, within_s: float, rest_s: float = REST_S,
        clock: Callable[[], float] = time.monotonic,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.writer = writer
        self._within_s = within_s
        self._rest_s = rest_s
        self._clock = clock
        self._stopping = stopping
        self._not_before = clock()
        self._late: list[_Asked] = []

    @property
    def identity(self) -> WriterIdentity:
        """That of the writer."""
        return self.writer.identity

    def write(self, evidence: EvidenceList, language: str) -> Written:
        """See `Writer.write`.

        Raises
        ------
        ModelError
            As the writer does; ``worker.endpoint_unavailable``: it is late, or was a moment ago.
        WorkerLost
            ``worker.stopping``
        """
        began = self._clock()
        if began < self._not_before:
            left_s = self._not_before - began
            raise _late(f"it was so a moment ago, and is asked again in {left_s:.0f} s")
        self._late = [one for one in self._late if not one.is_done.is_set()]
        if len(self._late) >= _MOST_LATE:
            raise _late(f"it still owes {_MOST_LATE} drafts")
        asked = _Asked(self.writer, evidence, language)
        # Nothing ends a thread that reads: it goes with the host's answer, or with this process.
        threading.Thread(target=asked.run, name="draft", daemon=True).start()
        if not self._is_done(asked):
            self._late.append(asked)
            self._not_before = self._clock() + self._rest_s
            raise _late(f"no draft within {self._within_s:g} s")
        try:
            return asked.written()
        except ModelError as problem:
            # A client that gave up by itself took as long.
            if problem.reason == UNAVAILABLE and self._clock() - began > self._within_s / 2:
                self._not_before = self._clock() + self._rest_s
            raise


    def _is_done(self, asked: _Asked) -> bool:
        ends = time.monotonic() + self._within_s
        while not asked.is_done.wait(max(0.0, min(_LOOK_EVERY_S, ends - time.monotonic()))):
            if self._stopping():
                raise WorkerLost("the node is stopping", reason="worker.stopping")
            if time.monotonic() >= ends:
                return False
        return True


def _late(why: str) -> ModelError:
    return ModelError(f"the writer is late: {why}", reason=UNAVAILABLE)


class _Asked:
    """One question, and what came of it."""

    def __init__(self, writer: Writer, evidence: EvidenceList, language: str) -> None:
        self.is_done = threading.Event()
        self._writer, self._evidence, self._language = writer, evidence, language
        self._outcome: Written | Exception = _late("it has not begun")

    def run(self) -> None:
        """Ask, and keep what comes of it."""
        try:
            self._outcome = self._writer.write(self._evidence, self._language)
        except Exception as problem:  # noqa: BLE001 - thread boundary: the asker raises it
            self._outcome = problem
        self.is_done.set()

    def written(self) -> Written:
        """The draft; raises what the writer raised."""
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome
