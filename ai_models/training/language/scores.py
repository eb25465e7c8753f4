"""How good drafts are: ROUGE-L, and what in them nothing supports, by modality.

Overlap of words says little of truth: "no effusion" and "effusion" have most words in common. The
share of unsupported sentences is therefore told beside it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ai_models.drafting.asking import sentences_in
from ai_models.drafting.guard import Guard
from ai_models.training.language.pairs import Pair
from ai_models.types import ModelError

_TOKEN = re.compile(r"[a-z0-9]+")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])|\n+")
_SIDES = {"left": "left", "right": "right", "bilateral": "both", "bilaterally": "both",
          "both": "both"}


def rouge_l(said: str, reference: str) -> float:
    """The F measure of ROUGE-L, 0 to 1: the longest common subsequence of words, once per text.

    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), section 3, with equal
    weight of precision and recall; words are small letters and digits, without stems, as in the
    rouge-score package.
    """
    one, other = _TOKEN.findall(said.lower()), _TOKEN.findall(reference.lower())
    if not one or not other:
        return 0.0
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for place, there in enumerate(other, start=1):
            longest = before + 1 if word == there else max(row[place], row[place - 1])
            before, row[place] = row[place], longest
    if not row[-1]:
        return 0.0
    precision, recall = row[-1] / len(one), row[-1] / len(other)
    return 2 * precision * recall / (precision + recall)


def unsupported_sentences(said: str, findings: str) -> tuple[int, int]:
    """Sentences with a number or a side that the findings have not, and all sentences.

    It is less than the guard asks for: a number may stand at another finding, and a negation may
    be lost. It is all that free text allows without a model.
    """
    numbers = {float(one) for one in _NUMBER.findall(findings)}
    sides = _sides(findings)
    sides |= {"both"} if {"left", "right"} <= sides else set()
    sides |= {"left", "right"} if "both" in sides else set()
    sentences = [one for one in _SENTENCE.split(said.strip()) if one.strip()]
    wrong = sum(
        not ({float(n) for n in _NUMBER.findall(one)} <= numbers and _sides(one) <= sides)
        for one in sentences
    )
    return wrong, len(sentences)


def _sides(text: str) -> set[str]:
    return {_SIDES[word] for word in _TOKEN.findall(text.lower()) if word in _SIDES}


@dataclass(frozen=True, repr=False)
class Judged:
    """One draft: its text without the form, and what was found of it."""

    said: str
    reference: str
    modality: str
    rouge: float
    unsupported: int
    sentences: int
    readable: bool
    by_guard: bool


def judged(pair: Pair, answer: str) -> Judged:
    """A draft held against its pair; one that is not in the form asked for is not readable."""
    if pair.evidence is None:
        wrong, many = unsupported_sentences(answer, pair.findings)
        rouge = rouge_l(answer, pair.said)
        return Judged(answer, pair.said, pair.modality, rouge, wrong, many, bool(answer), False)
    try:
        sentences = sentences_in(answer)
    except ModelError:
        return Judged("", pair.said, pair.modality, 0.0, 0, 0, False, True)
    struck = len(Guard(pair.evidence).guarded(sentences).struck)
    text = " ".join(one.text for one in sentences)
    rouge = rouge_l(text, pair.said)
    return Judged(text, pair.said, pair.modality, rouge, struck, len(sentences), True, True)


def answered(pairs: Sequence[Pair], ask: Callable[[Pair], str]) -> list[Judged]:
    """Every pair asked and judged; an answer that is refused (empty, cut off) is not readable.

    Raises
    ------
    ModelError
        As ``ask``, but ``model.wrong_output``.
    """
    found = []
    for pair in pairs:
        try:
            answer = ask(pair)
        except ModelError as error:
            if error.reason != "model.wrong_output":
                raise
            answer = ""
        found.append(judged(pair, answer))
    return found


def figures(
    drafts: Sequence[Judged], bert: Callable[[Sequence[Judged]], Sequence[float]] | None = None
) -> dict[str, Any]:
    """The figures of all drafts and of each modality, as JSON values, without any text.

    ``bert`` gives the F measure of BERTScore of each draft, where there are weights for it.
    """
    scores = list(bert(drafts)) if bert is not None else None
    places: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(drafts):
        places["all"].append(number)
        places[one.modality].append(number)
    made = {}
    for name, those in sorted(places.items()):
        ones = [drafts[number] for number in those]
        made[name] = {
            "drafts": len(ones),
            "unreadable": sum(not one.readable for one in ones),
            "rouge_l": round(fmean(one.rouge for one in ones), 4),
            "bert_score_f1": None if scores is None else round(
                fmean(scores[number] for number in those), 4
            ),
            "guard": _share([one for one in ones if one.by_guard]),
            "numbers_and_sides": _share([one for one in ones if not one.by_guard]),
        }
    return made


def _share(ones: Sequence[Judged]) -> dict[str, Any] | None:
    if not ones:
        return None
    many, wrong = sum(one.sentences for one in ones), sum(one.unsupported for one in ones)
    return {"sentences": many, "unsupported": wrong,
            "rate": round(wrong / many, 4) if many else None}
