"""Pairs of findings and impression, read from a file of lines of JSON and freed of identifiers.

A line has ``findings`` and ``impression`` as text, or ``evidence`` (items as a writer is shown
them) and ``impression`` as sentences with what they cite; ``modality``; ``patient`` where known;
``identifiers``, a list of words that are taken out of this line wherever they stand. Neither
``patient`` nor ``identifiers`` go any further than this process.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_models.drafting.evidence import EvidenceItem, EvidenceList
from ai_models.drafting.guard import DraftSentence
from ai_models.training.language.deidentifying import Deidentified
from ai_models.training.settings import TrainingError

LONGEST_TEXT = 20_000
_LONGEST_LINE = 1 << 20
_MODALITY = re.compile(r"[A-Z]{2,16}")
_READ = {"findings", "impression", "evidence", "modality", "patient", "identifiers"}
_ITEM_KEYS = {
    "id": "id", "kind": "kind", "finding": "finding", "side": "side", "site": "site",
    "quantity": "quantity", "value": "value", "unit": "unit", "status": "status",
    "thresholds": "bounds", "term": "term", "before_ml": "before_ml", "after_ml": "after_ml",
    "percent": "percent", "days_between": "days", "decimals": "decimals",
}


@dataclass(frozen=True, repr=False)
class Pair:
    """What is read, and what is to be written of it, without identifiers.

    Attributes
    ----------
    findings
        Text; empty where there is evidence.
    evidence
        Or ``None``.
    impression
        The sentences; without evidence one, which is the whole text and cites nothing.
    modality
        As of a header: ``CT``.
    patient
        Only to keep the pairs of one patient together: a digest, of no use elsewhere. Empty where
        the line has none.
    """

    findings: str
    evidence: EvidenceList | None
    impression: tuple[DraftSentence, ...]
    modality: str
    patient: str

    @property
    def asked(self) -> str:
        """What is read, as text."""
        if self.evidence is None:
            return self.findings
        return json.dumps(self.evidence.document(), ensure_ascii=True)

    @property
    def said(self) -> str:
        """What is to be written, as text."""
        return " ".join(one.text for one in self.impression)


@dataclass(frozen=True, repr=False)
class PairFile:
    """All pairs of a file, and what a record tells of it.

    Attributes
    ----------
    removed
        How many identifiers of each kind were replaced.
    sha256
        Of the file as it was read.
    ignored_keys
        How many keys were there that nothing is made of.
    """

    pairs: tuple[Pair, ...]
    removed: Mapping[str, int]
    sha256: str
    ignored_keys: int


def read_pairs(path: Path) -> PairFile:
    """Read a file.

    Raises
    ------
    TrainingError
        A line is none of the above; its number is told, and nothing of its text.
    OSError
        It cannot be read.
    """
    digest = hashlib.sha256()
    cleaner = Deidentified()
    pairs: list[Pair] = []
    ignored = 0
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            digest.update(line)
            if len(line) > _LONGEST_LINE:
                raise TrainingError(f"line {number}: longer than {_LONGEST_LINE} bytes")
            if not line.strip():
                continue
            try:
                values = _mapping(line)
                pairs.append(_pair(values, cleaner))
            except ValueError as error:
                # Without its cause: what JSON says of an error may hold a piece of the line.
                raise TrainingError(f"line {number}: {error}") from None
            ignored += len(values.keys() - _READ)
    if not pairs:
        raise TrainingError("no pairs in the file")
    return PairFile(tuple(pairs), dict(sorted(cleaner.counts.items())), digest.hexdigest(), ignored)


def _mapping(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
    if not isinstance(values, dict):
        raise ValueError("a mapping of findings, impression, modality expected")  # noqa: TRY004
    return values


def _pair(values: Mapping[str, Any], cleaner: Deidentified) -> Pair:
    modality = values.get("modality")
    if not isinstance(modality, str) or not _MODALITY.fullmatch(modality):
        raise ValueError("modality: capital letters as in a header expected, such as CT")
    patient = values.get("patient", "")
    if not isinstance(patient, str | int):
        raise ValueError("patient: text expected")  # noqa: TRY004
    known = values.get("identifiers", [])
    if not isinstance(known, list) or not all(isinstance(one, str) for one in known):
        raise ValueError("identifiers: a list of texts expected")
    # A short number as an ID ("1") would be taken out of every measurement.
    told = [str(patient)] if len(str(patient)) >= 4 else []
    words = (*known, *told)
    digest = hashlib.sha256(str(patient).encode()).hexdigest() if str(patient).strip() else ""
    evidence = values.get("evidence")
    if evidence is None:
        findings = _text(values.get("findings"), "findings", cleaner, words)
        said: tuple[DraftSentence, ...] = (
            DraftSentence(_text(values.get("impression"), "impression", cleaner, words)),
        )
        return Pair(findings, None, said, modality, digest)
    items = _evidence(evidence, words)
    said = _sentences(values.get("impression"), items, cleaner, words)
    return Pair("", items, said, modality, digest)


def _text(value: object, name: str, cleaner: Deidentified, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}: text expected")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"{name}: longer than {LONGEST_TEXT} signs")
    return cleaner.clean(value, known).strip()


def _sentences(
    value: object, evidence: EvidenceList, cleaner: Deidentified, known: tuple[str, ...]
) -> tuple[DraftSentence, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("impression: beside evidence a list of {text, evidence} expected")
    made = []
    for one in value:
        ids = one.get("evidence") if isinstance(one, dict) else None
        if not isinstance(ids, list) or not ids or not set(map(str, ids)) <= evidence.by_id.keys():
            raise ValueError("impression: each sentence cites ids of the evidence of its line")
        text = _text(one.get("text"), "impression", cleaner, known)
        made.append(DraftSentence(text, tuple(map(str, ids))))
    return tuple(made)


def _evidence(value: object, known: tuple[str, ...]) -> EvidenceList:
    if not isinstance(value, list) or not value:
        raise ValueError("evidence: a list of items expected")
    items = []
    for one in value:
        if not isinstance(one, dict) or not set(one) <= set(_ITEM_KEYS):
            raise ValueError("evidence: an item has a key that no evidence has")
        try:
            items.append(evidence_item(one))
        except (TypeError, KeyError, ValueError):
            raise ValueError("evidence: an item is none") from None
    # Names of evidence are coded concepts: a placeholder in one would be an invented finding.
    probe = Deidentified()
    for item in items:
        for text in (item.id, item.finding, item.site, item.quantity, item.term):
            probe.clean(text, known)
    if probe.counts:
        raise ValueError("evidence: something in it looks like an identifier")
    return EvidenceList(tuple(items))


def evidence_item(document: Mapping[str, Any]) -> EvidenceItem:
    """The item of which `EvidenceItem.document` gives these values.

    ``decimals`` is one key more; without it a number has those that it is written with.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is none.
    """
    told = {_ITEM_KEYS[key]: value for key, value in document.items()}
    for name in ("id", "kind", "finding", "side", "site", "quantity", "unit", "status", "term"):
        if not isinstance(told.get(name, ""), str):
            raise TypeError(name)
    if not re.fullmatch(r"E\d{1,4}", told["id"]):
        raise ValueError("id")
    if told.get("side", "") not in ("", "left", "right", "both"):
        raise ValueError("side")
    for name in ("value", "before_ml", "after_ml", "percent"):
        if told.get(name) is not None:
            if isinstance(told[name], bool):
                raise TypeError(name)
            told[name] = float(told[name])
    told["bounds"] = tuple(float(one) for one in told.get("bounds", ()))
    if told.get("days") is not None:
        told["days"] = int(told["days"])
    told["decimals"] = int(told.get("decimals", _decimals(told.get("value"))))
    return EvidenceItem(**told)


def _decimals(value: float | None) -> int:
    written = "" if value is None else repr(value)
    if "e" in written or "." not in written or written.endswith(".0"):
        return 0
    return len(written.rpartition(".")[2])
