"""Slices and phases in their order: what pads them changes nothing, and their order does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.networks.cnn_lstm import CnnLstm
from tests.ai_models.networks.exported import by_onnx_runtime

KINDS: list[dict[str, Any]] = [
    {}, {"every_step": False}, {"context": 1}, {"context": 2, "every_step": False},
    {"sequence": "phases"}, {"sequence": "phases", "every_step": False},
]


def network_of(**changes: Any) -> CnnLstm:
    torch.manual_seed(0)
    return CnnLstm(**{"widths": (4, 8), "features": 8, "hidden": 8, **changes}).eval()


def steps_of(kind: dict[str, Any], batch: int, steps: int) -> torch.Tensor:
    torch.manual_seed(1)
    if kind.get("sequence") == "phases":
        return torch.randn(batch, steps, 4, 8, 8)
    return torch.randn(batch, 1, steps, 8, 8)


def axis_of(kind: dict[str, Any]) -> int:
    return 1 if kind.get("sequence") == "phases" else 2


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_or_the_whole_is_answered(kind: dict[str, Any]) -> None:
    network = network_of(out_channels=3, **kind)
    with torch.inference_mode():
        answer = network(steps_of(kind, 2, 5))
    assert answer.shape == ((2, 5, 3) if network.every_step else (2, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_behind_the_end_changes_nothing(kind: dict[str, Any]) -> None:
    network, axis = network_of(**kind), axis_of(kind)
    short = steps_of(kind, 1, 4)
    long = torch.cat((short, torch.full_like(short, 1e3)), dim=axis)
    lengths = torch.tensor([4])
    with torch.inference_mode():
        alone, padded = network(short), network(long, lengths)
        other = network(torch.cat((short, -torch.ones_like(short)), dim=axis), lengths)
    assert (alone - (padded[:, :4] if network.every_step else padded)).abs().max() == 0.0
    assert (padded - other).abs().max() == 0.0
    if network.every_step:
        assert padded[:, 4:].abs().max() == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_an_order_of_the_steps_is_another_answer(kind: dict[str, Any]) -> None:
    network, axis = network_of(**kind), axis_of(kind)
    steps = steps_of(kind, 1, 5)
    with torch.inference_mode():
        answer, turned = network(steps), network(steps.flip(axis))
    if network.every_step:
        turned = turned.flip(1)
    assert (answer - turned).abs().max() > 1e-6


def test_inputs_of_several_lengths_are_learned_from_together() -> None:
    network = network_of().train()
    answer = network(steps_of({}, 3, 6), torch.tensor([2, 6, 4]))
    assert answer.shape == (3, 6, 1)
    answer.sum().backward()
    assert all(one.grad is not None for one in network.parameters())


@pytest.mark.parametrize("wrong", [
    {"sequence": "phases", "context": 1}, {"sequence": "phases", "in_channels": 2},
    {"sequence": "weeks"},
])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        CnnLstm(**wrong)


@pytest.mark.long
def test_exported_it_answers_the_same(tmp_path: Path) -> None:
    network, image = network_of(context=1), steps_of({}, 1, 5)
    with torch.inference_mode():
        expected = network(image).numpy()
    assert np.abs(by_onnx_runtime(network, image, tmp_path) - expected).max() < 1e-4
