"""The gate: a candidate is held against the live version on reference cases that stay the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ai_models.adapt.inputs import cases_with_truth
from ai_models.adapt.measures import measured
from ai_models.adapt.verdict import RECORD, Figure, Verdict
from ai_models.card import Card
from ai_models.prediction.quality import without_quality
from ai_models.predictor import Predictor
from ai_models.training.cases import Case, DicomReader
from ai_models.trust import Site
from ai_models.types import ModelError

TOLERANCE = 0.01


def gate(
    candidate: Card, live: Card, reference: Path, *, tolerance: float = TOLERANCE,
    reader: DicomReader | None = None, site: Site | None = None, device: str = "cpu",
) -> Verdict:
    """Measure both versions on the same cases.

    Raises
    ------
    ModelError
        ``model.gate``: they are not two versions of one model; the cases say nothing of it, are
        those that the candidate was adapted on, or hold nothing that the live version finds; or a
        version cannot be run.
    TrainingError
        The cases cannot be read.
    """
    if (candidate.id, candidate.task) != (live.id, live.task):
        raise ModelError(f"{candidate.id} is no version of {live.id}", reason="model.gate")
    if candidate.version == live.version:
        raise ModelError(f"{live.id} {live.version} is live itself", reason="model.gate")
    cases = cases_with_truth(reference, live, reader)
    _check_others(cases, candidate)
    before = _measured(live, cases, reader, site, device)
    _check_shows_something(before, live)
    after = _measured(candidate, cases, reader, site, device)
    figures = tuple(
        Figure(
            name, value, after.get(name),
            name not in after or after[name] < value - tolerance - 1e-9,
        )
        for name, value in sorted(before.items())
    )
    return Verdict(
        live.id, candidate.version, candidate.fingerprint, candidate.weights_sha256, live.version,
        live.fingerprint, live.weights_sha256, reference_digest(cases), len(cases), tolerance,
        figures, not any(one.worse for one in figures),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _check_others(cases: Sequence[Case], candidate: Card) -> None:
    """Of the cases that it was adapted on a candidate knows the answers."""
    path = candidate.folder / RECORD
    if not path.exists():
        return
    try:
        learned = set(json.loads(path.read_text("utf-8"))["cases"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read", reason="model.gate") from error
    both = sum(one.digest in learned for one in cases)
    if both:
        raise ModelError(
            f"{both} of the {len(cases)} reference cases are, by patient and name, cases that "
            f"{candidate.id} {candidate.version} was adapted on: it knows their answers. Give "
            "others, or other names to what is not the same", reason="model.gate",
        )


def _check_shows_something(before: dict[str, float], live: Card) -> None:
    """Beside a version that finds nothing every candidate looks as good as it."""
    found = [
        value for name, value in before.items()
        if name.startswith("Dice of ") or name == "sensitivity"
    ]
    if found and not any(found):
        raise ModelError(
            f"{live.id} {live.version} finds nothing of what the reference cases hold, so that "
            "every candidate would pass", reason="model.gate",
        )


def _measured(
    card: Card, cases: Sequence[Case], reader: DicomReader | None, site: Site | None, device: str
) -> dict[str, float]:
    # Cases with a truth are all measured, as both versions see them.
    predictor = Predictor(without_quality(card), device, site)
    predictor.load()
    try:
        return measured(predictor, cases, reader)
    finally:
        predictor.close()


def reference_digest(cases: Sequence[Case]) -> str:
    """One digest of everything that is read of the cases, their truth included."""
    lines = []
    for case in cases:
        files = [path for paths in case.images.values() for path in paths] + list(case.labels)
        content = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        lines.append(f"{case.digest} {' '.join(content)} {sorted(case.values.items())}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
