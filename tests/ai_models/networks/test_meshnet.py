"""MeshNet keeps the grid, and has the parameters that its arguments ask for."""

from __future__ import annotations

import torch

from ai_models.networks.meshnet import MeshNet


def test_every_voxel_gets_a_logit_for_each_class() -> None:
    network = MeshNet(1, 5, 3, [1, 2, 4], "relu")
    assert network(torch.zeros(2, 1, 8, 9, 10)).shape == (2, 3, 8, 9, 10)


def test_parameters_are_those_of_the_published_eighteen_class_net() -> None:
    network = MeshNet(1, 21, 18, [1, 2, 4, 8, 16, 8, 4, 2, 1], "elu")
    # 385,632 bytes of float32
    assert sum(one.numel() for one in network.parameters()) == 385_632 // 4


def test_a_voxel_sees_as_far_as_the_dilations_add_up() -> None:
    network = MeshNet(1, 2, 2, [1, 2], "elu").eval()
    image = torch.zeros(1, 1, 15, 15, 15)
    changed = image.clone()
    changed[0, 0, 7, 7, 7] = 100.0
    with torch.inference_mode():
        differs = (network(changed) != network(image)).any(dim=1)[0]
    assert differs[4, 7, 7] and differs[10, 7, 7]
    assert not differs[3].any() and not differs[11].any()


def test_normalised_channels_do_not_depend_on_the_scale_of_the_input() -> None:
    network = MeshNet(1, 4, 2, [1, 2], "gelu", normalised=True).eval()
    image = torch.rand(1, 1, 12, 12, 12)
    inner = (slice(None), slice(None), slice(4, 8), slice(4, 8), slice(4, 8))
    with torch.inference_mode():
        torch.testing.assert_close(
            network(image)[inner], network(image * 7)[inner], atol=1e-2, rtol=1e-2
        )
