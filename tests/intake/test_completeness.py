"""When a series is complete: every rule, its reason, and what may never happen."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.config import CompletenessSettings
from dicom_node.intake.completeness import (
    Count,
    Evidence,
    decide,
    find_doubt,
    find_missing,
    weigh,
    worth_asking_in_s,
)
from dicom_node.records import Instance

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
SETTINGS = CompletenessSettings(quiet_period_s=20, after_release_s=2, give_up_after_s=3600)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def evidence(
    *, still_open: int = 0, aborted: int = 0, closed_s: float | None = None, missing: str = "",
    doubt: str = "", agreed: str = "",
) -> Evidence:
    closed_at = None if closed_s is None else after(closed_s)
    return Evidence(START, still_open, aborted, closed_at, missing, doubt, agreed)


_numbers = itertools.count(1)


def one(
    z_mm: float | None, *, orientation: tuple[float, ...] | None = AXIAL, frames: int = 1,
    expected: int | None = None,
) -> Instance:
    position = None if z_mm is None else (0.0, 0.0, z_mm)
    if orientation == SAGITTAL and z_mm is not None:
        position = (z_mm, 0.0, 0.0)
    return Instance(
        f"1.{next(_numbers)}", "2", "3", "4", "5", "CT", "p", 1, "f", START, "a", "CT01",
        position, orientation, None, frames, expected,
    )


@pytest.mark.parametrize(
    ("found", "at_s", "complete", "reason"),
    [
        (evidence(closed_s=0), 1.9, False, "released"),
        (evidence(closed_s=0), 2.0, True, "association_released"),
        (evidence(closed_s=19), 19.5, False, "released"),
        (evidence(still_open=1), 19.9, False, "quiet_period"),
        (evidence(still_open=1), 20.0, True, "quiet_period with_open_association"),
        (evidence(still_open=1, closed_s=0), 10.0, False, "quiet_period"),
        (evidence(aborted=1, closed_s=0), 10.0, False, "quiet_period"),
        (evidence(aborted=1, closed_s=0), 20.0, True, "quiet_period after_abort"),
        (evidence(still_open=1, aborted=1), 20.0, True, "quiet_period after_abort"),
        (evidence(), 19.9, False, "quiet_period"),
        (evidence(), 20.0, True, "quiet_period after_release"),
        (evidence(closed_s=0, missing="slice_gap: 1 positions missing"), 3599.0, False,
         "slice_gap: 1 positions missing"),
        (evidence(closed_s=0, missing="slice_gap: 1 positions missing"), 3600.0, True,
         "gave_up_waiting: slice_gap: 1 positions missing"),
        (evidence(closed_s=0, agreed="c-find: 9 of 9"), 2.0, True, "c-find: 9 of 9"),
        (evidence(still_open=1, agreed="c-find: 9 of 9"), 4.9, False, "c-find: 9 of 9"),
        (evidence(still_open=1, agreed="c-find: 9 of 9"), 5.0, True, "c-find: 9 of 9"),
        (evidence(aborted=1, agreed="c-find: 9 of 9"), 5.0, True, "c-find: 9 of 9"),
        (evidence(closed_s=0, agreed="mpps: 9 of 9", doubt="a hole"), 19.9, False, "a hole"),
        (evidence(closed_s=0, agreed="mpps: 9 of 9", doubt="a hole"), 20.0, True,
         "mpps: 9 of 9, a hole"),
        (evidence(closed_s=0, missing="c-find: 120 announced, 118 here"), 3600.0, True,
         "gave_up_waiting: c-find: 120 announced, 118 here"),
    ],
)
def test_each_rule_decides_at_its_time_and_gives_its_reason(
    found: Evidence, at_s: float, complete: bool, reason: str
) -> None:
    decision = decide(found, SETTINGS, after(at_s))
    assert (decision.complete, decision.reason) == (complete, reason)


def test_a_clock_that_was_set_back_closes_nothing_early() -> None:
    decision = decide(evidence(closed_s=0), SETTINGS, after(-7200))
    assert not decision.complete and decision.wait_s <= SETTINGS.after_release_s


def test_a_release_says_nothing_of_what_arrived_after_it() -> None:
    assert not decide(evidence(closed_s=-60), SETTINGS, after(1)).complete


def test_announced_instances_that_are_not_here_are_missing() -> None:
    series = [one(float(z), expected=5 if z else None) for z in range(3)]
    assert find_missing(series) == "expected_instances: 5 announced, 3 here"
    assert find_missing([one(float(z), expected=3) for z in range(3)]) == ""
    assert find_missing([one(0.0, expected=-4)]) == ""


@pytest.mark.parametrize(
    ("positions_mm", "missing"),
    [
        ([0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11], "slice_gap: 1 positions missing"),
        ([*range(10), 14, *range(15, 30)], "slice_gap: 4 positions missing"),
        (list(range(20)), ""),
        ([10.0 - z for z in range(20)], ""),
        ([z + 0.2 * (z % 2) for z in range(20)], ""),
        ([0, 1, 2, 2, 3, 3, 4, 5], ""),
        ([0, 5, 10], ""),
        ([0, 0, 0, 0, 0], ""),
        ([0, 1, 3, 6, 10, 15, 21, 28], ""),
        ([], ""),
    ],
    ids=["hole", "wide hole", "regular", "backwards", "jitter", "duplicates", "three", "one place",
         "irregular", "none"],
)
def test_holes_between_slices_are_missing_and_irregular_spacing_is_not(
    positions_mm: list[float], missing: str
) -> None:
    assert find_missing([one(float(z)) for z in positions_mm]) == missing


def test_a_hole_in_one_of_two_stacks_is_found_in_its_own_stack() -> None:
    axial = [one(float(z)) for z in range(20)]
    sagittal = [one(3.0 * x, orientation=SAGITTAL) for x in range(20) if x != 9]
    assert find_missing(axial + sagittal) == "slice_gap: 1 positions missing"
    assert find_missing(axial + [one(3.0 * x, orientation=SAGITTAL) for x in range(20)]) == ""


def test_a_multi_frame_instance_is_complete_by_itself() -> None:
    assert find_missing([one(None, orientation=None, frames=300)]) == ""


@pytest.mark.parametrize(
    "odd",
    [
        one(float("nan")),
        one(float("inf")),
        one(5.0, orientation=(1.0, 0.0)),
        one(5.0, orientation=(float("nan"),) * 6),
        dataclasses.replace(one(0.0), position_mm=(1.0, 2.0)),  # type: ignore[arg-type]
        one(1e308),
    ],
)
def test_a_position_that_is_none_breaks_nothing(odd: Instance) -> None:
    assert find_missing([odd, *(one(float(z)) for z in range(20))]) == ""


_TIMES = st.floats(-1e6, 1e6, allow_nan=False)


@given(
    at_s=_TIMES, closed_s=st.none() | _TIMES, still_open=st.integers(0, 3),
    aborted=st.integers(0, 3),
)
def test_nothing_closes_while_something_is_known_to_be_missing_before_giving_up(
    at_s: float, closed_s: float | None, still_open: int, aborted: int
) -> None:
    found = evidence(still_open=still_open, aborted=aborted, closed_s=closed_s, missing="a slice")
    decision = decide(found, SETTINGS, after(at_s))
    assert decision.complete == (at_s >= SETTINGS.give_up_after_s)


@given(
    closed_s=st.none() | _TIMES, still_open=st.integers(0, 3), aborted=st.integers(0, 3),
    missing=st.sampled_from(["", "a slice"]),
)
def test_every_series_closes_at_last_and_the_waits_lead_there(
    closed_s: float | None, still_open: int, aborted: int, missing: str
) -> None:
    found = evidence(still_open=still_open, aborted=aborted, closed_s=closed_s, missing=missing)
    now_s = 0.0
    for _ in range(15):
        decision = decide(found, SETTINGS, after(now_s))
        if decision.complete:
            return
        assert decision.wait_s > 0
        now_s += decision.wait_s + 1e-3
    raise AssertionError("it waits for ever")


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.integers(1, 10))
def test_what_is_missing_does_not_depend_on_the_order_of_arrival(
    slices: list[int], spacing_mm: int
) -> None:
    series = [one(float(z * spacing_mm)) for z in slices]
    shuffled = [series[i] for i in np.random.default_rng(0).permutation(len(series))]
    assert find_missing(series) == find_missing(shuffled)


def test_an_unmet_count_of_the_acquisition_waits_for_the_quiet_period_and_no_longer() -> None:
    series = [
        dataclasses.replace(one(float(z)), images_in_acquisition=8) for z in range(5)
    ]
    doubt = find_doubt(series)
    assert doubt == "images_in_acquisition: 8 announced, 5 here"
    assert find_missing(series) == ""
    released = dataclasses.replace(evidence(closed_s=0), doubt=doubt)
    assert not decide(released, SETTINGS, after(19.9)).complete
    decision = decide(released, SETTINGS, after(20))
    assert (decision.complete, decision.reason) == (True, f"quiet_period after_release, {doubt}")


def test_a_pet_of_fewer_images_than_its_slices_waits_for_the_quiet_period_and_no_longer() -> None:
    series = [dataclasses.replace(one(float(z)), slices_in_series=58) for z in range(20)]
    doubt = find_doubt(series)
    assert doubt == "number_of_slices: 58 announced, 20 here"
    assert find_missing(series) == ""
    released = dataclasses.replace(evidence(closed_s=0), doubt=doubt)
    assert not decide(released, SETTINGS, after(19.9)).complete
    decision = decide(released, SETTINGS, after(20))
    assert (decision.complete, decision.reason) == (True, f"quiet_period after_release, {doubt}")


def test_a_pet_with_all_its_slices_is_no_doubt_and_neither_are_slices_within_one_object() -> None:
    series = [dataclasses.replace(one(float(z)), slices_in_series=3) for z in range(3)]
    assert find_doubt(series) == ""
    whole = dataclasses.replace(one(0.0), slices_in_series=58, number_of_frames=58)
    assert find_doubt([whole]) == ""


def test_a_met_count_of_the_acquisition_is_no_doubt() -> None:
    assert find_doubt([dataclasses.replace(one(0.0), images_in_acquisition=1)]) == ""


@pytest.mark.parametrize(
    ("counts", "missing", "agreed"),
    [
        ([], "", ""),
        ([Count("c-find", 120, True)], "c-find: 120 announced, 118 here", ""),
        ([Count("c-find", 120, False)], "c-find: 120 announced, 118 here", ""),
        ([Count("c-find", 118, True)], "", "c-find: 118 of 118"),
        ([Count("c-find", 118, False)], "", ""),
        ([Count("c-find", 117, True)], "", ""),
        ([Count("c-find", 0, True)], "", ""),
        ([Count("c-find", 118, True), Count("mpps", 118, True)], "",
         "c-find: 118 of 118 and mpps: 118 of 118"),
        ([Count("c-find", 118, True), Count("ian", 119, False)], "ian: 119 announced, 118 here",
         ""),
        ([Count("c-find", 60, True), Count("mpps", 118, True)], "", "mpps: 118 of 118"),
    ],
    ids=["nobody", "more", "more, asked before", "the same", "the same, asked before", "fewer",
         "unknown there", "two agree", "one knows of more", "one counts fewer"],
)
def test_a_count_is_weighed_against_what_is_here(
    counts: Sequence[Count], missing: str, agreed: str
) -> None:
    assert weigh(counts, 118) == (missing, agreed)


def test_copies_of_an_instance_make_no_series_complete() -> None:
    slices = [one(float(z), expected=5) for z in range(4)]
    assert find_missing([*slices, slices[0]]) == "expected_instances: 5 announced, 4 here"


def test_objects_that_are_no_images_count_as_instances() -> None:
    slices = [one(float(z), expected=5) for z in range(4)]
    assert find_missing([*slices, one(None, orientation=None)]) == ""


@pytest.mark.parametrize(
    ("found", "at_s"),
    [(evidence(closed_s=0), 2.0), (evidence(still_open=1), 5.0), (evidence(aborted=1), 5.0)],
)
def test_it_is_worth_asking_when_a_count_could_close_the_series_and_not_before(
    found: Evidence, at_s: float
) -> None:
    assert worth_asking_in_s(found, SETTINGS, after(at_s - 0.1)) == pytest.approx(0.1)
    assert worth_asking_in_s(found, SETTINGS, after(at_s)) == 0.0


@given(
    at_s=st.floats(0, 1e5), closed_s=st.none() | st.floats(-100, 100),
    still_open=st.integers(0, 2), aborted=st.integers(0, 2),
    agreed=st.sampled_from(["", "c-find: 9 of 9"]), doubt=st.sampled_from(["", "a hole"]),
    quiet_s=st.floats(0, 100), release_s=st.floats(0, 100),
)
def test_nothing_closes_before_it_is_worth_asking(
    at_s: float, closed_s: float | None, still_open: int, aborted: int, agreed: str, doubt: str,
    quiet_s: float, release_s: float,
) -> None:
    settings = CompletenessSettings(quiet_period_s=quiet_s, after_release_s=release_s)
    found = evidence(
        still_open=still_open, aborted=aborted, closed_s=closed_s, agreed=agreed, doubt=doubt
    )
    if decide(found, settings, after(at_s)).complete:
        assert worth_asking_in_s(found, settings, after(at_s)) == 0.0
