"""Which series are here only because a search for an earlier examination had them sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.intake.prior_place import Place
from tests.intake.query_peer import FIND, MOVE, query_peer


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with query_peer((FIND, MOVE)) as peer:
        made = Place(tmp_path, peer)
        yield made
        made.ledger.close()


def test_what_another_sends_later_under_the_same_uid_is_not_taken_for_fetched(
    place: Place,
) -> None:
    place.ledger.priors.expect("1.9.1", "1.9", place.job.job_id, "PACS")
    place.receive("1.9.1", "1.9", "CT01", PatientID="ANNA", StudyDate="20260101")
    at_once = place.ledger.receipts.find_series("1.9.1")
    assert at_once is not None
    series = dataclasses.replace(
        at_once, first_received_at=at_once.first_received_at + timedelta(hours=1)
    )
    assert not place.search.is_prior(series)
    from_pacs = dataclasses.replace(series, calling_ae_title="PACS")
    assert place.search.is_prior(from_pacs)
    before = from_pacs.first_received_at - timedelta(days=2)
    assert not place.search.is_prior(dataclasses.replace(from_pacs, first_received_at=before))


def test_what_an_archive_sends_under_another_title_than_it_is_called_by_is_fetched_all_the_same(
    place: Place,
) -> None:
    place.ledger.priors.expect("1.9.1", "1.9", place.job.job_id, "PACS")
    place.receive("1.9.1", "1.9", "PACS_STORE", PatientID="ANNA", StudyDate="20260101")
    series = place.ledger.receipts.find_series("1.9.1")
    assert series is not None and place.search.is_prior(series)


def test_a_series_that_is_asked_for_again_is_fetched_by_the_time_of_the_latest_question(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Yesterday(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(hours=20)

    with monkeypatch.context() as patched:
        patched.setattr("dicom_node.ledger.priors.datetime", Yesterday)
        place.ledger.priors.expect("1.9.1", "1.9", "other", "ELSEWHERE")
    place.ledger.priors.expect("1.9.1", "1.9", place.job.job_id, "PACS")
    place.receive("1.9.1", "1.9", "PACS_STORE", PatientID="ANNA", StudyDate="20260101")
    series = place.ledger.receipts.find_series("1.9.1")
    assert series is not None and place.search.is_prior(series)


def test_what_was_here_before_it_is_asked_for_is_not_taken_for_fetched(place: Place) -> None:
    place.receive("1.9.1", "1.9", "PACS", PatientID="ANNA", StudyDate="20260101")
    place.ledger.priors.expect("1.9.1", "1.9", place.job.job_id, "PACS")
    series = place.ledger.receipts.find_series("1.9.1")
    assert series is not None and not place.search.is_prior(series)


def test_a_clock_that_is_set_back_makes_nothing_new_of_what_is_fetched(place: Place) -> None:
    place.ledger.priors.expect("1.9.1", "1.9", place.job.job_id, "PACS")
    place.receive("1.9.1", "1.9", "PACS", PatientID="ANNA", StudyDate="20260101")
    series = place.ledger.receipts.find_series("1.9.1")
    assert series is not None
    earlier = series.first_received_at - timedelta(hours=2)
    assert place.search.is_prior(dataclasses.replace(series, first_received_at=earlier))
