"""The impression of a report: what a writer drafted and the guard kept, or the template's words.

A draft that leaves out what was found is made whole: the template's own sentence is added for every
finding that no sentence is left of. What an incomplete examination is limited by is never left to
a writer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ai_models.drafting.evidence import EvidenceItem, EvidenceList
from ai_models.drafting.guard import LANGUAGES, DraftSentence, Guard, Struck
from ai_models.types import ModelError

# What a draft may leave out: what is absent, and what has not changed, is no finding.
_MAY_BE_LEFT_OUT = frozenset({"absent", "steady"})


@dataclass(frozen=True)
class WriterIdentity:
    """Who wrote: for the provenance of a report.

    ``model`` is the name of the language model, ``sha256`` the digest of its weights where they lie
    here; both are empty of the template.
    """

    id: str
    version: str = ""
    name: str = ""
    model: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Written:
    """What a writer handed in, and sentences on how it was done."""

    sentences: tuple[DraftSentence, ...]
    notes: tuple[str, ...] = ()


class Writer(Protocol):
    """Writes sentences on evidence."""

    @property
    def identity(self) -> WriterIdentity:
        """Who it is."""

    def write(self, evidence: EvidenceList, language: str) -> Written:
        """A draft in ``language``. ModelError where there is none."""


@dataclass(frozen=True)
class ImpressionSentence:
    """One sentence: the ids that it cites, and the Tracking UIDs of their measurement groups."""

    text: str
    evidence: tuple[str, ...]
    groups: tuple[str, ...]
    source: Literal["writer", "template"]


@dataclass(frozen=True)
class Impression:
    """What a report says in words, and how it came to that.

    ``fallback`` is the reason why nothing of a draft was used, empty where some was: the code of a
    ModelError, ``language``, ``empty`` or ``all_struck``; ``why`` says it to a person.
    ``evidence`` is what the sentences cite from.
    """

    sentences: tuple[ImpressionSentence, ...]
    writer: WriterIdentity
    struck: tuple[Struck, ...] = ()
    fallback: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    evidence: tuple[EvidenceItem, ...] = ()

    @property
    def is_drafted(self) -> bool:
        """Whether a writer other than the template wrote any of it."""
        return any(one.source == "writer" for one in self.sentences)


@dataclass(frozen=True)
class TemplateWriter:
    """The template's own sentences, in whatever language the evidence has them."""

    identity: WriterIdentity = field(default_factory=lambda: WriterIdentity("template"))

    def write(self, evidence: EvidenceList, language: str) -> Written:
        """See `Writer.write`; never raises."""
        return Written(tuple(
            DraftSentence(told, tuple(one.id for one in items))
            for told, items in _told(evidence)
        ))


def impression(evidence: EvidenceList, writer: Writer | None, language: str) -> Impression:
    """The impression on ``evidence``, by ``writer`` or by the template where there is none.

    A writer that fails, or of whose draft nothing is left, is no error of the report: the template
    takes its place, and the reason is kept.
    """
    template = TemplateWriter()
    if writer is None or isinstance(writer, TemplateWriter):
        return Impression(_of_template(evidence), template.identity, evidence=evidence.items)
    if language not in LANGUAGES:
        return _fallen_back(evidence, writer, "language", f"the guard does not read {language}")
    started = time.monotonic()
    try:
        written = writer.write(evidence, language)
    except ModelError as problem:
        return _fallen_back(evidence, writer, problem.reason, str(problem))
    seconds = time.monotonic() - started
    guarded = Guard(evidence, language).guarded(tuple(dict.fromkeys(written.sentences)))
    if not guarded.kept:
        reason = "all_struck" if guarded.struck else "empty"
        return _fallen_back(
            evidence, writer, reason, "no sentence of the draft is left", guarded.struck,
            written.notes, seconds,
        )
    kept = tuple(_sentence(one.text, evidence.cited(one.evidence), "writer")
                 for one in guarded.kept)
    return Impression(
        (*kept, *_left_out(evidence, guarded.kept)), writer.identity, guarded.struck,
        notes=written.notes, seconds=seconds, evidence=evidence.items,
    )


def _fallen_back(
    evidence: EvidenceList, writer: Writer, reason: str, why: str,
    struck: tuple[Struck, ...] = (), notes: tuple[str, ...] = (), seconds: float = 0.0,
) -> Impression:
    return Impression(
        _of_template(evidence), writer.identity, struck, reason, why, notes, seconds,
        evidence.items,
    )


def _of_template(evidence: EvidenceList) -> tuple[ImpressionSentence, ...]:
    return tuple(_sentence(told, items, "template") for told, items in _told(evidence))


def _left_out(
    evidence: EvidenceList, kept: Sequence[DraftSentence]
) -> Iterator[ImpressionSentence]:
    """The template's sentences on what must be told and is in none that was kept."""
    cited = {one for sentence in kept for one in sentence.evidence}
    about = {evidence.by_id[one].entity for one in cited}
    for told, items in _told(evidence):
        if any(one.id in cited for one in items):
            continue
        if all(one.status in _MAY_BE_LEFT_OUT for one in items if one.status) and any(
            one.status for one in items
        ):
            continue
        if all(one.kind == "measurement" and one.entity in about for one in items):
            continue
        yield _sentence(told, items, "template")


def _told(evidence: EvidenceList) -> list[tuple[str, tuple[EvidenceItem, ...]]]:
    """The template's sentences in order, each with the items that it tells."""
    found: dict[str, list[EvidenceItem]] = {}
    for item in evidence:
        if item.told:
            found.setdefault(item.told, []).append(item)
    return [(told, tuple(items)) for told, items in found.items()]


def _sentence(
    text: str, items: Sequence[EvidenceItem], source: Literal["writer", "template"]
) -> ImpressionSentence:
    groups = tuple(dict.fromkeys(one.group for one in items if one.group))
    return ImpressionSentence(text, tuple(one.id for one in items), groups, source)
