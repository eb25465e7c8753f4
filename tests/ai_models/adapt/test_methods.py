"""What each method changes in a network, and what it leaves as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ai_models.adapt.methods import (
    KeepsStatistics,
    merged,
    open_head,
    take_statistics,
    with_lora,
)
from ai_models.types import ModelError


def _network(norm: type[nn.Module] = nn.BatchNorm3d) -> nn.Sequential:
    torch.manual_seed(1)
    first: Any = norm(4)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), first, nn.ReLU(), nn.Conv3d(4, 2, 1))


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.clone() for name, one in module.state_dict().items()}


def test_statistics_are_those_of_all_batches_and_no_weight_changes() -> None:
    network, batches = _network(), [2 + torch.randn(2, 1, 6, 6, 6) for _ in range(5)]
    before = _state(network)
    assert take_statistics(network, batches) == 5
    after = network.state_dict()
    expected = torch.stack([network[0](one).mean(dim=(0, 2, 3, 4)) for one in batches]).mean(dim=0)
    assert torch.allclose(after["1.running_mean"], expected, atol=1e-5)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert not network.training


def test_a_network_without_batch_normalisation_has_nothing_to_take_anew() -> None:
    with pytest.raises(ModelError) as refused:
        take_statistics(_network(nn.InstanceNorm3d), [torch.zeros(1, 1, 4, 4, 4)] * 2)
    assert refused.value.reason == "model.cannot_adapt"
    with pytest.raises(ModelError, match="two at least"):
        take_statistics(_network(), [torch.zeros(1, 1, 4, 4, 4)])


def test_the_head_is_the_layer_that_runs_last() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.body = nn.Conv3d(4, 2, 1), nn.Conv3d(1, 4, 1)

        def forward(self, image: torch.Tensor) -> Any:
            return self.out(self.body(image))

    assert open_head(Turned(), torch.zeros(1, 1, 2, 2, 2)) == ["out.weight", "out.bias"]


def test_training_leaves_the_statistics_as_they_are() -> None:
    network = _network()
    before = _state(network)
    kept = KeepsStatistics(network).train()
    kept(torch.randn(2, 1, 6, 6, 6))
    assert network.training and not network[1].training
    assert all(torch.equal(before[name], one) for name, one in network.state_dict().items())


def test_additions_change_nothing_at_first_and_end_up_in_the_weights() -> None:
    network, image = _network().eval(), torch.randn(1, 1, 6, 6, 6)
    first, names = network(image).detach(), set(network.state_dict())
    adapted = with_lora(network, image, rank=2)
    assert torch.equal(adapted(image), first)
    trained = [one for one in adapted.parameters() if one.requires_grad]
    assert trained
    with torch.no_grad():
        for one in trained:
            one.add_(0.1)
    changed = adapted(image).detach()
    back = merged(adapted).eval()
    assert set(back.state_dict()) == names
    assert torch.allclose(back(image), changed, atol=1e-4)
    assert not torch.allclose(changed, first, atol=1e-3)
