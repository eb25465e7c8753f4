"""The books of storage commitment, both ways."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.ledger import commitment_requests
from dicom_node.ledger.commitment_reports import Standing
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import DeliveryState, SendOutcome, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
HOUR = timedelta(hours=1)
NAMES = [f"job-1:pacs:{number:02d}" for number in (1, 2)]


@pytest.fixture
def sent(ledger: Ledger) -> Ledger:
    """Two results, stored by ``pacs``; a third that another destination has not taken."""
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.3", [job()], "rule", seen=START)
    ledger.jobs.start("job-1", 1)
    deliveries = [delivery(1), delivery(2), delivery(1, destination="slow")]
    ledger.jobs.succeed("job-1", [result(1), result(2)], deliveries, "result", {})
    store(ledger)
    return ledger


def store(ledger: Ledger) -> None:
    for number, name in enumerate(NAMES, start=1):
        outcome = SendOutcome(f"2.25.{number}", 0, True, False, "stored")
        ledger.deliveries.record(name, outcome, retry_at=None)


def begin(ledger: Ledger, uid: str = "1.1", destination: str = "pacs") -> list[tuple[str, str]]:
    return ledger.commitments.begin(
        uid, destination, "PACS", NAMES, asked_at=START, answer_by=START + HOUR, retry_for_s=1e9
    )


def words(ledger: Ledger) -> list[tuple[str, str]]:
    found = ledger.deliveries.of_job("job-1")
    return [(str(one.state), one.commitment) for one in found if one.destination == "pacs"]


def test_only_what_is_sent_and_not_asked_for_is_asked_for(sent: Ledger) -> None:
    assert sent.commitments.destinations() == ["pacs"]
    assert begin(sent, destination="slow") == []
    assert begin(sent) == [(SEG, "2.25.1"), (SEG, "2.25.2")]
    assert (begin(sent, "1.2"), words(sent)) == ([], [("sent", "asked")] * 2)
    assert sent.commitments.destinations() == []
    assert not sent.commitments.is_open("1.2")


def test_an_open_transaction_is_overdue_when_its_time_is_over(sent: Ledger) -> None:
    begin(sent)
    assert sent.commitments.overdue(START) == []
    assert sent.commitments.overdue(START + HOUR) == [("1.1", 1)]
    assert sent.commitments.end("1.1", "no_report", now=START, again_at=START + 2 * HOUR)
    assert not sent.commitments.end("1.1", "no_report", now=START)
    assert sent.commitments.wanting("pacs", START + HOUR) == []
    wanting = sent.commitments.wanting("pacs", START + 2 * HOUR)
    assert [(one.delivery_id, one.asks) for one in wanting] == [(name, 1) for name in NAMES]


def test_a_clock_set_back_by_a_day_keeps_nobody_from_asking_again(sent: Ledger) -> None:
    begin(sent)
    yesterday = START - 24 * HOUR
    assert sent.commitments.overdue(yesterday) == [("1.1", 1)]
    assert sent.commitments.end("1.1", "no_report", now=START, again_at=START + HOUR)
    assert [one.delivery_id for one in sent.commitments.wanting("pacs", yesterday)] == NAMES
    assert sent.commitments.wanting("pacs", START) == []


def test_a_clock_set_back_by_a_day_keeps_no_report_from_who_asked(ledger: Ledger) -> None:
    requests = ledger.commitment_requests
    assert requests.record("1.9", "CT1", [(SEG, "2.25.1")], now=START, report_at=START + HOUR)
    assert requests.titles_due(START) == []
    yesterday = START - 24 * HOUR
    assert requests.titles_due(yesterday) == ["CT1"]
    assert [one.transaction_uid for one in requests.due("CT1", yesterday)] == ["1.9"]


def test_the_same_report_again_changes_nothing(sent: Ledger) -> None:
    begin(sent)
    committed = {(SEG, "2.25.1"), (SEG, "2.25.2")}
    assert len(sent.commitments.report("1.1", "PACS", committed, {}, START).changes) == 2
    again = sent.commitments.report("1.1", "PACS", committed, {}, START)
    assert again.standing is Standing.KNOWN
    history = [line.to_state for line in sent.history("delivery", NAMES[0])]
    assert history.count("committed") == 1


def test_what_is_both_committed_and_failed_has_failed(sent: Ledger) -> None:
    begin(sent)
    reported = sent.commitments.report(
        "1.1", "PACS", {(SEG, "2.25.1"), (SEG, "2.25.2")}, {"2.25.1": 0x0110}, START
    )
    assert [change.state for change in reported.changes] == [
        DeliveryState.PENDING, DeliveryState.COMMITTED,
    ]
    assert words(sent) == [("pending", ""), ("committed", "committed")]


def test_a_transaction_uid_that_was_used_already_is_no_word_about_the_instance(
    sent: Ledger,
) -> None:
    begin(sent)
    reasons = dict.fromkeys(("2.25.1", "2.25.2"), 0x0131)
    sent.commitments.report("1.1", "PACS", set(), reasons, START)
    assert words(sent) == [("sent", "wanted")] * 2


def test_a_dead_letter_that_an_operator_retries_is_asked_for_anew(sent: Ledger) -> None:
    begin(sent)
    sent.commitments.end("1.1", "no_report", now=START)
    assert len(sent.commitments.bury(NAMES, "commitment.no_report", START)) == 2
    assert words(sent) == [("dead", "")] * 2
    sent.deliveries.retry_dead("job-1")
    store(sent)
    assert [one.asks for one in sent.commitments.wanting("pacs", START + HOUR)] == [0, 0]


def test_a_request_is_kept_until_its_report_is_taken(ledger: Ledger) -> None:
    requests = ledger.commitment_requests
    items = [(SEG, "1.2"), (SEG, "1.3"), (SEG, "1.2")]
    assert requests.record("1.1", "CT01", items, now=START, report_at=START + HOUR)
    assert requests.titles_due(START) == []
    assert requests.titles_due(START + HOUR) == ["CT01"]
    (request,) = requests.due("CT01", START + HOUR)
    assert request.items == ((SEG, "1.2"), (SEG, "1.3"))
    requests.again(request, "away", START, START + 2 * HOUR)
    assert requests.due("CT01", START + HOUR) == []
    (again,) = requests.due("CT01", START + 2 * HOUR)
    assert again.attempt == 2
    requests.end(again, "reported", "", START)
    assert requests.due("CT01", START + 3 * HOUR) == []
    # Its sender has lost our answer.
    requests.record("1.1", "CT01", items, now=START, report_at=START)
    assert len(requests.due("CT01", START)) == 1


def test_who_fetches_no_reports_is_refused_in_the_end(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commitment_requests, "MOST_PENDING", 2)
    record = ledger.commitment_requests.record
    taken = [
        record(f"1.{n}", "CT01", [(SEG, "1.2")], now=START, report_at=START) for n in range(3)
    ]
    assert taken == [True, True, False]
    assert record("1.1", "CT02", [(SEG, "1.2")], now=START, report_at=START)
    monkeypatch.setattr(commitment_requests, "MOST_ITEMS", 1)
    assert not record("1.2", "CT02", [(SEG, "1.2"), (SEG, "1.3")], now=START, report_at=START)


def test_an_instance_is_found_by_its_uid_in_every_series(ledger: Ledger) -> None:
    ledger.index([instance(1), instance(2)])
    found = ledger.commitment_requests.kept(["1.2.3.1", "1.2.3.9"])
    assert [one.path for one in found["1.2.3.1"]] == ["instances/1.2/1.2.3/1.dcm"]
    assert set(found) == {"1.2.3.1"}
