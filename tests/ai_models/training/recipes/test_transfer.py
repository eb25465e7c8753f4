"""The comparison of beginnings: same data, same head, other weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.networks.backbones import build_backbone
from ai_models.training.recipes.scored_images import Pictures
from ai_models.training.recipes.transfer import (
    SCRATCH,
    Experiment,
    Shown,
    Sources,
    begun,
    compared,
    interval,
    some_of,
    table,
)
from ai_models.training.settings import TrainingError


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    path = tmp_path / "known.pth"
    torch.save(build_backbone("mobilenet_v3_small", 1).state_dict(), path)
    return path


def test_a_pretrained_arm_begins_with_the_file_and_a_head_of_its_own(weights: Path) -> None:
    known = torch.load(weights, weights_only=True)
    sources: Sources = {"known": (weights, "other")}
    one = begun("known", sources, Experiment(), 1).state_dict()
    other = begun(SCRATCH, sources, Experiment(), 1).state_dict()
    first, head = "network.features.0.0.weight", "network.classifier.3.weight"
    assert torch.equal(one[first], known["features.0.0.weight"])
    assert not torch.equal(other[first], one[first])
    # The head is that of the seed, though the file has one of the same shape.
    assert torch.equal(one[head], other[head])
    assert not torch.equal(one[head], known["classifier.3.weight"])


def test_pictures_are_normalised_for_weights_of_imagenet_only() -> None:
    class Kept(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image

    image = torch.full((1, 1, 2, 2), 0.485)
    assert Shown(Kept(), as_imagenet=True)(image)[0, 0].abs().max() < 1e-6
    assert torch.equal(Shown(Kept(), as_imagenet=False)(image), image.repeat(1, 3, 1, 1))


def test_a_fraction_has_both_kinds_and_is_another_one_with_each_seed() -> None:
    whole = Pictures(
        np.arange(200, dtype=np.float16).reshape(200, 1, 1, 1),
        (np.arange(200) % 2).astype(np.float32),
    )
    first, second = some_of(whole, 5, 0), some_of(whole, 5, 1)
    assert first.truth.tolist().count(1.0) == 5 and first.truth.tolist().count(0.0) == 5
    assert set(first.images.ravel()) != set(second.images.ravel())
    assert len(some_of(whole, 100, 0).truth) == 200


def test_an_interval_is_that_of_the_mean() -> None:
    low, high = interval([0.8, 0.9, 0.7])
    assert low is not None and high is not None
    assert (low, high) == pytest.approx((0.5516, 1.0), abs=1e-3)
    assert interval([0.8]) == (None, None)


def test_a_file_that_does_not_tell_who_trained_it_is_refused(weights: Path) -> None:
    with pytest.raises(TrainingError, match="who trained it"):
        begun("known", {"known": (weights, None)}, Experiment(), 1)


def test_the_table_is_written_and_what_was_measured_is_not_measured_again(
    tmp_path: Path, weights: Path
) -> None:
    small = Experiment(fractions=(50,), rates=(1e-3,), seeds=2, whole=8, validated=4,
                       held_back=4, steps=1, batch=2, patience=1)
    row = {"arm": "known", "fraction": 50, "rate": 1e-3, "auc": [0.5, 0.6], "cases": 4,
           "mean": 0.55, "low": 0.4, "high": 0.7}
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "known-50.json").write_text(json.dumps(row))
    page = compared(small, {"known": (weights, "other")}, tmp_path)
    told = json.loads((tmp_path / "transfer.json").read_text())
    assert [one["arm"] for one in told["rows"]] == ["known", SCRATCH]
    scratch = told["rows"][1]
    assert told["rows"][0] == row and len(scratch["auc"]) == 2
    # One step each: neither had the time to find that validation no longer improves.
    assert scratch["best_steps"] == [1, 1] and scratch["cut_off"] == 2
    assert page == (tmp_path / "transfer.md").read_text() == table(told["rows"])
    assert "0.550 (0.400 to 0.700)" in page
