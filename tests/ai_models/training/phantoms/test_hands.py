"""Drawn hands grow as hands do, and a picture follows from how old its bones are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ai_models.training.phantoms.bones import XRAY_UNITS, Mineral, Plate, random_unit
from ai_models.training.phantoms.hands import (
    AHEAD,
    HandVariation,
    grown,
    hand_radiograph,
    random_hand,
)

SHARP = replace(XRAY_UNITS[0], noise=0.0)


def test_the_same_hand_is_an_older_boys_or_a_younger_girls() -> None:
    boy = HandVariation(120.0, "M")
    girl = HandVariation(120.0 * AHEAD["F"], "F")
    assert np.array_equal(hand_radiograph(1, boy, SHARP), hand_radiograph(1, girl, SHARP))
    other = hand_radiograph(1, HandVariation(120.0, "F"), SHARP)
    assert not np.array_equal(hand_radiograph(1, boy, SHARP), other)


def test_a_growth_plate_is_dark_until_it_closes() -> None:
    def darkest(months: float) -> float:
        """Along the radius, between its shaft and its end: how much darker than both."""
        picture = hand_radiograph(3, HandVariation(months, "M", size=1.0), SHARP, 0.5)
        line = picture[440:500, 168:176].mean(axis=1)
        return float(line[:15].max() - line[15:].min()) if months > 200 else float(
            line.max() - line.min())

    young, grown_up = darkest(130.0), darkest(214.0)
    assert young > grown_up + 0.05


def test_bones_of_the_wrist_come_one_by_one() -> None:
    # White above flesh, between the forearm and the hand.
    def white(months: float) -> float:
        picture = hand_radiograph(5, HandVariation(months), SHARP)
        return float(picture[196:232, 50:110].sum())

    amounts = [white(months) for months in (30.0, 60.0, 90.0, 130.0, 180.0)]
    assert amounts == sorted(amounts)


def test_a_share_grows_between_two_ages() -> None:
    assert [grown(age, 2.0, 4.0) for age in (1.0, 3.0, 9.0)] == [0.0, 0.5, 1.0]


def test_a_collimator_cuts_to_the_hand_and_no_finger() -> None:
    hand = HandVariation(60.0)
    whole = hand_radiograph(4, hand, SHARP)
    cut = hand_radiograph(4, replace(hand, margins_mm=(3.0, 0.0, 4.0, 5.0)), SHARP)
    assert cut.shape[0] < 0.75 * whole.shape[0] and cut.shape[1] < 0.75 * whole.shape[1]
    is_air = np.isclose(cut, whole.min(), atol=1e-4)
    for edge in (cut[:2], cut[:, :3], cut[:, -4:]):
        assert np.isclose(edge, whole.min(), atol=1e-4).all()
    assert not is_air[6].all() and not is_air[:, 7].all() and not is_air[:, -8].all()


def test_what_is_not_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="24 to 216"):
        hand_radiograph(1, HandVariation(10.0), SHARP)


def test_pictures_follow_from_their_seed_and_are_whole() -> None:
    rng = np.random.default_rng(2)
    variation, unit = random_hand(rng), random_unit(rng)
    first, second = (hand_radiograph(7, variation, unit) for _ in range(2))
    assert np.array_equal(first, second) and first.dtype == np.float32
    assert first.shape == (256, 192) and first.min() >= 0.0 and first.max() <= 1.0
    assert not np.array_equal(first, hand_radiograph(8, variation, unit))


def test_a_tube_is_thickest_in_its_shell_and_what_lies_outside_is_not_drawn() -> None:
    plate = Plate((40, 40), 1.0)
    plate.tube((5.0, 20.0), (35.0, 20.0), 8.0, Mineral(cortex=0.3, spongy=0.1), waist=0.0)
    across = plate.bone[20]
    assert across[20] < across[14] and across[5] == 0.0 and plate.bone[2].max() == 0.0
    plate.lump((200.0, 200.0), (5.0, 5.0), 0.0, Mineral())
    assert plate.bone[39, 39] == 0.0
