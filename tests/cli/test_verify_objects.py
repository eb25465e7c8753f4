"""Of air a model finds nothing, or refuses it; either way a report of nothing is looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_models.card import Card
from ai_models.conformance.check import Check
from ai_models.conformance.scene import scene_for
from ai_models.types import ModelInput, Prediction
from dicom_node.cli.verify_objects import Ask, SeriesMaker, check_nothing_found
from dicom_node.errors import ModelFailed, NodeError, UnsuitableInput
from tests.ai_models.conformance.models import bright, card_of, labelled


def refusing(error: NodeError) -> Ask:
    def ask(card: Card, source: ModelInput) -> Prediction:
        raise error

    return ask


def looked_at(folder: Path, ask: Ask) -> Check:
    card = card_of(folder)
    scene = scene_for(card, quick=True)
    reference = bright(card)(scene.reference)
    return check_nothing_found(card, ask, scene, reference, SeriesMaker(card, folder / "series"))


def test_of_air_there_is_a_report_that_nothing_was_found(tmp_path: Path) -> None:
    found = looked_at(tmp_path, lambda card, source: bright(card)(source))
    assert (found.outcome, found.sentence) == (
        "passed", "of air a report that nothing was found"
    )


def test_what_is_marked_in_air_is_told_and_taken_away(tmp_path: Path) -> None:
    found = looked_at(
        tmp_path, lambda card, source: labelled(card, np.ones(source.array.shape))
    )
    assert found.outcome == "passed"
    assert found.sentence.endswith("; what it marks in air was taken away for this")


@pytest.mark.parametrize("reason", ["input.no_foreground", "input.nothing_to_search"])
def test_where_air_is_refused_the_report_of_nothing_is_that_of_what_was_shown(
    tmp_path: Path, reason: str
) -> None:
    found = looked_at(tmp_path, refusing(UnsuitableInput("no lungs", reason=reason)))
    assert (found.outcome, found.sentence) == (
        "passed",
        f"of what was shown a report that nothing was found; air is refused with {reason}",
    )


@pytest.mark.parametrize("error", [
    UnsuitableInput("in HU", reason="input.wrong_unit"),
    ModelFailed("it raised", reason="model.failed"),
    ModelFailed("it raised", reason="input.no_foreground"),
])
def test_air_that_is_refused_for_another_reason_or_breaks_the_model_fails(
    tmp_path: Path, error: NodeError
) -> None:
    found = looked_at(tmp_path, refusing(error))
    assert (found.outcome, found.sentence) == ("failed", f"{error.reason}: {error}")
