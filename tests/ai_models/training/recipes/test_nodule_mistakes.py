"""What a network makes up is found again, and is shown to it oftener."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ai_models.training.recipes.nodule_crops import (
    IGNORED,
    Background,
    NoduleCrops,
    scaled,
    seen_coarsely,
)
from ai_models.training.recipes.nodule_mistakes import mistakes_in, with_mistakes, with_mistakes_of
from ai_models.training.recipes.nodules_ct import loss_of_mistakes
from tests.ai_models.training.recipes.test_nodule_crops import background

WINDOW = (32, 32, 32)
VESSEL = np.array([20, 25, 30])


class MarksWhatIsBrighterThanTissue(nn.Module):
    """Of -100 HU and more, in lungs; as logits."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        above = 40.0 * (image - float(scaled(np.array([200.0]))[0]))
        return torch.cat([torch.zeros_like(above), above], dim=1)


def vessel(is_real: bool = False) -> Background:
    chest = background(is_real)
    hu = chest.hu.copy()
    hu[hu > -500] = 0
    z, y, x = VESSEL
    hu[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = 1500
    return replace(chest, hu=hu)


def test_what_is_made_up_is_found_at_its_place() -> None:
    found = mistakes_in(
        MarksWhatIsBrighterThanTissue(), vessel(), WINDOW, np.random.default_rng(0)
    )
    assert len(found) == 1
    assert np.abs(found[0] - VESSEL).max() <= 1


def test_what_may_be_a_nodule_already_is_no_mistake() -> None:
    found = mistakes_in(
        MarksWhatIsBrighterThanTissue(), vessel(True), WINDOW, np.random.default_rng(0)
    )
    assert len(found) == 0


def test_mistakes_are_kept_and_added_to_what_is_known(tmp_path: Path) -> None:
    network, kept = MarksWhatIsBrighterThanTissue(), tmp_path / "mistakes.npz"
    once = with_mistakes(network, [vessel()], WINDOW, 1, kept)
    again = with_mistakes_of(kept, once)
    assert len(once[0].mistakes) == 1
    np.testing.assert_array_equal(again[0].mistakes, np.repeat(once[0].mistakes, 2, axis=0))


def test_crops_show_the_mistakes_as_often_as_asked() -> None:
    chest = replace(vessel(), mistakes=VESSEL[None])
    crops = NoduleCrops([chest], [], (16, 16, 16), 3, empty_share=1.0, mistake_share=1.0)
    bright = float(scaled(np.array([300.0]))[0])
    assert all(float(crops(number)["image"].max()) > bright for number in range(10))
    rarely = replace(crops, mistake_share=0.0)
    assert not all(float(rarely(number)["image"].max()) > bright for number in range(10))


def test_coarse_images_keep_their_place_and_lose_what_lies_between() -> None:
    slices = np.arange(40, dtype=np.float32)[:, None, None]
    sloping = np.broadcast_to(slices, (40, 24, 24)).astype(np.float32)
    rng = np.random.default_rng(5)
    grain = rng.normal(0.0, 50.0, sloping.shape).astype(np.float32)
    for _ in range(6):
        # Behind the last coarse slice its value goes on.
        np.testing.assert_allclose(seen_coarsely(sloping, rng)[3:-3], sloping[3:-3], atol=2.0)
        coarse = seen_coarsely(grain, rng)
        assert coarse.shape == grain.shape
        assert np.abs(np.diff(coarse, 2, axis=0)).mean() < np.abs(np.diff(grain, 2, axis=0)).mean()


def test_a_mistake_weighs_as_much_in_a_large_crop_as_in_a_small_one() -> None:
    class Answers(nn.Module):
        def __init__(self, logits: torch.Tensor) -> None:
            super().__init__()
            self.logits = logits

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.logits

    def loss(edge: int, sure: float) -> float:
        logits = torch.zeros(1, 2, edge, edge, edge)
        logits[:, 0] = 20.0
        logits[:, 1, :3, :3, :3] = sure
        target = torch.zeros(1, 1, edge, edge, edge, dtype=torch.int64)
        target[..., -1] = IGNORED
        batch = {"image": torch.zeros_like(target, dtype=torch.float32), "target": target}
        return float(loss_of_mistakes(Answers(logits), batch))

    assert loss(12, 0.0) == pytest.approx(0.0, abs=1e-3)
    # 27 voxels of 1728 and of 32768: less than one in fifty, so all of them count.
    assert loss(12, 30.0) > 5.0
    assert loss(32, 30.0) > 0.3
