"""The table of states: what is in it happens, what is not cannot."""

from __future__ import annotations

import itertools
from enum import StrEnum

import pytest

from dicom_node.ledger.states import IllegalTransition, check
from dicom_node.records import DeliveryState, JobState, SeriesState

ALLOWED: dict[type[StrEnum], set[tuple[str, str]]] = {
    SeriesState: {
        ("receiving", "complete"), ("complete", "routed"), ("complete", "declined"),
        ("complete", "receiving"), ("routed", "receiving"), ("routed", "declined"),
        ("declined", "receiving"), ("declined", "routed"), ("routed", "removed"),
        ("declined", "removed"), ("removed", "receiving"),
    },
    JobState: {
        ("queued", "running"), ("queued", "cancelled"), ("queued", "held"),
        ("running", "running"), ("running", "succeeded"), ("running", "failed"),
        ("running", "cancelled"), ("running", "held"), ("failed", "queued"), ("dead", "cancelled"),
        ("failed", "dead"), ("failed", "cancelled"), ("failed", "held"), ("held", "queued"),
        ("held", "cancelled"), ("dead", "queued"), ("cancelled", "queued"),
    },
    DeliveryState: {
        ("pending", "sent"), ("pending", "failed"), ("sent", "committed"), ("sent", "failed"),
        ("failed", "pending"), ("failed", "dead"), ("dead", "pending"),
        ("pending", "replaced"), ("failed", "replaced"), ("dead", "replaced"),
        ("replaced", "pending"),
    },
}
PAIRS = [
    pytest.param(old, new, id=f"{enum.__name__}: {old} to {new}")
    for enum in ALLOWED
    for old, new in itertools.product(enum, enum)
]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_every_pair_of_states_is_allowed_or_refused_as_written(old: StrEnum, new: StrEnum) -> None:
    if (str(old), str(new)) in ALLOWED[type(old)]:
        check(old, new)
    else:
        with pytest.raises(IllegalTransition):
            check(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (JobState.RUNNING, DeliveryState.FAILED),
        (DeliveryState.PENDING, JobState.FAILED),
        (JobState.FAILED, DeliveryState.DEAD),
        (DeliveryState.FAILED, JobState.DEAD),
        (JobState.FAILED, "dead"),
        ("failed", JobState.DEAD),
        ("failed", "dead"),
        (SeriesState.RECEIVING, JobState.SUCCEEDED),
    ],
)
def test_words_of_different_enums_never_mix_though_they_compare_equal(old: str, new: str) -> None:
    with pytest.raises(IllegalTransition):
        check(old, new)
