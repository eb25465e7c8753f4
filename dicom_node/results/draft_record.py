"""What is kept of a drafted impression for people: its sentences beside their evidence.

A writer is shown names of cards and numbers and nothing of a patient, so no word that it hands in
names one: it may stand in the ledger for as long as its job does. What the guard did not pass is
still anybody's text: it is kept apart, for those who may see patients, and without a character
that a terminal or a page would obey.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ai_models.drafting.evidence import EvidenceItem
from ai_models.drafting.impression import Impression

UNGUARDED = "unguarded"
"""The key under which a record has what a host said and the guard did not pass."""
NOTICE, NO_DRAFT = "AI draft, not reviewed", "no draft in the report"
_UNITS = {
    "[hnsf'U]": "HU", "1": "", "mo": "months", "a": "years", "d": "days", "{SUVbw}g/ml": "g/ml SUV",
}
_SIDES = {"both": "both sides"}
_CHANGES = {
    "gone": "not found any more", "steady": "unchanged",
    "beyond_earlier": "outside of the earlier images",
    "beyond_present": "outside of the present images",
}


def impression_counts(made: Impression) -> dict[str, Any]:
    """Who wrote an impression and how much of it was kept, without a word of it."""
    return {
        "writer": asdict(made.writer), "fallback": made.fallback, "seconds": round(made.seconds, 3),
        "sentences": dict(Counter(one.source for one in made.sentences)),
        "struck": dict(Counter(one.reason for one in made.struck)),
    }


def draft_record(made: Impression) -> dict[str, Any]:
    """An impression as JSON values for the ledger.

    Beside who wrote and how much was kept, also in a sentence (``standing``): ``told``, the
    sentences with the ids that they cite; ``evidence``, what those ids are, in words;
    ``unguarded``, the sentences that were struck and what a failed host said.
    """
    cited = {one for sentence in made.sentences for one in sentence.evidence}
    cited |= {one for struck in made.struck for one in struck.sentence.evidence}
    counts = impression_counts(made)
    return {
        **counts,
        "standing": standing_of(counts),
        "told": [
            {"text": one.text, "evidence": list(one.evidence), "source": one.source}
            for one in made.sentences
        ],
        "evidence": {one.id: in_words(one) for one in made.evidence if one.id in cited},
        UNGUARDED: {
            "why": visible(made.why),
            "struck": [
                {"text": visible(one.sentence.text), "reason": one.reason, "why": visible(one.why),
                 "evidence": [visible(name) for name in one.sentence.evidence]}
                for one in made.struck
            ],
        },
    }


def visible(text: str) -> str:
    """``text`` with what is no printable character as its escape.

    So it moves no cursor, turns no line round, and can be written in UTF-8.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def in_words(item: EvidenceItem) -> str:
    """One item of evidence for a person: ``Nodule 1, left Lung: Long axis 8.4 mm``."""
    said = item.finding.lower().split()
    place = " ".join(
        word for word in (_SIDES.get(item.side, item.side), item.site)
        if word and word.lower() not in said
    )
    name = ", ".join(filter(None, (item.finding, place)))
    return f"{name}: {_said(item)}"


def _said(item: EvidenceItem) -> str:
    if item.kind == "comparison":
        numbers = [
            f"{item.before_ml:g} ml before" if item.before_ml is not None else "",
            f"{item.after_ml:g} ml now" if item.after_ml is not None else "",
            f"{item.percent:g} %" if item.percent is not None else "",
            f"{item.days} days between" if item.days is not None else "",
        ]
        return ", ".join(filter(None, (_CHANGES.get(item.status, item.status), *numbers)))
    number = ""
    if item.value is not None:
        unit = _UNITS.get(item.unit, item.unit)
        number = f"{item.value:.{item.decimals}f} {unit}".strip()
    if item.kind == "count":
        return f"{number} found"
    if item.kind == "score":
        quantity = (item.quantity or "probability").lower()
        return f"{item.status}, {quantity} {number}" if number else item.status
    if item.kind == "measurement":
        return f"{item.quantity} {number}"
    return item.term or item.kind.replace("_", " ")


def record_lines(record: Mapping[str, Any]) -> list[str]:
    """A record for a terminal, as ``dicom-node show`` prints it."""
    notice = NO_DRAFT if record.get("fallback") else NOTICE
    lines = [f"impression: {notice}; {standing_of(record)}"]
    evidence = record.get("evidence", {})
    for one in record.get("told", []):
        lines.append(f"  {one['text']} [{one['source']}]")
        lines += [f"    {name}: {evidence[name]}" for name in one["evidence"] if name in evidence]
    unguarded = record.get(UNGUARDED, {})
    if unguarded.get("why"):
        lines.append(f"  why: {unguarded['why']}")
    lines += [
        f"  struck ({one['reason']}): {one['text']}" + (f"  {one['why']}" if one["why"] else "")
        for one in unguarded.get("struck", [])
    ]
    return lines


def standing_of(record: Mapping[str, Any]) -> str:
    """Who wrote a draft, whether the template took its place, and how many sentences were struck.

    In one sentence, without a word of the draft.
    """
    writer = record["writer"]
    digest = writer.get("sha256") or ""
    inside = []
    if writer.get("model"):
        known = f"SHA-256 {digest[:16]}" if digest else "whose digest is not known here"
        inside = [f"model {writer['model']}", known]
    who = f"{writer.get('name') or writer['id']} {writer.get('version', '')}".strip()
    parts = [f"{who} ({', '.join(inside)})" if inside else who]
    if record.get("fallback"):
        parts.append(f"the template stands in: {record['fallback']}")
    struck = record.get("struck", {})
    reasons = ", ".join(f"{reason}: {number}" for reason, number in sorted(struck.items()))
    count = sum(struck.values())
    if count:
        parts.append(f"{count} {'sentence' if count == 1 else 'sentences'} struck ({reasons})")
    return "; ".join(parts)
