"""Which job comes next: urgency, age, arrival, and room for its model."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.pipeline.choice import Limits, choose, urgency
from dicom_node.records import Job, Priority
from tests.ledger.conftest import START, job

PROMOTE_S = 600.0


def waiting(
    name: str, priority: str = "routine", waited_s: float = 0.0, model: str = "lungs-ct"
) -> Job:
    return replace(
        job(name), priority=Priority(priority), model_id=model,
        created_at=START - timedelta(seconds=waited_s),
    )


def names(
    jobs: list[Job], places: int = 100, running: tuple[Job, ...] = (),
    others_began: datetime = START, **per_model: int,
) -> list[str]:
    limits = Limits(places, PROMOTE_S, {k.replace("_", "-"): n for k, n in per_model.items()})
    return [one.job_id for one in choose(jobs, running, limits, START, others_began)]


def test_stat_goes_before_routine_before_background_whatever_came_first() -> None:
    jobs = [waiting("b", "background", 300), waiting("r", "routine", 200), waiting("s", "stat", 1)]
    assert names(jobs) == ["s", "r", "b"]


def test_within_a_class_who_came_first_goes_first() -> None:
    assert names([waiting("late"), waiting("early", waited_s=5), waiting("mid", waited_s=3)]) == [
        "early", "mid", "late"
    ]


def test_background_that_waited_counts_as_routine_and_goes_before_new_routine() -> None:
    old = waiting("old", "background", PROMOTE_S)
    young = waiting("young", "background", PROMOTE_S - 1)
    assert names([waiting("new"), old, young]) == ["old", "new", "young"]


def test_stat_is_not_overtaken_by_old_work_however_much_of_it_there_is() -> None:
    old = [waiting(f"old-{n}", "routine", 1e6 + n) for n in range(50)]
    assert names([*old, waiting("emergency", "stat")], places=2) == ["emergency", "old-49"]


def test_while_only_stat_began_one_old_job_goes_first() -> None:
    jobs = [
        waiting("s1", "stat", 5), waiting("s2", "stat", 4), waiting("old", "routine", PROMOTE_S),
        waiting("older", "background", 2 * PROMOTE_S), waiting("new", "routine"),
    ]
    before = START - timedelta(seconds=PROMOTE_S)
    assert names(jobs, others_began=before)[:3] == ["older", "s1", "s2"]
    assert names(jobs, others_began=before + timedelta(seconds=1))[:3] == ["s1", "s2", "older"]


def test_a_flood_of_stat_is_no_reason_to_let_a_young_job_go_first() -> None:
    jobs = [waiting("s", "stat"), waiting("young", "routine", PROMOTE_S - 1)]
    assert names(jobs, others_began=START - timedelta(days=1)) == ["s", "young"]


def test_a_full_model_does_not_hold_up_the_others() -> None:
    jobs = [waiting("big-1", model="big"), waiting("big-2", model="big"), waiting("small")]
    assert names(jobs, big=1) == ["big-1", "small"]
    assert names(jobs, running=(waiting("big-0", model="big"),), big=1) == ["small"]
    assert names(jobs, running=(waiting("big-0", model="big"),), big=2) == ["big-1", "small"]


def test_no_more_than_the_places_are_filled() -> None:
    assert len(names([waiting(f"{n}") for n in range(9)], places=2)) == 2
    assert names([]) == []


@pytest.mark.parametrize("priority", list(Priority))
def test_a_clock_that_was_set_back_makes_no_job_less_urgent(priority: Priority) -> None:
    ahead = waiting("ahead", priority, -86_400)
    assert urgency(ahead, START, PROMOTE_S) == urgency(waiting("now", priority), START, PROMOTE_S)


jobs_that_wait = st.lists(
    st.tuples(st.sampled_from(list(Priority)), st.floats(0, 5 * PROMOTE_S)), max_size=30
).map(lambda found: [waiting(f"{n:02d}", p, w) for n, (p, w) in enumerate(found)])


@given(jobs_that_wait, st.integers(1, 8))
def test_fewer_places_get_the_beginning_of_the_same_order(jobs: list[Job], places: int) -> None:
    assert names(jobs, places) == names(list(reversed(jobs)))[:places]


@given(jobs_that_wait, st.floats(0, 3 * PROMOTE_S))
def test_no_job_is_left_out_and_true_stat_stands_before_all_others_but_one(
    jobs: list[Job], since_s: float
) -> None:
    order = names(jobs, others_began=START - timedelta(seconds=since_s))
    assert sorted(order) == sorted(one.job_id for one in jobs)
    stat = {one.job_id for one in jobs if one.priority is Priority.STAT}
    before_last_stat = order[: max((order.index(name) for name in stat), default=0)]
    assert sum(name not in stat for name in before_last_stat) <= (since_s >= PROMOTE_S)
