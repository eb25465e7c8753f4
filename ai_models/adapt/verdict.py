"""What the gate said of a candidate, kept beside its card, and whether it may be live by that.

It names the cards and weights of both versions: another candidate, or another live version, needs
the gate again. Which cases it was, it says by a digest. It is not signed: whoever can write it can
write cards and weights as well, and needs no verdict then.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ai_models.card import Card
from ai_models.types import ModelError

VERDICT = "verdict.json"
RECORD = "adaptation.json"
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
    live_card_sha256: str
    live_weights_sha256: str
    reference_sha256: str
    cases: int
    tolerance: float
    figures: tuple[Figure, ...]
    passed: bool
    at: str


def keep(verdict: Verdict, folder: Path) -> None:
    """Write a verdict beside the candidate's card."""
    beside = folder / f".{VERDICT}.{os.getpid()}"
    beside.write_text(json.dumps(asdict(verdict), indent=1) + "\n", encoding="utf-8")
    beside.replace(folder / VERDICT)


def why_not_gated(candidate: Card, live: Card) -> str:
    """Why an adapted candidate may not take the place of ``live``; empty where it may.

    A version that was not adapted here is its makers' business, and needs no gate.
    """
    name = f"{candidate.id} {candidate.version}"
    if candidate.adaptation is None:
        # What makes a candidate leaves this beside its card.
        if (candidate.folder / RECORD).exists():
            return f"{name} was adapted ({RECORD}), and its card does not say so any more"
        return ""
    ask = f"run `dicom-node models gate {candidate.id} {candidate.version} --reference FOLDER`"
    try:
        told: Any = json.loads((candidate.folder / VERDICT).read_text("utf-8"))
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
    if told.get("live_weights_sha256") != live.weights_sha256 or (
        told.get("live_card_sha256") != live.fingerprint
    ):
        return f"{name} was held against another version than {live.version}, as it is now: {ask}"
    if told.get("passed") is not True:
        return f"{name} did not pass the gate"
    return ""


def check_gated(candidate: Card, live: Card) -> None:
    """Refuse an adapted candidate that has not passed: ModelError ``model.not_gated``."""
    if why := why_not_gated(candidate, live):
        raise ModelError(why, reason=NOT_GATED)
