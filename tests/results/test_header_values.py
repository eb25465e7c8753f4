from __future__ import annotations

import pytest

from dicom_node.results.header_values import (
    is_valid_uid,
    repaired_date,
    repaired_sex,
    repaired_time,
)


@pytest.mark.parametrize(
    ("value", "repaired"),
    [
        ("19600102", "19600102"),
        ("1960.01.02", "19600102"),
        ("1960-1-2", "19600102"),
        ("1960", ""),
        ("19601301", ""),
        ("20230229", ""),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_a_date_keeps_its_day_or_is_emptied(value: str, repaired: str) -> None:
    assert repaired_date(value) == repaired


@pytest.mark.parametrize(
    ("value", "repaired"),
    [
        ("101500", "101500"),
        ("1015", "1015"),
        ("10", "10"),
        ("101500.123456", "101500.123456"),
        ("10:15", "1015"),
        ("9:05:07.5", "090507.5"),
        ("101560", "101560"),
        ("101561", ""),
        ("246000", ""),
        ("noon", ""),
        ("101500.1234567", ""),
        ("", ""),
    ],
)
def test_a_time_keeps_its_meaning_or_is_emptied(value: str, repaired: str) -> None:
    assert repaired_time(value) == repaired


@pytest.mark.parametrize(
    ("value", "repaired"),
    [("M", "M"), ("F", "F"), ("O", "O"), ("m", "M"), ("Female", "F"), ("U", ""), ("", "")],
)
def test_sex_is_one_of_three_or_empty(value: str, repaired: str) -> None:
    assert repaired_sex(value) == repaired


@pytest.mark.parametrize("value", ["1.2.840.10008.1.2", "0", "2.25.0", "1." + "2" * 62])
def test_a_uid_of_the_standard_is_valid(value: str) -> None:
    assert is_valid_uid(value)


@pytest.mark.parametrize("value", ["", "1.02.3", "1..2", "1.2.", "1.2.a", "1." + "2" * 63, "1.2\n"])
def test_a_uid_outside_the_standard_is_not_valid(value: str) -> None:
    assert not is_valid_uid(value)
