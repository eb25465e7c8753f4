"""What others say about a series: the latest of each source, and nothing that cannot be."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import SeriesState
from tests.ledger.conftest import START, instance


def test_each_source_has_one_line_and_its_latest_word_counts(ledger: Ledger) -> None:
    book = ledger.announcements
    assert book.record("1.2.3", "c-find", "1.2", 118, "PACS", False, START)
    assert book.record("1.2.3", "mpps", "1.2", 120, "CT01", True, START)
    assert book.record("1.2.3", "c-find", "1.2", 120, "PACS", False, START + timedelta(seconds=9))
    assert book.record("1.2.4", "ian", "1.2", 3, "PACS", True)
    found = book.of_series("1.2.3")
    assert [(one.source, one.expected_instances, one.final) for one in found] == [
        ("c-find", 120, False), ("mpps", 120, True),
    ]
    assert found[0].at == START + timedelta(seconds=9)
    assert book.of_series("1.2.5") == []


def test_an_announcement_outlives_a_restart_and_needs_no_series_yet(database_url: str) -> None:
    first = Ledger.open(database_url)
    first.announcements.record("1.2.3", "mpps", "1.2", 7, "CT01", True)
    first.close()
    second = Ledger.open(database_url)
    assert [one.expected_instances for one in second.announcements.of_series("1.2.3")] == [7]
    second.close()


@pytest.mark.parametrize(
    ("series", "study", "count"),
    [("1.2.3", "1.2", -1), ("1.2.3", "1.2", 10**9), ("", "1.2", 1), ("1.2.3", "1" * 65, 1),
     ("1.2\n3", "1.2", 1), ("1.2.3", "ü", 1)],
)
def test_what_cannot_be_is_not_kept(ledger: Ledger, series: str, study: str, count: int) -> None:
    assert not ledger.announcements.record(series, "ian", study, count, "PACS", True)
    assert ledger.announcements.of_series(series) == []


def test_a_note_stands_in_the_history_and_in_the_reason(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    assert ledger.announcements.note("1.2.3", "repair c-move: 2 missing", 1)
    series = ledger.receipts.find_series("1.2.3")
    assert series is not None
    assert (series.state, series.reason) == (SeriesState.RECEIVING, "repair c-move: 2 missing")
    last = ledger.history("series", "1.2.3")[-1]
    assert (last.from_state, last.to_state, last.attempt) == ("receiving", "receiving", 1)


def test_a_series_that_is_no_longer_received_takes_no_note(ledger: Ledger) -> None:
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    before = ledger.history("series", "1.2.3")
    assert not ledger.announcements.note("1.2.3", "repair", 1)
    assert ledger.history("series", "1.2.3") == before
