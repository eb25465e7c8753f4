"""The keeper of duties: what is due is done, what cannot be done waits, and nothing ends it."""

from __future__ import annotations

import pytest

from dicom_node.errors import OutOfSpace
from dicom_node.events import Events
from dicom_node.ledger import duties
from dicom_node.pipeline import duties as keeping
from dicom_node.pipeline.duties import DutyKeeper
from dicom_node.pipeline.workshop import Workshop
from tests.acceptance.running_node import wait_until
from tests.pipeline.conftest import started
from tests.pipeline.test_answers import dead
from tests.pipeline.test_packing import sent


def test_a_round_does_everything_that_is_due(workshop: Workshop) -> None:
    dead(workshop)
    workshop.ledger.duties.add(duties.FORMS, "gone:pacs", "refused")
    keeper = DutyKeeper(workshop, Events())
    assert keeper.tend() == 2
    assert workshop.ledger.duties.waiting() == [] and len(sent(workshop)) == 1
    assert keeper.tend() == 0


@pytest.mark.parametrize(
    ("problem", "reason"),
    [(OutOfSpace("full"), "storage.out_of_space: full"), (KeyError("x"), "unexpected.KeyError")],
)
def test_what_cannot_be_done_is_put_off_and_does_not_keep_others_waiting(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, problem: Exception, reason: str
) -> None:
    dead(workshop)
    workshop.ledger.duties.add(duties.FORMS, "gone:pacs", "refused")

    def fails(*_: object) -> None:
        raise problem

    done_by = {**keeping._DONE_BY, duties.ANSWER: fails}
    monkeypatch.setattr(keeping, "_DONE_BY", done_by)
    DutyKeeper(workshop, Events()).tend()
    (waiting,) = workshop.ledger.duties.waiting()
    assert (waiting.kind, waiting.attempt, waiting.reason) == (duties.ANSWER, 1, reason)
    assert workshop.ledger.duties.due(waiting.not_before) == [waiting]


def test_the_keeper_takes_up_what_a_rebuilt_ledger_forgot_and_stops_when_told(
    workshop: Workshop,
) -> None:
    started(workshop, "job-1")
    workshop.ledger.jobs.fail("job-1", "model.failed: no", retry_at=None)
    (duty,) = workshop.ledger.duties.waiting()
    workshop.ledger.duties.done(duty)
    keeper = DutyKeeper(workshop, Events())
    keeper.start()
    try:
        wait_until(lambda: sent(workshop), "the answer waits to be sent", 60)
    finally:
        keeper.stop()
    assert workshop.ledger.duties.waiting() == []
