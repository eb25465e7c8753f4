"""Two runs are compared to the last bit, and 16 bits with 32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_models.conformance.repeating import check_determinism, check_precision, in_full_precision
from ai_models.conformance.scene import scene_for
from ai_models.types import ModelInput, Prediction
from tests.ai_models.conformance.models import bright, card_of, labelled
from tests.ai_models.tiny_models import write_model

HALF = {
    "weights__path": "w.pt", "runtime__backend": "state_dict", "runtime__precision": "bf16",
    "runtime__network": {"name": "monai.UNet"},
}


def test_a_model_that_varies_is_found_out(tmp_path: Path) -> None:
    card = card_of(tmp_path)
    scene = scene_for(card, quick=True)
    reference = bright(card)(scene.reference)
    assert check_determinism(bright(card), scene, reference).outcome == "passed"

    def varying(source: ModelInput) -> Prediction:
        label_map = source.array > 100
        label_map[0, 0, 0] = True
        return labelled(card, label_map)

    assert check_determinism(varying, scene, reference).outcome == "failed"


def test_only_the_precision_of_the_card_is_changed(tmp_path: Path) -> None:
    card = card_of(tmp_path, **HALF)
    full = in_full_precision(card)
    assert full is not None
    assert full.runtime.precision == "fp32"
    assert full.folder == card.folder
    assert full.model_dump(exclude={"runtime"}) == card.model_dump(exclude={"runtime"})
    assert full.fingerprint != card.fingerprint
    assert in_full_precision(full) is None


@pytest.mark.parametrize(("threshold", "outcome"), [(101, "passed"), (600, "failed")])
def test_fewer_bits_may_change_one_label_in_a_hundred(
    tmp_path: Path, threshold: int, outcome: str
) -> None:
    card = card_of(tmp_path, **HALF)
    scene = scene_for(card, quick=True)
    reference = labelled(card, np.asarray(scene.reference.array) > threshold)
    assert check_precision(card, bright(card), scene, reference).outcome == outcome


def test_precision_that_nobody_computed_is_not_judged(tmp_path: Path) -> None:
    card = card_of(tmp_path, **{**HALF, "runtime__precision": "fp16"})
    scene = scene_for(card, quick=True)
    reference = bright(card)(scene.reference)
    noted = type(reference)(**{
        **vars(reference), "notes": ("fp16 was asked for: the CPU computes in fp32",)
    })
    found = check_precision(card, bright(card), scene, noted)
    assert found.outcome == "not applicable"
    assert "GPU" in found.sentence
    write_model(tmp_path / "model", b"no network")
    plain = card_of(tmp_path)
    assert check_precision(plain, bright(plain), scene, reference).outcome == "not applicable"
