"""The sentences that reports of every kind have, and those of one template in their place."""

from __future__ import annotations

from sr_templates.entries import Entry, Wording

# What fills the braces of each sentence.
PLACEHOLDERS: dict[str, frozenset[str]] = {
    "demonstration": frozenset(),
    "computed": frozenset({"algorithm", "version"}),
    "partial": frozenset(),
    "lacking": frozenset({"what"}),
    "drafted": frozenset(),
    "finding": frozenset({"name", "values"}),
    "highest_in": frozenset({"name", "number"}),
    "agreeing": frozenset({"name", "count", "all"}),
    "differing": frozenset({"name", "count"}),
    "not_answered": frozenset({"name", "without"}),
    "thresholds": frozenset({"terms"}),
    "at_least": frozenset({"term", "bound"}),
    "below": frozenset({"term"}),
    "calibrated": frozenset(),
    "uncalibrated": frozenset(),
    "evidence": frozenset({"text"}),
    "not_for": frozenset({"text"}),
    "separator": frozenset(),
    "not_found": frozenset({"name"}),
    "nothing_found": frozenset({"names"}),
    "nothing_else": frozenset(),
    "input_note": frozenset({"note"}),
    # Beside an earlier examination.
    "compared": frozenset({"days"}),
    "not_compared": frozenset({"reason"}),
    "grown": frozenset({"name", "days", "before", "after", "percent"}),
    "shrunk": frozenset({"name", "days", "before", "after", "percent"}),
    "steady": frozenset({"name", "days", "before", "after"}),
    "new": frozenset({"name", "days"}),
    "beyond_earlier": frozenset({"name", "days"}),
    "gone": frozenset({"name", "days", "before"}),
    "beyond_present": frozenset({"name", "days", "before"}),
}


class Sentences(Entry):
    """Sentences in every language; ``None`` is the one of ``sentences.yaml``."""

    demonstration: Wording | None = None
    computed: Wording | None = None
    partial: Wording | None = None
    lacking: Wording | None = None
    drafted: Wording | None = None
    finding: Wording | None = None
    highest_in: Wording | None = None
    agreeing: Wording | None = None
    differing: Wording | None = None
    not_answered: Wording | None = None
    thresholds: Wording | None = None
    at_least: Wording | None = None
    below: Wording | None = None
    calibrated: Wording | None = None
    uncalibrated: Wording | None = None
    evidence: Wording | None = None
    not_for: Wording | None = None
    separator: Wording | None = None
    not_found: Wording | None = None
    nothing_found: Wording | None = None
    nothing_else: Wording | None = None
    input_note: Wording | None = None
    compared: Wording | None = None
    not_compared: Wording | None = None
    grown: Wording | None = None
    shrunk: Wording | None = None
    steady: Wording | None = None
    new: Wording | None = None
    beyond_earlier: Wording | None = None
    gone: Wording | None = None
    beyond_present: Wording | None = None


class AllSentences(Entry):
    """``sentences.yaml``: none is missing."""

    demonstration: Wording
    computed: Wording
    partial: Wording
    lacking: Wording
    drafted: Wording
    finding: Wording
    highest_in: Wording
    agreeing: Wording
    differing: Wording
    not_answered: Wording
    thresholds: Wording
    at_least: Wording
    below: Wording
    calibrated: Wording
    uncalibrated: Wording
    evidence: Wording
    not_for: Wording
    separator: Wording
    not_found: Wording
    nothing_found: Wording
    nothing_else: Wording
    input_note: Wording
    compared: Wording
    not_compared: Wording
    grown: Wording
    shrunk: Wording
    steady: Wording
    new: Wording
    beyond_earlier: Wording
    gone: Wording
    beyond_present: Wording
