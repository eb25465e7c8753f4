"""The gate: a candidate is held against the live version on reference cases that stay the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ai_models.adapt.inputs import cases_with_truth
from ai_models.adapt.measures import measured
from ai_models.adapt.verdict import Figure, Verdict
from ai_models.card import Card
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
        ``model.gate``: they are not two versions of one model, or the cases say nothing of it; or
        a version cannot be run.
    TrainingError
        The cases cannot be read.
    """
    if (candidate.id, candidate.task) != (live.id, live.task):
        raise ModelError(f"{candidate.id} is no version of {live.id}", reason="model.gate")
    if candidate.version == live.version:
        raise ModelError(f"{live.id} {live.version} is live itself", reason="model.gate")
    cases = cases_with_truth(reference, live, reader)
    before = _measured(live, cases, reader, site, device)
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


def _measured(
    card: Card, cases: Sequence[Case], reader: DicomReader | None, site: Site | None, device: str
) -> dict[str, float]:
    predictor = Predictor(card, device, site)
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
