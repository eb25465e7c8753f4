"""A host that is late keeps a job for its time once, and not the jobs that wait behind it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.guard import DraftSentence
from ai_models.drafting.impression import WriterIdentity, Written, impression
from ai_models.types import ModelError
from dicom_node.errors import WorkerLost
from dicom_node.pipeline.punctual_writer import PunctualWriter
from tests.ai_models.drafting.test_impression import SCRIPTED, TOLD, Scripted

DRAFT = DraftSentence("Pleural effusion is present.", ("E2",))
LATE = "worker.endpoint_unavailable"


@dataclass
class Stuck:
    """Writes when it is let go."""

    asked: int = 0
    is_free: threading.Event = field(default_factory=threading.Event)
    identity: WriterIdentity = SCRIPTED

    def write(self, evidence: EvidenceList, language: str) -> Written:
        self.asked += 1
        assert self.is_free.wait(60)
        return Written((DRAFT,))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_punctual_writer_writes_and_is_who_it_was() -> None:
    made = impression(TOLD, PunctualWriter(Scripted((DRAFT,)), 30.0), "en")
    assert (made.fallback, made.writer) == ("", SCRIPTED)


@pytest.mark.parametrize("problem", [
    ModelError("no JSON", reason="model.wrong_output"), ValueError("unexpected"),
])
def test_what_a_writer_raises_is_raised(problem: Exception) -> None:
    class Failing(Scripted):
        def write(self, evidence: EvidenceList, language: str) -> Written:
            raise problem

    with pytest.raises(type(problem)) as raised:
        PunctualWriter(Failing(), 30.0).write(TOLD, "en")
    assert raised.value is problem


def test_late_writer_is_left_and_not_asked_again_for_a_while() -> None:
    stuck, clock = Stuck(), Clock()
    writer = PunctualWriter(stuck, 0.01, rest_s=60.0, clock=clock)
    made = impression(TOLD, writer, "en")
    assert (made.fallback, made.sentences) == (LATE, impression(TOLD, None, "en").sentences)
    assert "within 0.01 s" in made.why
    again = impression(TOLD, writer, "en")
    assert (again.fallback, stuck.asked) == (LATE, 1)
    assert "asked again in 60 s" in again.why
    clock.now += 61.0
    stuck.is_free.set()
    assert impression(TOLD, PunctualWriter(stuck, 30.0, clock=clock), "en").fallback == ""


def test_node_that_stops_waits_for_no_host() -> None:
    stuck = Stuck()
    writer = PunctualWriter(stuck, 600.0, stopping=lambda: stuck.asked > 0)
    with pytest.raises(WorkerLost) as told:
        writer.write(TOLD, "en")
    assert told.value.reason == "worker.stopping"
    stuck.is_free.set()


def test_writer_that_never_ends_gets_no_endless_number_of_threads() -> None:
    stuck, clock = Stuck(), Clock()
    writer = PunctualWriter(stuck, 0.01, rest_s=1.0, clock=clock)
    for _ in range(8):
        assert impression(TOLD, writer, "en").fallback == LATE
        clock.now += 2.0
    assert stuck.asked == 4
    stuck.is_free.set()
