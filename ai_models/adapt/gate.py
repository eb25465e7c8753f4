"""The gate: a candidate is held against the live version on reference cases that stay the same.

What came of it is written beside the candidate's card and names the weights of both and the cases:
another candidate, another live version or other cases need the gate again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ai_models.adapt.candidate import GATE
from ai_models.adapt.inputs import cases_with_truth
from ai_models.adapt.measures import measured
from ai_models.card import Card
from ai_models.predictor import Predictor
from ai_models.training.cases import Case, DicomReader
from ai_models.trust import Site
from ai_models.types import ModelError

TOLERANCE = 0.01
NOT_GATED = "model.not_gated"


@dataclass(frozen=True)
class Figure:
    """One figure of both versions, more is better; ``worse`` says that the candidate falls by more
    than the tolerance, or has no such figure."""

    name: str
    live: float
    candidate: float | None
    worse: bool


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a candidate; ``reference_sha256`` is of the files of the cases."""

    model_id: str
    candidate_version: str
    candidate_card_sha256: str
    candidate_weights_sha256: str
    live_version: str
    live_weights_sha256: str
    reference_sha256: str
    cases: int
    tolerance: float
    figures: tuple[Figure, ...]
    passed: bool
    at: str


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
        live.weights_sha256, reference_digest(cases), len(cases), tolerance, figures,
        not any(one.worse for one in figures), datetime.now(UTC).isoformat(timespec="seconds"),
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


def keep(verdict: Verdict, folder: Path) -> None:
    """Write a verdict beside the candidate's card."""
    beside = folder / f".{GATE}.{os.getpid()}"
    beside.write_text(json.dumps(asdict(verdict), indent=1) + "\n", encoding="utf-8")
    beside.replace(folder / GATE)


def why_not_gated(candidate: Card, live: Card) -> str:
    """Why an adapted candidate may not take the place of ``live``; empty where it may.

    A version that was not adapted here is its makers' business, and needs no gate.
    """
    if candidate.adaptation is None:
        return ""
    name = f"{candidate.id} {candidate.version}"
    ask = f"run `dicom-node models gate {candidate.id} {candidate.version} --reference FOLDER`"
    try:
        told: Any = json.loads((candidate.folder / GATE).read_text("utf-8"))
    except FileNotFoundError:
        return f"{name} was adapted and has not been through the gate: {ask}"
    except (OSError, ValueError) as error:
        return f"{name}: what the gate said cannot be read ({type(error).__name__}): {ask}"
    if not isinstance(told, dict):
        return f"{name}: what the gate said cannot be read: {ask}"
    if told.get("candidate_weights_sha256") != candidate.weights_sha256 or (
        told.get("candidate_card_sha256") != candidate.fingerprint
    ):
        return f"{name} was changed since it was through the gate: {ask}"
    if told.get("live_weights_sha256") != live.weights_sha256:
        return f"{name} was held against another version than {live.version}, which is live: {ask}"
    if told.get("passed") is not True:
        return f"{name} did not pass the gate"
    return ""
