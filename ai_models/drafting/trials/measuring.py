"""How many false sentences the guard catches, and how many true ones it strikes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ai_models.drafting.clauses import Unclear
from ai_models.drafting.guard import DraftSentence, Guard
from ai_models.drafting.trials.contradictions import contradictions_of
from ai_models.drafting.trials.faithful import sentences_of
from ai_models.drafting.trials.scenes import scene_of
from ai_models.drafting.trials.several import pairs_of


@dataclass
class Figures:
    """Counts by kind; ``missed`` are false sentences that were kept, ``struck`` true ones."""

    false: Counter[str] = field(default_factory=Counter)
    missed: list[tuple[str, str]] = field(default_factory=list)
    true: int = 0
    struck: list[tuple[str, str]] = field(default_factory=list)

    @property
    def caught_share(self) -> float:
        """Of the false sentences."""
        many = sum(self.false.values())
        return 1.0 - len(self.missed) / many if many else 1.0

    @property
    def false_strike_share(self) -> float:
        """Of the true sentences."""
        return len(self.struck) / self.true if self.true else 0.0

    def add(self, guard: Guard, sentence: DraftSentence, kind: str) -> None:
        """Count one sentence; ``kind`` is empty of a true one."""
        try:
            guard.supported(sentence)
        except Unclear as problem:
            if not kind:
                self.struck.append((sentence.text, f"{problem.kind}: {problem}"))
        else:
            if kind:
                self.missed.append((kind, sentence.text))
        if kind:
            self.false[kind] += 1
        else:
            self.true += 1


def measured(seeds: Iterable[int], *, most_per_kind: int | None = None) -> Figures:
    """The figures over one scene for each seed; the same seeds give the same figures.

    ``most_per_kind`` false sentences of one kind are taken of one scene, all by default.
    """
    figures = Figures()
    for seed in seeds:
        chance = random.Random(seed)
        evidence = scene_of(chance)
        guard = Guard(evidence)
        by_kind: dict[str, list[DraftSentence]] = {}
        for item in evidence:
            for said in sentences_of(evidence, item, seed):
                figures.add(guard, said.sentence, "")
            for one in contradictions_of(evidence, item, seed):
                by_kind.setdefault(one.kind, []).append(one.sentence)
        for pair in pairs_of(evidence, chance):
            if pair.kind:
                by_kind.setdefault(pair.kind, []).append(pair.said.sentence)
            else:
                figures.add(guard, pair.said.sentence, "")
        for kind, sentences in by_kind.items():
            if most_per_kind is not None and len(sentences) > most_per_kind:
                sentences = chance.sample(sentences, most_per_kind)
            for sentence in sentences:
                figures.add(guard, sentence, kind)
    return figures
