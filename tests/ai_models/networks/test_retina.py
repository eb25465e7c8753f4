"""The detector as one module: MONAI's network under MONAI's names, its anchors and its choice."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ai_models.backends.architectures import build
from ai_models.backends.torch_network import load_weights
from ai_models.networks.retina import Detector

SMALL = {"widths": [4, 8], "levels": 1, "scales": [1], "features": 8}
BOX = torch.tensor([[4.0, 4.0, 4.0, 12.0, 12.0, 10.0]])


def test_it_has_the_parameters_of_lung_nodule_ct_detection() -> None:
    network = Detector(backbone="resnet50", scales=(1, 2, 4))
    assert sum(one.numel() for one in network.parameters()) == 20_902_741


def test_weights_of_the_network_alone_fit_under_monais_names() -> None:
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    from monai.apps.detection.networks.retinanet_network import (
        RetinaNet,
        resnet_fpn_feature_extractor,
    )
    from monai.networks.nets.resnet import ResNet, ResNetBottleneck, get_inplanes

    backbone = ResNet(
        ResNetBottleneck, [3, 4, 6, 3], get_inplanes(), n_input_channels=1, conv1_t_size=7,
        conv1_t_stride=(2, 2, 1))
    theirs = RetinaNet(
        3, 1, 3, resnet_fpn_feature_extractor(backbone, 3, False, [1, 2]), (16, 16, 8)).eval()
    ours = build("RetinaNet", {"backbone": "resnet50", "scales": [1, 2, 4]}).eval()
    load_weights(ours, theirs.state_dict())
    image = torch.randn(1, 1, 32, 32, 16)
    with torch.inference_mode():
        expected, found = theirs(image), ours.network(image)
    for key, maps in expected.items():
        assert all(torch.equal(one, two) for one, two in zip(maps, found[key], strict=True))


@pytest.mark.long
def test_it_learns_where_a_thing_is_and_answers_boxes() -> None:
    torch.manual_seed(0)
    network = Detector(**SMALL, anchors=[[8, 8, 6]])
    image = torch.zeros(1, 1, 16, 16, 16)
    image[:, :, 4:12, 4:12, 4:10] = 1.0
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    targets = [{"boxes": BOX, "labels": torch.tensor([0])}]
    for _ in range(40):
        optimiser.zero_grad()
        sum(network(image, targets).values()).backward()
        optimiser.step()
    with torch.inference_mode():
        found = network.eval()(image)[0]
    assert found["boxes"].shape[1] == 6
    assert float(found["labels_scores"].max()) > 0.5
    assert (found["boxes"][found["labels_scores"].argmax()] - BOX[0]).abs().max() < 2.0


def test_a_scale_for_each_level_is_expected() -> None:
    with pytest.raises(ValueError, match="3 scales for 2 levels"):
        Detector(scales=(1, 2, 4))


@pytest.mark.long
def test_it_learns_where_there_is_no_torchvision() -> None:
    program = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import torch\nfrom ai_models.networks.retina import Detector\n"
        f"network = Detector(**{SMALL!r})\n"
        "box = torch.tensor([[4.0, 4, 4, 12, 12, 10]])\n"
        "targets = [{'boxes': box, 'labels': torch.tensor([0])}]\n"
        "sum(network(torch.rand(1, 1, 16, 16, 16), targets).values()).backward()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
