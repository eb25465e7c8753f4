"""Which shipments go out now: each rule on its own, and all of them on any list of shipments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.delivery.choice import PATIENCE_ATTEMPTS, Turn, Waiting, choose, first_turns

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
LIMITS = {"pacs": 2, "slow": 2}


def waiting(
    key: str, *, lane: str = "pacs", study: str | None = None, age_s: float = 60, wait_s: float = 0,
    attempt: int = 1, is_urgent: bool = False,
) -> Waiting:
    return Waiting(
        key, Turn(lane, study or key), NOW - timedelta(seconds=age_s), attempt,
        NOW + timedelta(seconds=wait_s), is_urgent,
    )


def chosen(
    *shipments: Waiting, under_way: dict[str, Turn] | None = None, away: str = "",
    others_went_s: float = 0,
) -> str:
    others = {"pacs": NOW - timedelta(seconds=others_went_s)}
    found = choose(shipments, under_way or {}, LIMITS, {away}, NOW, others)
    return " ".join(one.key for one in found)


def test_a_destination_gets_as_many_as_its_setting_says_and_those_that_wait_longest() -> None:
    three = [waiting("a", age_s=1), waiting("b", age_s=3), waiting("c", age_s=2)]
    assert chosen(*three) == "b c"
    assert chosen(*three, under_way={"z": Turn("pacs", "z")}) == "b"
    full = {"y": Turn("pacs", "y"), "z": Turn("pacs", "z")}
    assert chosen(*three, under_way=full) == ""
    assert chosen(waiting("d", lane="removed"), waiting("e", lane="removed")) == "d"


def test_a_full_or_absent_destination_takes_no_turn_of_another() -> None:
    slow = [waiting(f"s{n}", lane="slow", age_s=1000) for n in range(5)]
    assert chosen(*slow, waiting("a"), waiting("b")) == "s0 s1 a b"
    assert chosen(*slow, waiting("a"), away="slow") == "a"


def test_one_study_goes_to_one_destination_one_shipment_at_a_time_and_in_order() -> None:
    first = waiting("z", study="1.2", age_s=20)
    second = waiting("a", study="1.2", age_s=10)
    elsewhere = waiting("b", study="1.2", age_s=5, lane="slow")
    assert chosen(second, first, elsewhere) == "z b"
    assert chosen(second, under_way={"z": first.turn}) == ""


def test_a_refused_shipment_holds_back_its_study_for_its_first_attempts_only() -> None:
    behind = waiting("b", study="1.2", age_s=10)
    for attempt in range(1, PATIENCE_ATTEMPTS + 1):
        refused = waiting("a", study="1.2", age_s=20, wait_s=5, attempt=attempt)
        assert chosen(refused, behind, waiting("other")) == "other"
    refused = waiting("a", study="1.2", age_s=20, wait_s=900, attempt=PATIENCE_ATTEMPTS + 1)
    assert chosen(refused, behind) == "b"


def test_urgent_results_go_first_however_much_has_gathered_while_a_destination_was_away() -> None:
    urgent = [waiting(f"u{n}", age_s=5, is_urgent=True) for n in range(2)]
    assert chosen(waiting("old", age_s=86400), *urgent) == "u0 u1"


def test_urgent_results_that_never_end_let_one_of_the_others_go_first_now_and_then() -> None:
    urgent = [waiting(f"u{n}", age_s=5, is_urgent=True) for n in range(2)]
    two = waiting("older", age_s=7300), waiting("old", age_s=7200)
    assert chosen(*two, *urgent, others_went_s=1900) == "older u0"
    assert chosen(*two, *urgent, others_went_s=1700) == "u0 u1"
    assert chosen(waiting("young", age_s=60), *urgent, others_went_s=1900) == "u0 u1"


def test_what_is_made_before_an_urgent_result_of_a_study_goes_as_soon_as_that_may() -> None:
    before = waiting("before", study="1.2", age_s=50)
    urgent = waiting("urgent", study="1.2", age_s=5, is_urgent=True)
    assert chosen(waiting("x", age_s=90), waiting("y", age_s=80), before, urgent) == "before x"


def test_the_first_turns_of_each_destination_come_with_all_that_waits_for_them() -> None:
    every = [waiting(f"{lane}{n}", lane=lane, age_s=100 - n) for lane in LIMITS for n in range(5)]
    again = waiting("again", study="pacs1", age_s=1)
    urgent = waiting("urgent", age_s=1, is_urgent=True)
    kept = first_turns([*every, again, urgent], 3, NOW)
    assert " ".join(one.key for one in kept) == "pacs0 pacs1 slow0 slow1 slow2 again urgent"


def test_what_waits_for_its_next_attempt_keeps_nothing_that_may_go_from_being_seen() -> None:
    refused = [waiting(f"r{n}", age_s=900, wait_s=600, attempt=n + 2) for n in range(4)]
    behind = waiting("behind", study="r0", age_s=800)
    kept = first_turns([*refused, behind, waiting("a"), waiting("b", age_s=1)], 1, NOW)
    assert " ".join(one.key for one in kept) == "a"


def test_a_clock_that_was_set_back_leaves_nothing_waiting_for_years() -> None:
    assert chosen(waiting("a", wait_s=3600)) == "a"
    assert chosen(waiting("a", wait_s=899)) == ""


shipments = st.builds(
    lambda key, lane, study, age, wait, attempt, urgent: waiting(
        f"{key}:{lane}", lane=lane, study=study, age_s=age, wait_s=wait, attempt=attempt,
        is_urgent=urgent,
    ),
    st.integers(0, 50), st.sampled_from(["pacs", "slow", "away"]), st.sampled_from("123"),
    st.floats(0, 5000), st.sampled_from([0, 0, 10, 800]), st.integers(1, 8), st.booleans(),
)


@settings(max_examples=300)
@given(st.lists(shipments, unique_by=lambda one: one.key, max_size=30), st.integers(0, 5))
def test_no_choice_breaks_a_limit_or_leaves_a_free_turn_unused(
    every: list[Waiting], busy: int
) -> None:
    under_way = {one.key: one.turn for one in every[:busy]}
    found = choose(every, under_way, LIMITS, {"away"}, NOW, {"pacs": NOW - timedelta(hours=1)})
    turns = [one.turn for one in found]
    assert len(set(turns)) == len(turns) and not set(turns) & set(under_way.values())
    assert all(one.is_due(NOW) and one.turn.lane != "away" for one in found)
    for lane, limit in LIMITS.items():
        mine = [turn for turn in turns if turn.lane == lane]
        there = sum(turn.lane == lane for turn in under_way.values())
        assert not mine or len(mine) + there <= limit
        free_studies = {
            one.turn for one in every if one.turn.lane == lane and one.is_due(NOW)
        } - set(under_way.values()) - {
            one.turn for one in every if not one.is_due(NOW) and one.attempt <= PATIENCE_ATTEMPTS
        }
        assert len(mine) >= min(len(free_studies), max(0, limit - there))
