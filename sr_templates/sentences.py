"""The sentences that reports of every kind have, and those of one template in their place."""

from __future__ import annotations

from sr_templates.entries import Entry, Wording

# What fills the braces of each sentence.
PLACEHOLDERS: dict[str, frozenset[str]] = {
    "demonstration": frozenset(),
    "computed": frozenset({"algorithm", "version"}),
    "partial": frozenset(),
    "drafted": frozenset(),
    "finding": frozenset({"name", "values"}),
    "separator": frozenset(),
    "not_found": frozenset({"name"}),
    "nothing_found": frozenset({"names"}),
    "nothing_else": frozenset(),
    "input_note": frozenset({"note"}),
}


class Sentences(Entry):
    """Sentences in every language; ``None`` is the one of ``sentences.yaml``."""

    demonstration: Wording | None = None
    computed: Wording | None = None
    partial: Wording | None = None
    drafted: Wording | None = None
    finding: Wording | None = None
    separator: Wording | None = None
    not_found: Wording | None = None
    nothing_found: Wording | None = None
    nothing_else: Wording | None = None
    input_note: Wording | None = None


class AllSentences(Entry):
    """``sentences.yaml``: none is missing."""

    demonstration: Wording
    computed: Wording
    partial: Wording
    drafted: Wording
    finding: Wording
    separator: Wording
    not_found: Wording
    nothing_found: Wording
    nothing_else: Wording
    input_note: Wording
