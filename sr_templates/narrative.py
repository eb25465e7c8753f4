"""Sentences of a report, filled from numbers; the same inputs give the same words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ai_models.types import Algorithm
from sr_templates.entries import Language
from sr_templates.numbers import Evaluated, Measured
from sr_templates.report_template import Scale
from sr_templates.sentences import Sentences
from sr_templates.template import load_sentences

_UT_LIMIT = 1024
_ENDS = (". ", "? ", "! ", "。")


def pieces(text: str) -> list[str]:
    """``text`` line by line, in parts that one comment may hold, without control characters.

    Nothing else is changed; of spaces at the ends of parts there may be fewer.
    """
    found = []
    for line in text.splitlines():
        rest = "".join(one if one.isprintable() else " " for one in line).strip()
        while len(rest) > _UT_LIMIT:
            end = max(rest.rfind(mark, 0, _UT_LIMIT - 1) + len(mark) for mark in _ENDS)
            end = end if end > _UT_LIMIT // 2 else rest.rfind(" ", 0, _UT_LIMIT) + 1
            end = end if end > _UT_LIMIT // 2 else _UT_LIMIT
            found.append(rest[:end].rstrip())
            rest = rest[end:].lstrip()
        found += [rest] if rest else []
    return found


@dataclass(frozen=True)
class Narrator:
    """Says in one language what a report says in codes and numbers.

    ``own`` are the sentences of a template that stand in the place of the general ones.
    """

    language: Language
    own: Sentences

    def demonstration(self, algorithm: Algorithm) -> list[str]:
        """That the result must not be used, where that is so."""
        return [self._sentence("demonstration")] if algorithm.demonstration else []

    def opening(
        self, algorithm: Algorithm, *, is_complete: bool = True, lacking: Sequence[str] = ()
    ) -> list[str]:
        """Whether the report may be used, who computed it, and whether it is whole.

        What was ``lacking`` stands before the answer: "found nothing" means another thing without.
        """
        computed = self._sentence("computed")
        return [
            *self.demonstration(algorithm),
            computed.format(algorithm=algorithm.name, version=algorithm.version),
            *([] if is_complete else [self._sentence("partial")]),
            *(self._sentence("lacking").format(what=one)[:_UT_LIMIT] for one in lacking),
        ]

    def draft(self, text: str) -> list[str]:
        """The sentences of a language model, behind the one that says what they are.

        Each line is a comment of its own; what is longer than one may be goes on in the next.
        """
        return [self._sentence("drafted"), *pieces(text)]

    def finding(
        self, name: str, measured: Sequence[Measured], evaluated: Sequence[Evaluated]
    ) -> str:
        """One measurement group in words."""
        phrases = [
            *(
                one.quantity.text.in_language(self.language).format(value=one.written)
                for one in measured
            ),
            *(one.term.text.in_language(self.language) for one in evaluated),
        ]
        values = self._sentence("separator").join(phrases)
        return self._sentence("finding").format(name=name, values=values)

    def highest_in(self, name: str, number: int) -> str:
        """Which image of a series speaks for a finding most, by the number that viewers show."""
        return self._sentence("highest_in").format(name=name, number=number)[:_UT_LIMIT]

    def agreeing(self, name: str, count: int, of: int) -> str:
        """How many images of a series have its answer by themselves."""
        return self._sentence("agreeing").format(name=name, count=count, all=of)[:_UT_LIMIT]

    def differing(self, name: str, count: int) -> str:
        """How many images of a series speak for another answer than the series has."""
        return self._sentence("differing").format(name=name, count=count)[:_UT_LIMIT]

    def thresholds(self, scales: Sequence[Scale]) -> list[str]:
        """What scores were compared with, a sentence for each scale."""
        return [
            self._sentence("thresholds").format(terms=self._steps(one))[:_UT_LIMIT]
            for one in dict.fromkeys(scales)
        ]

    def _steps(self, scale: Scale) -> str:
        words = []
        for step in scale.steps:
            term = step.text.in_language(self.language)
            words.append(
                self._sentence("below").format(term=term) if step.at_least is None
                else self._sentence("at_least").format(term=term, bound=f"{step.at_least:g}")
            )
        return self._sentence("separator").join(words)

    def known(
        self, calibrated: bool | None, evidence: str, not_for: Sequence[str]
    ) -> list[str]:
        """What is known of the model: whether its probabilities are some, on what it was measured
        and what it is not for, both in the words of its card."""
        told = []
        if calibrated is not None:
            told.append(self._sentence("calibrated" if calibrated else "uncalibrated"))
        if evidence:
            told += pieces(self._sentence("evidence").format(text=evidence))
        if not_for:
            uses = "; ".join(one.rstrip(".") for one in not_for)
            told += pieces(self._sentence("not_for").format(text=uses))
        return told

    def not_answered(self, name: str, without: Sequence[str]) -> str:
        """Why a finding is undetermined: the roles of the series that it is not told without."""
        listed = self._sentence("separator").join(one.upper() for one in without)
        return self._sentence("not_answered").format(name=name, without=listed)[:_UT_LIMIT]

    def closing(
        self, not_found: Sequence[str], input_notes: Sequence[str], *, is_analysed: bool = False
    ) -> list[str]:
        """What was looked for and not found, that the rest was not, and notes on the input."""
        return [
            *(self._sentence("not_found").format(name=name) for name in not_found),
            *([self._sentence("nothing_else")] if is_analysed else []),
            *(
                self._sentence("input_note").format(note=note.rstrip("."))[:_UT_LIMIT]
                for note in input_notes
            ),
        ]

    def nothing_found(self, names: Sequence[str]) -> str:
        """The sentence of an explicit negative report."""
        listed = self._sentence("separator").join(names)
        return self._sentence("nothing_found").format(names=listed)

    def follow_up(self, key: str, **filled: str) -> str:
        """A sentence on what became of a finding, by its key in ``sentences.yaml``."""
        return self._sentence(key).format(**filled)[:_UT_LIMIT]

    def _sentence(self, key: str) -> str:
        own = getattr(self.own, key)
        wording = own if own is not None else getattr(load_sentences(), key)
        words: str = wording.in_language(self.language)
        return words
