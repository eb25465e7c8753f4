"""What is tried when memory does not suffice: one rung after the other, and each is said."""

from __future__ import annotations

import pytest

from ai_models.backends.fallbacks import Reached, Rung, half_edge, ladder

EVERYTHING = ("batch", "offload", "roi", "half", "cpu")


def test_rungs_follow_the_order_of_the_card() -> None:
    rungs = ladder(Rung(4, (64, 64, 64)), EVERYTHING, EVERYTHING)
    assert [(one.batch, one.offload, one.roi, one.half, one.cpu) for one in rungs] == [
        (4, False, (64, 64, 64), False, False),
        (2, False, (64, 64, 64), False, False),
        (1, False, (64, 64, 64), False, False),
        (1, True, (64, 64, 64), False, False),
        (1, True, (32, 32, 32), False, False),
        (1, True, (32, 32, 32), True, False),
        (1, False, (64, 64, 64), False, True),
    ]


def test_order_is_the_cards_own() -> None:
    rungs = ladder(Rung(2, (64, 64, 64)), ["half", "batch"], EVERYTHING)
    assert [(one.half, one.batch) for one in rungs] == [(False, 2), (True, 2), (True, 1)]


def test_what_the_network_cannot_do_is_left_out() -> None:
    rungs = ladder(Rung(2, (64, 64, 64)), EVERYTHING, {"offload"})
    assert [(one.batch, one.offload) for one in rungs] == [(2, False), (2, True)]


def test_card_without_fallbacks_has_one_rung() -> None:
    assert ladder(Rung(4), [], EVERYTHING) == [Rung(4)]


def test_whole_inputs_have_no_window_to_halve() -> None:
    assert len(ladder(Rung(1), ["batch", "roi"], EVERYTHING)) == 1


def test_only_what_changes_the_numbers_becomes_part_of_the_result() -> None:
    rungs = ladder(Rung(2, (64, 64, 64)), ["batch", "offload", "half", "roi"], EVERYTHING)
    assert [one.parameters for one in rungs] == [
        {}, {}, {}, {"fall_back": "half"}, {"fall_back": "roi half"},
    ]


def test_cpu_takes_back_what_changed_the_numbers() -> None:
    last = ladder(Rung(2, (64, 64, 64)), EVERYTHING, EVERYTHING)[-1]
    assert last.parameters == {}
    assert last.notes == ("memory did not suffice: computed one window at a time, on the CPU",)


def test_cpu_counts_where_it_computes_in_another_precision() -> None:
    last = ladder(Rung(1), ["cpu"], EVERYTHING, cpu_changes=True)[-1]
    assert last.parameters == {"fall_back": "cpu"}


@pytest.mark.parametrize(
    ("rung", "sentence"),
    [
        (1, "memory did not suffice: computed 2 windows at a time"),
        (2, "memory did not suffice: computed one window at a time"),
        (3, "memory did not suffice: computed one window at a time, in windows of half the size"),
    ],
)
def test_rungs_are_said_in_a_sentence(rung: int, sentence: str) -> None:
    rungs = ladder(Rung(4, (64, 64, 64)), ["batch", "roi"], EVERYTHING)
    assert rungs[0].notes == ()
    assert rungs[rung].notes == (sentence,)


@pytest.mark.parametrize(
    ("edge", "half"), [(128, 64), (96, 64), (112, 64), (144, 80), (160, 96), (32, 32), (1, 1)]
)
def test_half_a_window_still_fits_the_network(edge: int, half: int) -> None:
    assert half_edge(edge) == half


def test_larger_inputs_begin_where_a_smaller_one_ended() -> None:
    reached = Reached()
    assert reached.begin_at(1000) == 0
    reached.keep(500, 2)
    reached.keep(2000, 4)
    assert [reached.begin_at(size) for size in (499, 500, 1999, 2000)] == [0, 2, 2, 4]


def test_input_that_needs_nothing_leaves_no_trace() -> None:
    reached = Reached()
    reached.keep(500, 0)
    assert reached.begin_at(1000) == 0
