"""Duties: owed until they are done, and never lost to somebody who works on an older one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.ledger import duties
from dicom_node.ledger.duties import ANSWER, FORMS
from dicom_node.ledger.ledger import Ledger


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=1)


def test_a_duty_is_due_until_it_is_done_also_after_a_restart(ledger: Ledger) -> None:
    ledger.duties.add(FORMS, "job-1:pacs", "the destination takes other forms")
    again = Ledger.open(ledger.url)
    (duty,) = again.duties.due(soon())
    assert (duty.kind, duty.key, duty.attempt) == (FORMS, "job-1:pacs", 0)
    assert duty.reason == "the destination takes other forms"
    again.duties.done(duty)
    again.close()
    assert ledger.duties.due(soon()) == ledger.duties.waiting() == []


def test_a_duty_that_is_put_off_is_not_due_before_its_time(ledger: Ledger) -> None:
    ledger.duties.add(ANSWER, "job-1", "job is dead")
    (duty,) = ledger.duties.due(soon())
    until = soon() + timedelta(minutes=1)
    ledger.duties.put_off(duty, until, "input is away")
    assert ledger.duties.due(soon()) == []
    (later,) = ledger.duties.due(until)
    assert (later.attempt, later.not_before, later.reason) == (1, until, "input is away")
    assert ledger.duties.waiting(ANSWER) == [later]
    assert ledger.duties.waiting(FORMS) == []


@pytest.mark.parametrize("was_put_off", [False, True])
def test_one_that_is_added_again_is_due_at_once_and_outlives_the_end_of_the_former(
    ledger: Ledger, was_put_off: bool
) -> None:
    ledger.duties.add(FORMS, "job-1:pacs", "first")
    (former,) = ledger.duties.due(soon())
    if was_put_off:
        ledger.duties.put_off(former, soon() + timedelta(minutes=1), "no room")
        (former,) = ledger.duties.waiting()
    ledger.duties.add(FORMS, "job-1:pacs", "second")
    ledger.duties.done(former)
    ledger.duties.put_off(former, soon() + timedelta(minutes=1), "no room")
    (duty,) = ledger.duties.due(soon())
    assert (duty.attempt, duty.reason) == (0, "second")
    ledger.duties.done(duty)
    assert ledger.duties.waiting() == []


def test_the_longest_due_come_first_and_no_more_than_asked_for(ledger: Ledger) -> None:
    for number in range(3):
        ledger.duties.add(FORMS, f"job-{number}:pacs", "r")
    found = ledger.duties.due(soon(), limit=2)
    assert [duty.key for duty in found] == ["job-0:pacs", "job-1:pacs"]


def test_an_answer_does_not_wait_for_forms_that_were_owed_before(ledger: Ledger) -> None:
    ledger.duties.add(FORMS, "job-1:pacs", "long ago")
    ledger.duties.add(FORMS, "job-2:pacs", "long ago")
    ledger.duties.add(ANSWER, "job-3", "just now")
    assert [duty.kind for duty in ledger.duties.due(soon(), limit=2)] == [ANSWER, FORMS]


def test_a_duty_does_not_wait_for_a_clock_that_was_set_back(ledger: Ledger) -> None:
    ledger.duties.add(FORMS, "job-1:pacs", "r")
    assert ledger.duties.due(datetime.now(UTC) - timedelta(days=1)) != []


def test_a_duty_is_added_with_what_it_belongs_to_or_not_at_all(ledger: Ledger) -> None:
    def write_and_fail() -> None:
        with ledger._database.write() as connection:
            duties.add(connection, ANSWER, "job-1", "r", 1.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert ledger.duties.waiting() == []
