"""Pretrained layers that rest at first, and learn afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ai_models.training.freezing import Frozen, frozen_encoder
from ai_models.training.loop import Batch, Example, train
from ai_models.training.pretrained import Pretrained
from ai_models.training.settings import Settings, TrainingError

ENCODER = ("0.weight", "0.bias", "1.weight", "1.bias")


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2, 1),
    )


def example(number: int) -> Example:
    generator = torch.Generator().manual_seed(number)
    return {"image": torch.rand(1, 5, 5, generator=generator), "truth": float(number % 2)}


def loss_of(learner: nn.Module, batch: Batch) -> torch.Tensor:
    answer = learner(batch["image"])[:, 0]
    return nn.functional.mse_loss(answer, batch["truth"].float())


def trained(folder: Path, steps: int, frozen: Frozen | None) -> dict[str, torch.Tensor]:
    settings = Settings(steps=steps, batch=4, rate=0.01, checkpoint_every=2, schedule="constant")
    outcome = train(network(), example, loss_of, settings, folder, frozen=frozen)
    return dict(outcome.network.state_dict())


def test_what_is_frozen_rests_to_the_last_bit_with_its_means_and_the_head_learns(
    tmp_path: Path,
) -> None:
    before = network().state_dict()
    after = trained(tmp_path, 3, Frozen(frozenset(ENCODER), 3))
    for name in (*ENCODER, "1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["4.weight"], after["4.weight"])


def test_after_its_steps_it_learns_like_all_the_rest(tmp_path: Path) -> None:
    before = network().state_dict()
    after = trained(tmp_path, 4, Frozen(frozenset(ENCODER), 3))
    for name in (*ENCODER[:3], "1.running_mean"):
        assert not torch.equal(before[name], after[name]), name


def test_a_run_that_is_taken_up_again_lets_it_rest_for_as_long(tmp_path: Path) -> None:
    frozen = Frozen(frozenset(ENCODER), 3)
    whole = trained(tmp_path / "whole", 5, frozen)
    trained(tmp_path / "parts", 2, frozen)
    parts = trained(tmp_path / "parts", 5, frozen)
    assert all(torch.equal(one, parts[name]) for name, one in whole.items())


def told(left_out: tuple[str, ...]) -> Pretrained:
    return Pretrained("a.pth", "0" * 64, "other", "resnet18", 1, 1, (), left_out)


def test_what_a_file_gave_is_frozen_and_neither_heads_nor_what_is_built_on_it() -> None:
    frozen = frozen_encoder(network(), told(("4.weight", "4.bias")), 10)
    assert frozen == Frozen(frozenset(ENCODER), 10)
    around = nn.Module()
    around.backbone, around.up = network(), nn.Linear(1, 1)
    inner = frozen_encoder(around, told(("4.weight", "4.bias")), 10)
    assert inner is not None and inner.names == {f"backbone.{name}" for name in ENCODER}
    assert frozen_encoder(network(), told(()), 0) is None


def test_a_network_of_which_nothing_would_learn_is_refused() -> None:
    with pytest.raises(TrainingError, match="none would learn"):
        frozen_encoder(network(), told(()), 10)
