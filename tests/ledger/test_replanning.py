"""What a destination takes turns out to be otherwise: who has to choose its forms anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.ledger.duties import FORMS
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.replanning import CLASS_REFUSED, CONTEXT_REJECTED, Recipient
from dicom_node.records import DeliveryState, DestinationProfile, SendOutcome, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result

SEGMENTATION, REPORT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
EXPLICIT = ("1.2.840.10008.1.2.1",)
PACS = Recipient("pacs", "CT01")
BOTH = DestinationProfile("pacs", {SEGMENTATION: EXPLICIT, REPORT: EXPLICIT}, frozenset(), START)
ONLY_REPORT = replace(BOTH, accepted={REPORT: EXPLICIT})
ONLY_SEGMENTATION = replace(BOTH, accepted={SEGMENTATION: EXPLICIT})


@pytest.fixture
def waiting(ledger: Ledger) -> Ledger:
    """job-1 and job-2 with a segmentation each for ``pacs``; job-3 for who sent the images."""
    for number, destination in enumerate(("pacs", "pacs", "sender"), start=1):
        series, job_id = f"1.2.{number}", f"job-{number}"
        ledger.index([instance(1, series=series)])
        ledger.receipts.change(series, SeriesState.COMPLETE, "quiet_period")
        ledger.jobs.route(series, [job(job_id, series=series)], "rules", seen=START)
        ledger.jobs.start(job_id, 1)
        ledger.jobs.succeed(
            job_id, [result(number, job_id)], [delivery(number, job_id, destination)], "result", {}
        )
    return ledger


def owed(ledger: Ledger) -> set[str]:
    return {duty.key for duty in ledger.duties.waiting(FORMS)}


def refuse(ledger: Ledger, number: int, reason: str, status: int | None = 0x0122) -> None:
    outcome = SendOutcome(f"2.25.{number}", status, False, False, reason)
    name = delivery(number, f"job-{number}").delivery_id
    assert ledger.deliveries.record(
        name, outcome, retry_at=None, recipient=PACS
    ) is DeliveryState.DEAD


def end_duties(ledger: Ledger) -> None:
    for duty in ledger.duties.waiting():
        ledger.duties.done(duty)


def test_all_that_wait_with_a_class_that_is_not_taken_choose_anew(waiting: Ledger) -> None:
    assert waiting.replanning.learn(ONLY_REPORT, PACS)
    assert owed(waiting) == {"job-1:pacs", "job-2:pacs", "job-3:sender"}
    assert waiting.profiles.find("pacs") == ONLY_REPORT


@pytest.mark.parametrize("before", [None, BOTH])
def test_nobody_chooses_anew_where_all_that_waits_is_taken(
    waiting: Ledger, before: DestinationProfile | None
) -> None:
    if before is not None:
        waiting.profiles.put(before)
    later = replace(BOTH, probed_at=START + timedelta(days=1))
    assert not waiting.replanning.learn(later, PACS)
    assert owed(waiting) == set()
    assert waiting.profiles.find("pacs") == later


def test_a_class_that_is_taken_now_lets_all_that_wait_choose_anew(waiting: Ledger) -> None:
    waiting.profiles.put(ONLY_SEGMENTATION)
    assert waiting.replanning.learn(BOTH, Recipient("pacs"))
    assert owed(waiting) == {"job-1:pacs", "job-2:pacs"}, "job-3 is of somebody else"


def test_another_destination_has_nothing_to_do_with_it(waiting: Ledger) -> None:
    waiting.replanning.learn(replace(ONLY_REPORT, destination="archive"), Recipient("archive"))
    assert owed(waiting) == set()


@pytest.mark.parametrize("reason", [CLASS_REFUSED, f"{CONTEXT_REJECTED}user_rejection"])
def test_a_refused_class_is_noted_with_the_answer_and_all_that_wait_with_it_choose_anew(
    waiting: Ledger, reason: str
) -> None:
    waiting.profiles.put(BOTH)
    refuse(waiting, 1, reason)
    profile = waiting.profiles.find("pacs")
    assert profile is not None
    assert not profile.takes(SEGMENTATION) and profile.takes(REPORT)
    assert owed(waiting) == {"job-1:pacs", "job-2:pacs", "job-3:sender"}
    assert reason in waiting.duties.waiting()[0].reason


def test_a_class_that_was_never_asked_for_is_refused_until_somebody_asks_anew(
    waiting: Ledger,
) -> None:
    refuse(waiting, 1, CLASS_REFUSED)
    profile = waiting.profiles.find("pacs")
    assert profile is not None and profile.refused == {SEGMENTATION}


def test_any_other_answer_says_nothing_of_the_class(waiting: Ledger) -> None:
    refuse(waiting, 1, "peer.refused.cannot_understand", 0xC000)
    assert waiting.profiles.find("pacs") is None
    assert owed(waiting) == set()


def test_a_known_refusal_concerns_only_the_job_that_met_it_again(waiting: Ledger) -> None:
    waiting.profiles.put(replace(BOTH, refused=frozenset({SEGMENTATION})))
    refuse(waiting, 2, CLASS_REFUSED)
    assert owed(waiting) == {"job-2:pacs"}


def test_an_object_that_was_refused_stays_refused_when_its_context_is_accepted_again(
    waiting: Ledger,
) -> None:
    waiting.profiles.put(BOTH)
    refuse(waiting, 1, CLASS_REFUSED)
    end_duties(waiting)
    assert not waiting.replanning.learn(BOTH, PACS)
    profile = waiting.profiles.find("pacs")
    assert profile is not None and profile.refused == {SEGMENTATION}
    assert owed(waiting) == set()


@pytest.mark.parametrize(
    ("reason", "forget"), [(CLASS_REFUSED, True), (f"{CONTEXT_REJECTED}no_reason", False)]
)
def test_what_died_of_a_refusal_is_sent_when_its_class_is_taken_again(
    waiting: Ledger, reason: str, forget: bool
) -> None:
    waiting.profiles.put(BOTH)
    refuse(waiting, 1, reason)
    end_duties(waiting)
    before = datetime.now(UTC)
    assert waiting.replanning.learn(BOTH, PACS, forget_refusals=forget)
    (again,) = waiting.deliveries.of_job("job-1")
    assert (again.state, again.attempt) == (DeliveryState.PENDING, 2)
    assert waiting.deliveries.started_at([again]) >= before, "it has its whole time again"
    assert "job-1:pacs" in owed(waiting)


def test_an_object_that_is_stored_ends_the_refusal_of_its_class(waiting: Ledger) -> None:
    waiting.profiles.put(replace(BOTH, refused=frozenset({SEGMENTATION, REPORT})))
    stored = SendOutcome("2.25.1", 0, stored=True, transient=False)
    name = delivery(1, "job-1").delivery_id
    waiting.deliveries.record(name, stored, retry_at=None, recipient=PACS)
    profile = waiting.profiles.find("pacs")
    assert profile is not None and profile.refused == {REPORT}
