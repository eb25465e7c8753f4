"""Which pairs are trained on and which are held back: never one patient on both sides."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ai_models.training.language.duplicates import groups_of, without_near_duplicates
from ai_models.training.language.pairs import Pair
from ai_models.training.settings import TrainingError

DUPLICATE_THRESHOLD = 0.9
GROUP_THRESHOLD = 0.6


@dataclass(frozen=True, repr=False)
class Split:
    """Pairs for training and pairs held back.

    Attributes
    ----------
    near_duplicates
        How many pairs were left out because one like them was there before.
    by
        ``patient``: each pair has one. ``text``: none has, and pairs alike stay together.
        ``patient and text``: some have.
    groups
        How many patients, or groups of pairs alike, there are on both sides together.
    """

    training: tuple[Pair, ...]
    held_back: tuple[Pair, ...]
    near_duplicates: int
    by: str
    groups: int


def split_of(pairs: Sequence[Pair], share: float, seed: int) -> Split:
    """Leave near duplicates out, and hold a share of the patients back.

    Near duplicates have a Jaccard index of 0.9 or more over three words in a row of what is read
    and what is said of it. Pairs without a patient stay together where the index is 0.6 or more:
    that two reports are of one patient cannot be known then.

    Raises
    ------
    TrainingError
        One side would be empty.
    """
    texts = [f"{one.asked}\n{one.said}" for one in pairs]
    places = without_near_duplicates(texts, DUPLICATE_THRESHOLD)
    kept = [pairs[place] for place in places]
    named = sum(bool(one.patient) for one in kept)
    by = "patient" if named == len(kept) else "patient and text" if named else "text"
    unnamed = [texts[place] for place in places] if by != "patient" else []
    alike = groups_of(unnamed, GROUP_THRESHOLD)
    groups: dict[str, list[Pair]] = defaultdict(list)
    for number, one in enumerate(kept):
        groups[f"patient {one.patient}" if one.patient else f"text {alike[number]}"].append(one)
    keys = sorted(groups)
    random.Random(seed).shuffle(keys)
    wanted = max(1, round(share * len(kept)))
    held: list[Pair] = []
    training: list[Pair] = []
    for key in keys:
        # A group larger than what is still wanted goes to the training.
        fits = len(held) + len(groups[key]) <= wanted
        (held if fits else training).extend(groups[key])
    if not held or not training:
        raise TrainingError(
            f"{len(kept)} pairs of {len(groups)} patients or groups of like texts cannot be split: "
            "more of them are needed, or another share to be held back"
        )
    return Split(tuple(training), tuple(held), len(pairs) - len(kept), by, len(groups))
