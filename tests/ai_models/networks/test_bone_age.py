"""A number of a radiograph and the patient's sex."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.backends.architectures import build
from ai_models.networks.bone_age import BoneAge
from tests.ai_models.networks.exported import by_onnx_runtime

pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({"backbone": "inception_v3", "aux_logits": True}, 157_315_521),
        ({"backbone": "efficientnet_b3"}, 165_427_489),
    ],
)
def test_it_has_the_parameters_of_the_published_network(
    arguments: dict[str, object], count: int
) -> None:
    with torch.device("meta"):
        network = build("BoneAge", arguments)
    assert sum(one.numel() for one in network.parameters()) == count


def small(**changes: object) -> BoneAge:
    torch.manual_seed(0)
    return BoneAge(**{"backbone": "mobilenet_v3_small", "edge": 64, **changes}).eval()  # type: ignore[arg-type]


def radiograph(sex: float, known: float = 1.0) -> torch.Tensor:
    torch.manual_seed(1)
    image = torch.rand(1, 5, 64, 64)
    image[:, 3], image[:, 4] = sex, known
    return image


@torch.inference_mode()
def test_the_sex_changes_the_number() -> None:
    network = small()
    girl, boy = network(radiograph(-1.0)), network(radiograph(1.0))
    assert girl.shape == (1, 1)
    assert abs(float(girl - boy)) > 1e-5


@torch.inference_mode()
def test_a_sex_that_is_not_known_lies_between_and_has_no_value() -> None:
    network = small()
    unknown = network(radiograph(1.0, known=0.0))
    assert torch.equal(unknown, network(radiograph(-1.0, known=0.0)))
    assert torch.equal(unknown, network(radiograph(0.0)))


@torch.inference_mode()
def test_the_error_of_the_published_loader_can_be_asked_for() -> None:
    network, legacy = small(), small(sex_is_zero=True)
    legacy.load_state_dict(network.state_dict())
    assert torch.equal(legacy(radiograph(-1.0)), legacy(radiograph(1.0)))
    assert torch.equal(legacy(radiograph(1.0)), network(radiograph(0.0)))


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="does not take images of 8 x 8"):
        BoneAge("inception_v3", edge=8)


@pytest.mark.long
def test_exported_it_answers_the_same(tmp_path: Path) -> None:
    network, image = small(), radiograph(1.0)
    with torch.inference_mode():
        expected = network(image).numpy()
    assert np.abs(by_onnx_runtime(network, image, tmp_path) - expected).max() < 1e-4
