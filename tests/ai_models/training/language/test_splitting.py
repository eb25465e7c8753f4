"""No near duplicate is learned twice, and no patient is on both sides."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from ai_models.training.language.duplicates import (
    groups_of,
    resemblance,
    shingles,
    without_near_duplicates,
)
from ai_models.training.language.pairs import Pair, read_pairs
from ai_models.training.language.splitting import split_of
from ai_models.training.settings import TrainingError
from tests.ai_models.training.language.pair_files import lines, write_pairs

WORDS = [f"word{number}" for number in range(400)]


def long_text(seed: int) -> list[str]:
    return random.Random(seed).choices(WORDS, k=80)


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Pair, ...]:
    return read_pairs(write_pairs(tmp_path / "pairs", lines(60, 20))).pairs


def test_bands_find_what_comparing_all_with_all_finds() -> None:
    texts = []
    for seed in range(150):
        words = long_text(seed % 50)
        for _ in range(seed % 4):
            words[random.Random(seed).randrange(80)] = "changed"
        texts.append(" ".join(words))
    sets = [shingles(one) for one in texts]
    kept: list[int] = []
    for place, one in enumerate(sets):
        if all(resemblance(one, sets[other]) < 0.9 for other in kept):
            kept.append(place)
    assert without_near_duplicates(texts, 0.9) == kept
    assert 50 <= len(kept) < 150


def test_spelling_of_capitals_and_stops_is_no_difference() -> None:
    texts = ["No nodule. Heart normal.", "NO NODULE heart normal"]
    assert without_near_duplicates(texts, 0.9) == [0]


def test_another_number_is_a_difference() -> None:
    one = "a nodule of 8.4 mm in the left lung"
    assert without_near_duplicates([one, one.replace("8.4", "8.5")], 0.9) == [0, 1]


def test_groups_join_through_others() -> None:
    words = long_text(1)
    first, second, third = words[:60], words[10:70], words[20:80]
    found = groups_of([" ".join(one) for one in (first, second, third, long_text(9))], 0.6)
    assert found == [0, 0, 0, 3]
    assert resemblance(shingles(" ".join(first)), shingles(" ".join(third))) < 0.6


@pytest.mark.parametrize("seed", range(20))
def test_no_patient_is_on_both_sides(pairs: tuple[Pair, ...], seed: int) -> None:
    split = split_of(pairs, 0.2, seed)
    held, training = ({one.patient for one in side} for side in (split.held_back, split.training))
    assert not held & training
    assert split.by == "patient"
    assert 10 <= len(split.held_back) <= 16
    assert len(split.held_back) + len(split.training) + split.near_duplicates == len(pairs)


def test_pair_sent_twice_is_left_out(pairs: tuple[Pair, ...]) -> None:
    assert split_of([*pairs, *pairs], 0.2, 0).near_duplicates >= len(pairs)


def test_without_patients_texts_alike_stay_together() -> None:
    made = []
    for group in range(12):
        for number in range(3):
            words = long_text(group)
            words[number * 20 : number * 20 + 4] = [f"new{number}"] * 4
            made.append(Pair(" ".join(words), None, (), "CT", ""))
    split = split_of(made, 0.25, 1)
    assert split.by == "text"
    assert split.groups == 12
    assert split.near_duplicates == 0
    held = {one.findings.split()[-1] for one in split.held_back}
    assert not held & {one.findings.split()[-1] for one in split.training}
    assert split_of([replace(made[0], patient="x"), *made[1:]], 0.25, 1).by == "patient and text"


def test_same_seed_is_the_same_split(pairs: tuple[Pair, ...]) -> None:
    assert split_of(pairs, 0.2, 3).held_back == split_of(pairs, 0.2, 3).held_back
    assert split_of(pairs, 0.2, 3).held_back != split_of(pairs, 0.2, 4).held_back


def test_one_patient_cannot_be_split(pairs: tuple[Pair, ...]) -> None:
    with pytest.raises(TrainingError, match="cannot be split"):
        split_of([replace(one, patient="same") for one in pairs], 0.2, 0)
