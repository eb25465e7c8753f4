"""Series and facts joined at the end: what is missing is as if training had left it out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.networks.late_fusion import LateFusion
from tests.ai_models.networks.exported import by_onnx_runtime


def network_of(**changes: object) -> LateFusion:
    torch.manual_seed(0)
    network = LateFusion(**{"widths": (4, 8), "features": 8, **changes}).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(network.stand_in)
    return network


def examination(network: LateFusion) -> torch.Tensor:
    """CT, PET, that PET is there, and facts that are all known."""
    torch.manual_seed(1)
    image = torch.randn(2, network.in_channels, 8, 8, 8)
    image[:, 2] = 1.0
    for number in range(network.clinical):
        image[:, 3 + 2 * number] = 0.5
        image[:, 4 + 2 * number] = 1.0
    return image


def test_missing_pet_is_as_left_out_in_training_whatever_its_channel_holds() -> None:
    network = network_of(clinical=2)
    there = examination(network)
    missing = there.clone()
    missing[:, 1], missing[:, 2] = 7.0, 0.0
    with torch.inference_mode():
        left_out = network(there, left_out=(0,))
        assert torch.equal(network(missing), left_out)
        assert (network(there) - left_out).abs().max() > 1e-6


def test_a_fact_that_is_not_known_has_no_value() -> None:
    network = network_of(clinical=2)
    unknown = examination(network)
    unknown[:, 4] = 0.0
    other = unknown.clone()
    other[:, 3] = 9.0
    with torch.inference_mode():
        assert torch.equal(network(unknown), network(other))
        assert (network(unknown) - network(examination(network))).abs().max() > 1e-7


def test_required_companions_have_no_channel_that_says_so() -> None:
    network = network_of(required=(True, False), clinical=1)
    assert network.in_channels == 1 + 2 + 1 + 2
    image = examination(network)
    with torch.inference_mode():
        assert network(image).shape == (2, 1)
        # Neither can be left out but by hand.
        assert (network(image, left_out=(0,)) - network(image)).abs().max() > 1e-6


def test_training_leaves_out_series_and_facts_at_random_and_required_ones_never() -> None:
    network = network_of(required=(True, False), clinical=1, modality_dropout=0.5).train()
    present, facts = torch.ones(400, 2), torch.ones(400, 2)
    stays, known = network._thinned(present, facts)
    assert stays[:, 0].min() == 1.0
    assert 0.4 < float(stays[:, 1].mean()) < 0.6
    assert torch.equal(known[:, 0], known[:, 1])
    assert 0.4 < float(known.mean()) < 0.6


@pytest.mark.long
def test_exported_it_answers_the_same(tmp_path: Path) -> None:
    network = network_of(clinical=1)
    image = examination(network)[:1]
    with torch.inference_mode():
        expected = network(image).numpy()
    assert np.abs(by_onnx_runtime(network, image, tmp_path) - expected).max() < 1e-4
