"""A job that is not wanted any more is noticed while it computes, at the price of one look."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dicom_node.errors import LedgerUnavailable
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline import revocation
from dicom_node.pipeline.revocation import Revocation
from tests.ledger.conftest import job


class Books:
    """A ledger that answers as it is told, and counts how often it is asked."""

    def __init__(self) -> None:
        self.jobs = self
        self.answers: list[bool | Exception] = [True]
        self.asked = 0

    def runs(self, _job_id: str, _attempt: int) -> bool:
        self.asked += 1
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def revoked(books: Books) -> Revocation:
    return Revocation(job(), cast(Ledger, cast(Any, books)))


def test_the_ledger_is_asked_once_a_second(clock: list[float]) -> None:
    books = Books()
    asks = revoked(books)
    assert [asks() for _ in range(5)] == [False] * 5
    assert books.asked == 1
    clock[0] += revocation.ASK_EVERY_S
    asks()
    assert books.asked == 2


def test_once_revoked_it_stays_revoked(clock: list[float]) -> None:
    books = Books()
    books.answers = [False, True]
    asks = revoked(books)
    assert asks()
    clock[0] += 60
    assert asks() and books.asked == 1


def test_a_ledger_that_does_not_answer_revokes_nothing(clock: list[float]) -> None:
    books = Books()
    books.answers = [LedgerUnavailable("locked"), False]
    asks = revoked(books)
    assert not asks()
    clock[0] += revocation.ASK_EVERY_S
    assert asks()
