"""The grounding guard: a sentence of a draft is kept only if the evidence that it cites says it.

Deterministic, without a model and without a guess. It knows English; in another language it keeps
nothing but sentences of the template, word for word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ai_models.drafting.clauses import Unclear
from ai_models.drafting.evidence import EvidenceItem, EvidenceList
from ai_models.drafting.reading import (
    Entity,
    Reader,
    Stems,
    cited_inside,
    is_writable,
    normal_form,
    parts_of,
    stems_of,
)
from ai_models.drafting.statements import statements_of
from ai_models.drafting.support import check

LANGUAGES = ("en",)
Reason = Literal[
    "citation", "not_cited", "language", "unwritable", "unknown_word", "overclaim", "no_finding",
    "finding", "status", "negation", "number", "quantity", "side", "anatomy", "term", "count",
    "comparison", "ambiguous",
]


@dataclass(frozen=True)
class DraftSentence:
    """A sentence as a writer has it, and the ids of the evidence that it cites."""

    text: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Struck:
    """A sentence that was struck: ``reason`` is a stable code, ``why`` says it to a person."""

    sentence: DraftSentence
    reason: str
    why: str


@dataclass(frozen=True)
class Guarded:
    """What is left of a draft, and what is not."""

    kept: tuple[DraftSentence, ...]
    struck: tuple[Struck, ...]


@dataclass(frozen=True)
class Guard:
    """Holds sentences in ``language`` against one list of evidence."""

    evidence: EvidenceList
    language: str = "en"

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.evidence)

    def guarded(self, sentences: Sequence[DraftSentence]) -> Guarded:
        """Keep what is supported, in its order, and record what is not."""
        kept: list[DraftSentence] = []
        struck: list[Struck] = []
        for sentence in sentences:
            try:
                kept.append(self.supported(sentence))
            except Unclear as problem:
                struck.append(Struck(sentence, problem.kind, str(problem)))
        return Guarded(tuple(kept), tuple(struck))

    def supported(self, sentence: DraftSentence) -> DraftSentence:
        """The sentence without citations inside of it, where what it cites says the same.

        Raises
        ------
        Unclear
            Why it is struck.
        """
        text, inside = cited_inside(normal_form(sentence.text))
        ids = tuple(dict.fromkeys((*sentence.evidence, *inside)))
        unknown = [one for one in ids if one not in self.evidence.by_id]
        if unknown or not ids:
            what = f"there is no {unknown[0][:8]}" if unknown else "nothing is cited"
            raise Unclear("citation", what)
        cited = self.evidence.cited(ids)
        if self._is_told(text, cited):
            return DraftSentence(text, ids)
        if self.language not in LANGUAGES:
            raise Unclear("language", f"the guard does not read {self.language[:8]!r}")
        if not is_writable(text):
            raise Unclear("unwritable", "it is too long, or has signs that no finding needs")
        spoken_of: list[Entity] = []
        bases: set[Stems] = set()
        changed: list[Entity] = []
        for statement in statements_of(self._reader.marks(text), _only(cited)):
            entities = check(statement, self._reader, cited)
            spoken_of += entities
            changed += entities if statement.is_of_change else []
            bases.add(statement.base)
        _check_citations(cited, spoken_of, bases, changed)
        return DraftSentence(text, ids)

    def _is_told(self, text: str, cited: Sequence[EvidenceItem]) -> bool:
        """Whether it is the template's own sentence of everything that it cites."""
        return all(one.told and normal_form(one.told) == text for one in cited)


def _only(cited: Sequence[EvidenceItem]) -> Stems | None:
    """The name of what all cited evidence is about; ``None`` where that is more than one thing."""
    about = {parts_of(one) for one in cited if one.kind != "count"}
    return next(iter(about))[0] if len(about) == 1 else None


def _check_citations(
    cited: Sequence[EvidenceItem], spoken_of: Sequence[Entity], bases: set[Stems],
    changed: Sequence[Entity],
) -> None:
    """A citation of what the sentence does not speak of would lead the reader astray.

    What became of a finding would even be hidden by it: what is cited counts as told.
    """
    for item in cited:
        if item.kind == "count":
            astray = stems_of(item.finding) not in bases
        else:
            among = changed if item.kind == "comparison" else spoken_of
            astray = not any(item in one.items for one in among)
        if astray:
            raise Unclear("citation", f"{item.id} is cited, and the sentence is not about it")
