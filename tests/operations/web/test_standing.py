"""One sentence for each way in which a study can stand, and no UID in any of them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.ledger.overview import Sending, StudyRow
from dicom_node.operations.web.ports import Mismatch, RuleAnswer
from dicom_node.operations.web.standing import Stage, in_words, of_series, of_study, plain
from dicom_node.records import DRAFTING, DeliveryState, Job, JobState, Series, SeriesState
from tests.ledger.conftest import START, job

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SERIES = Series("1.2.3", "1.2", "CT", SeriesState.ROUTED, "rules: lungs", "CT01", 24, START, START,
                START)
NOTHING = "no_rule_matched"


def series(state: SeriesState, reason: str = "") -> Series:
    return replace(SERIES, state=state, reason=reason)


def sending(state: DeliveryState, reason: str = "", attempt: int = 1) -> Sending:
    return Sending("job-1", "pacs", state, reason, "", 2, attempt, AT)


def rule(name: str, *mismatches: Mismatch) -> RuleAnswer:
    return RuleAnswer(name, "lungs-ct", ("pacs",), "routine", mismatches)


def after(
    state: JobState, reason: str = "", *sendings: Sending, waits: str = ""
) -> tuple[str, str]:
    one: Job = replace(job(), state=state, reason=reason, attempt=3)
    (verdict,) = of_series(SERIES, [one], sendings, {"job-1": waits})
    return verdict.stage, verdict.sentence


@pytest.mark.parametrize(("state", "reason", "stage", "told"), [
    (SeriesState.RECEIVING, "first_instance", Stage.RECEIVING, "24 so far"),
    (SeriesState.COMPLETE, "", Stage.WAITING, "about to be looked at"),
    (SeriesState.DECLINED, "input.no_dicom: nothing is there", Stage.NOT_ANALYSED,
     "Not analysed: nothing is there (input.no_dicom)."),
])  # fmt: skip
def test_a_series_without_a_job(state: SeriesState, reason: str, stage: Stage, told: str) -> None:
    (verdict,) = of_series(series(state, reason), [], [], {})
    assert verdict.stage == stage
    assert told in verdict.sentence


def test_the_rule_that_fails_on_least_is_the_nearest() -> None:
    far = rule("far", Mismatch("Modality", "MR", "CT"), Mismatch("PatientAge", "1", "2"))
    near = rule("near", Mismatch("BodyPartExamined", "CHEST", "HEAD"))
    declined = series(SeriesState.DECLINED, NOTHING)
    (verdict,) = of_series(declined, [], [], {}, [far, near])
    assert verdict.sentence.endswith("The nearest is “near”: BodyPartExamined is to be CHEST.")
    (verdict,) = of_series(declined, [], [], {}, [far, near], may_see_patients=True)
    assert verdict.sentence.endswith("BodyPartExamined is to be CHEST and is HEAD.")
    (verdict,) = of_series(declined, [], [], {}, [])
    assert "No rules are configured" in verdict.sentence
    (verdict,) = of_series(declined, [], [], {}, [rule("now")])
    assert "“now” would take it now" in verdict.sentence


@pytest.mark.parametrize(("state", "reason", "sendings", "stage", "told"), [
    (JobState.QUEUED, "routed", (), Stage.WAITING, "It waits for a free device."),
    (JobState.QUEUED, "retry: worker.lost: it died", (), Stage.WAITING,
     "The last attempt failed: it died (worker.lost)."),
    (JobState.RUNNING, "started", (), Stage.ANALYSING, "lungs-ct is at work"),
    (JobState.RUNNING, "drafting", (), Stage.ANALYSING, "its impression is drafted"),
    (JobState.HELD, "held_by_operator", (), Stage.HELD, "until it is released"),
    (JobState.CANCELLED, "cancelled_by_operator", (), Stage.CANCELLED, "cancelled by an operator"),
    (JobState.DEAD, "input.missing_slices: 2 are missing.", (), Stage.NOT_ANALYSED,
     "2 are missing (input.missing_slices)."),
    (JobState.DEAD, "model.failed: no", (), Stage.ATTENTION, "after 3 attempts: no (model.failed)"),
    (JobState.SUCCEEDED, "result", (), Stage.KEPT, "goes nowhere"),
    (JobState.SUCCEEDED, "result", (sending(DeliveryState.PENDING),), Stage.SENDING,
     "on its way to pacs."),
    (JobState.SUCCEEDED, "result", (sending(DeliveryState.PENDING, "peer.unavailable", 4),),
     Stage.SENDING, "pacs: it does not answer, next try at 2026-03-01"),
    (JobState.SUCCEEDED, "result", (sending(DeliveryState.DEAD, "peer.refused: no"),),
     Stage.ATTENTION, "pacs did not get 2 objects of it: no (peer.refused)"),
    (JobState.SUCCEEDED, "result", (sending(DeliveryState.SENT),), Stage.DONE,
     "delivered to pacs."),
    (JobState.SUCCEEDED, "no_finding", (sending(DeliveryState.COMMITTED),), Stage.DONE,
     "Nothing was found, and the report says so; it was delivered to pacs, which has committed"),
    (JobState.SUCCEEDED, "result",
     (sending(DeliveryState.REPLACED), sending(DeliveryState.SENT)), Stage.DONE, "delivered"),
])  # fmt: skip
def test_a_job(
    state: JobState, reason: str, sendings: tuple[Sending, ...], stage: Stage, told: str
) -> None:
    waits = "a free device" if reason == "routed" else ""
    found, sentence = after(state, reason, *sendings, waits=waits)
    assert found == stage
    assert told in sentence
    assert ".." not in sentence


@pytest.mark.parametrize(("reason", "state", "told"), [
    ("delivered", DeliveryState.SENT, "removed after the results were delivered."),
    ("delivered", None, "removed when their time was over; nothing was sent."),
    ("delivered, to make room", DeliveryState.COMMITTED, "removed to make room after"),
    ("declined", None, "no rule took it."),
    ("removed_by_operator", DeliveryState.SENT, "An operator had its images and results removed."),
    ("removed_by_operator", DeliveryState.DEAD, "An operator had its images and results removed."),
])  # fmt: skip
def test_a_removed_study_is_said_to_be_delivered_only_where_it_was(
    reason: str, state: DeliveryState | None, told: str
) -> None:
    sendings = [sending(state)] if state else []
    (verdict,) = of_series(series(SeriesState.REMOVED, reason), [job()], sendings, {})
    assert verdict.stage == Stage.REMOVED
    assert told in verdict.sentence
    assert ("delivered" in verdict.sentence) is (state is not None and reason[0] == "d")


def test_a_job_that_nobody_is_left_to_go_on_with_is_not_at_work() -> None:
    waits = "a host that goes on with it: no host does work since 2026-03-01 12:00:00"
    for reason in ("started", DRAFTING):
        stage, told = after(JobState.RUNNING, reason, waits=waits)
        assert (stage, told) == (Stage.WAITING, f"It was begun, and waits for {waits}.")
    assert "at work on it" in after(JobState.RUNNING, "started")[1]


def test_the_most_pressing_of_a_study_comes_first_and_the_others_are_counted() -> None:
    localizer = replace(series(SeriesState.DECLINED, NOTHING), series_instance_uid="1.2.9")
    dead = replace(job(), state=JobState.DEAD, reason="model.failed: no")
    verdict = of_study(StudyRow("1.2", (localizer, SERIES), (dead,), ()), {})
    assert verdict.stage == Stage.ATTENTION
    assert verdict.sentence.endswith("Besides: 1 no rule.")


@pytest.mark.parametrize(("reason", "words"), [
    ("rules: my_rule, other", "taken by my_rule, other"),
    ("produced: best form", "best form"),
    ("quiet_period after_release, 24 instances",
     "nothing more came after its sender had ended, 24 instances"),
    ("files_missing: 3", "images that are gone from the disk: 3"),
    ("gate.geometry", "gate: geometry"),
    ("", ""),
])  # fmt: skip
def test_reasons_are_words(reason: str, words: str) -> None:
    assert in_words(reason) == words


def test_a_uid_in_a_reason_is_shown_as_its_hash() -> None:
    text = plain("instances/1.2.840.10008.5/2.25.1/1.dcm of 10.1.2.3, version 1.2.3")
    assert "1.2.840" not in text
    assert "10.1.2.3, version 1.2.3" in text


def test_every_state_of_the_page_is_in_the_table_of_states() -> None:
    page = (Path(__file__).parents[3] / "docs" / "web-page.md").read_text("utf-8")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines()
            if line.startswith("| ")]
    assert [stage for stage in Stage if rows.count(stage) != 1] == []


@pytest.mark.parametrize("word", [
    "removed_by_operator", "cancelled_by_operator", "first_instance", "association_released",
    "circuit", "duty",
])  # fmt: skip
def test_words_of_the_ledger_are_explained(word: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text("utf-8")
    assert re.search(rf"^\| [^|]*`{word}`", page, re.MULTILINE)
