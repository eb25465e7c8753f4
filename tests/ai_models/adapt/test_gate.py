"""Reference cases of which the gate learns nothing are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ai_models.adapt.candidate import Wish, make_candidate
from ai_models.adapt.gate import gate
from ai_models.backends.architectures import build
from ai_models.card import Card
from ai_models.types import ModelError
from tests.ai_models.adapt.two_scanners import NETWORK, weights_of, write_card, write_cases


def _live(folder: Path, *, finds: bool) -> Card:
    """A model that calls everything a ball, or nothing."""
    torch.manual_seed(2)
    network = build(NETWORK["name"], NETWORK["arguments"])
    last = [one for name, one in network.named_parameters() if name.endswith("bias")][-1]
    with torch.no_grad():
        last += torch.tensor([-50.0, 50.0] if finds else [50.0, -50.0])
    return write_card(folder, weights_of(network))


def _candidate(live: Card, cases: Path, folder: Path) -> Card:
    wish = Wish("head", batch=2, steps=2)
    return make_candidate(live, cases, folder / "balls-2", "2", wish, folder / "scratch")


def test_cases_that_the_candidate_was_adapted_on_are_refused(tmp_path: Path) -> None:
    live = _live(tmp_path / "balls", finds=True)
    cases = write_cases(tmp_path / "cases", "B", range(3))
    made = _candidate(live, cases, tmp_path)
    with pytest.raises(ModelError, match="3 of the 3 reference cases .* adapted on"):
        gate(made, live, cases)
    others = write_cases(tmp_path / "others", "B", range(10, 12))
    assert gate(made, live, others).cases == 2


def test_a_live_version_that_finds_nothing_proves_nothing(tmp_path: Path) -> None:
    live = _live(tmp_path / "balls", finds=False)
    made = _candidate(live, write_cases(tmp_path / "cases", "B", range(3)), tmp_path)
    with pytest.raises(ModelError, match="finds nothing of what the reference cases hold"):
        gate(made, live, write_cases(tmp_path / "others", "B", range(10, 12)))
