"""Residual units and gates of attention: as many parameters as known, and gates that only dim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.networks.res_att_unet import ResAttUNet
from tests.ai_models.networks.exported import by_onnx_runtime


def parameters(module: torch.nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


@pytest.mark.parametrize(
    ("channels", "count"), [((16, 32, 64, 128, 256), 7_714_232), ((8, 16, 32), 115_662)]
)
def test_it_has_the_parameters_that_are_known_of_it(channels: tuple[int, ...], count: int) -> None:
    with torch.device("meta"):
        assert parameters(ResAttUNet(channels=channels)) == count


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_any_depth_answers_every_voxel(levels: int) -> None:
    network = ResAttUNet(2, 3, [2 << level for level in range(levels)]).eval()
    edge = 2 << (levels - 1)
    edges = (edge, 2 * edge, edge)
    with torch.inference_mode():
        assert network(torch.zeros(1, 2, *edges)).shape == (1, 3, *edges)


def test_images_are_answered_as_well() -> None:
    network = ResAttUNet(1, 2, (2, 4), spatial_dims=2).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 8, 6)).shape == (1, 2, 8, 6)


def test_one_level_is_refused() -> None:
    with pytest.raises(ValueError, match="two levels"):
        ResAttUNet(channels=(8,))


def test_a_gate_never_makes_brighter_what_it_lets_through() -> None:
    torch.manual_seed(0)
    network = ResAttUNet(channels=(4, 8, 16)).eval()
    watched: list[tuple[torch.Tensor, torch.Tensor]] = []
    for gate in network.gates:
        gate.register_forward_hook(lambda _gate, given, answer: watched.append((given[1], answer)))
    with torch.inference_mode():
        network(torch.randn(2, 1, 8, 8, 8) * 5)
    assert len(watched) == 2
    assert all(bool((answer.abs() <= skip.abs()).all()) for skip, answer in watched)


def bytes_kept(network: torch.nn.Module, image: torch.Tensor, *, half: bool) -> int:
    """Of what is kept for the way back, without the weights themselves."""
    own = {one.data_ptr() for one in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=half),
    ):
        loss = network(image).float().square().mean()
    loss.backward()
    return sum(kept.values())


def test_sixteen_bits_keep_at_least_a_third_less_for_the_way_back() -> None:
    torch.manual_seed(0)
    network, image = ResAttUNet(channels=(8, 16, 32)), torch.randn(1, 1, 32, 32, 32)
    whole, half = (bytes_kept(network, image, half=half) for half in (False, True))
    assert half <= 0.65 * whole


def test_exported_it_answers_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, image = ResAttUNet(channels=(4, 8)).eval(), torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        expected = network(image).numpy()
    assert np.abs(by_onnx_runtime(network, image, tmp_path) - expected).max() < 1e-4
