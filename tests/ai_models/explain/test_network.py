"""The layer is chosen by the size of its map."""

from __future__ import annotations

import pytest
import torch

from ai_models.explain.network import NoLayerError, deepest_layer
from tests.ai_models.explain.networks import Finder


def test_the_deepest_layer_that_still_shows_a_place_is_taken() -> None:
    assert deepest_layer(Finder(), torch.zeros(1, 1, 32, 32, 32)) == "smaller"
    assert deepest_layer(Finder(2), torch.zeros(1, 1, 32, 32)) == "smaller"


def test_a_small_input_may_have_small_maps() -> None:
    assert deepest_layer(Finder(), torch.zeros(1, 1, 3, 6, 6)) == "rectified"


def test_of_a_dense_net_a_block_with_large_maps_is_taken() -> None:
    from monai.networks.nets import DenseNet121

    module = DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).eval()
    assert deepest_layer(module, torch.zeros(1, 1, 48, 48, 48)) == (
        "features.transition2.conv"
    )


def test_a_network_without_maps_has_no_layer() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    with pytest.raises(NoLayerError, match="no layer"):
        deepest_layer(module, torch.zeros(1, 1, 8, 8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_shows_no_layers() -> None:
    script = torch.jit.trace(Finder(2), torch.zeros(1, 1, 8, 8))
    with pytest.raises(NoLayerError, match="TorchScript"):
        deepest_layer(script, torch.zeros(1, 1, 8, 8))
