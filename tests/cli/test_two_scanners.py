"""A scanner is exchanged: the alarm is raised, new statistics restore the model, and a candidate
that learned nonsense is refused; the live model stays as it is throughout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.monitoring.reference import write_rows
from ai_models.predictor import Predictor
from ai_models.types import Volume
from tests.ai_models.adapt.two_scanners import (
    digests,
    scan,
    trained_on_a,
    write_card,
    write_cases,
)
from tests.cli.running import Site

pytestmark = pytest.mark.long


def _features(folder: Path, scanner: str, seeds: range) -> list[tuple[float, ...]]:
    predictor = Predictor(load_card(folder))
    predictor.load()
    affine = np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]]
    answers = [predictor.predict(Volume(scan(seed, scanner)[0], affine)) for seed in seeds]
    return [one.features for one in answers]  # type: ignore[union-attr]


def test_a_new_scanner_is_noticed_adapted_to_and_gated(site: Site, tmp_path: Path) -> None:
    models = site.folder / "models"
    learned = trained_on_a(
        models / "balls", tmp_path / "scratch", write_cases(tmp_path / "a", "A", range(16)), 80
    )
    site.settings(more=f"models: {{directories: [{models}]}}\n")
    weights = (learned.folder / "weights.safetensors").read_bytes()
    rows = np.array(_features(learned.folder, "A", range(400, 420)), np.float32)
    sha256 = write_rows(learned.folder / "seen.npy", rows)
    write_card(learned.folder, weights, monitor__reference="seen.npy", monitor__sha256=sha256)
    live = digests(learned.folder)

    ledger = site.ledger()
    for scanner, first in (("A", 500), ("B", 600)):
        for number, features in enumerate(_features(learned.folder, scanner, range(first,
                                                                                  first + 20))):
            ledger.features.keep(f"{scanner}{number}", "balls", "1.0", f"ACME, {scanner}", features)
    ledger.close()
    looked = site("shift", "balls", "--json")
    alarms = {one["scanner"]: one["alarm"] for one in looked.json()["scanners"]}
    assert alarms == {"ACME, A": False, "ACME, B": True}
    assert looked.code == 1

    reference = write_cases(tmp_path / "reference", "B", range(300, 306))
    made = site("adapt", "balls", "--cases", write_cases(tmp_path / "b", "B", range(100, 112)),
                "--method", "adabn", "--as", "2")
    assert made.code == 0, made.err
    refused = site("models", "promote", "balls", "2")
    assert refused.code == 1 and "model.not_gated" in refused.err
    gated = site("models", "gate", "balls", "2", "--reference", reference, "--json")
    (figure,) = gated.json()["figures"]
    assert gated.code == 0 and figure["live"] < 0.3 and figure["candidate"] > 0.6
    assert site("models", "shadow", "balls", "2").code == 0
    assert site("models", "promote", "balls", "2").code == 0

    nonsense = write_cases(tmp_path / "nonsense", "B", range(100, 112), shuffled=True)
    made = site("adapt", "balls", "--cases", nonsense, "--method", "head", "--steps", "60",
                "--rate", "0.01", "--as", "3")
    assert made.code == 0, made.err
    gated = site("models", "gate", "balls", "3", "--reference", reference)
    assert gated.code == 1 and "not passed" in gated.out
    refused = site("models", "promote", "balls", "3")
    assert refused.code == 1 and "did not pass" in refused.err
    assert site("models", "rollback", "balls").code == 0
    assert digests(learned.folder) == live


def test_nothing_is_written_into_the_program_itself(site: Site) -> None:
    refused = site("adapt", "lungs-ct", "--cases", site.folder, "--method", "adabn")
    assert refused.code == 2
    assert "say with --output where the candidate goes" in refused.err
