"""Lists in statements: in few lengths, for a driver keeps a statement of each length."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.name_lists import in_steps
from tests.ledger.conftest import instance


def test_no_name_is_lost_and_none_is_new() -> None:
    for number in range(70):
        names = [f"1.{one}" for one in range(number)]
        assert list(dict.fromkeys(in_steps(names))) == names


def test_lists_of_up_to_five_hundred_have_ten_lengths_and_none() -> None:
    lengths = {len(in_steps(range(number))) for number in range(501)}
    assert sorted(lengths) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_a_list_that_a_server_still_takes_does_not_become_one_that_it_refuses() -> None:
    assert len(in_steps(range(40_000))) == 40_000


@pytest.mark.parametrize("asks", ["overview.studies", "inputs.of_jobs", "receipts.paths_known"])
def test_a_list_that_grows_by_one_name_each_time_is_few_statements(
    ledger: Ledger, asks: str
) -> None:
    said: set[str] = set()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        said.add(statement)

    book, ask = asks.split(".")
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        for number in range(1, 101):
            getattr(getattr(ledger, book), ask)([f"1.2.{one}" for one in range(number)])
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert len([one for one in said if " IN (" in one]) <= 3 * 8


def test_a_study_that_is_named_several_times_is_one_study(ledger: Ledger) -> None:
    for study in ("1.2", "1.3", "1.4"):
        ledger.index([replace(instance(1, series=f"{study}.7"), study_instance_uid=study)])
    found = ledger.overview.studies(["1.2", "1.3", "1.4"])
    assert [(one.study_instance_uid, len(one.series)) for one in found] == [
        ("1.2", 1), ("1.3", 1), ("1.4", 1),
    ]
