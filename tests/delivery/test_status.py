from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.delivery.status import classify


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007, 0xB123])
def test_success_and_warnings_are_stored(status: int) -> None:
    assert classify(status).stored


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_each_warning_is_recorded_by_its_own_name(status: int) -> None:
    reasons = {classify(other).reason for other in (0x0000, 0xB000, 0xB006, 0xB007)}
    assert len(reasons) == 4
    assert classify(status).reason.startswith("peer.warning.")


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0xA7FF, 0x0110, 0x0124, 0x0210, 0x0213])
def test_what_may_pass_is_tried_again(status: int) -> None:
    meaning = classify(status)
    assert not meaning.stored
    assert meaning.transient


@pytest.mark.parametrize(
    "status", [0xA800, 0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0122, 0x0117, 0x0111, 0x0211, 0x0212]
)
def test_what_the_same_bytes_would_meet_again_is_final(status: int) -> None:
    meaning = classify(status)
    assert not meaning.stored
    assert not meaning.transient
    assert meaning.reason.startswith("peer.refused.")


@pytest.mark.parametrize("status", [0x0001, 0x0107, 0xFE00, 0xFF00, 0xA500, 0x1234, -1, 0x1B000])
def test_unknown_status_is_neither_stored_nor_final(status: int) -> None:
    meaning = classify(status)
    assert not meaning.stored
    assert meaning.transient


@given(st.integers(-(2**20), 2**20))
def test_nothing_but_success_and_the_warning_class_is_stored(status: int) -> None:
    assert classify(status).stored == (status == 0 or 0xB000 <= status <= 0xBFFF)
