"""Examples of the nodule models: the same number the same crop, and truth where the nodule is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ai_models.training.recipes.nodule_crops import IGNORED, Background, NoduleCrops, scaled
from ai_models.training.recipes.nodules_ct import loss_of
from ai_models.training.recipes.nodules_detect_ct import BoxedCrops, boxes_of, collated

SHAPE = (40, 50, 60)


def background(is_real: bool = False) -> Background:
    lungs = np.zeros(SHAPE, dtype=bool)
    lungs[2:-2, 6:-6, 6:-6] = True
    noise = np.random.default_rng(0).normal(0.0, 10.0, SHAPE)
    hu = np.rint(np.where(lungs, -860.0, 40.0) + noise).astype(np.int16)
    unsure = np.zeros(SHAPE, dtype=bool)
    if is_real:
        # Something round that nobody outlined.
        hu[18:24, 22:28, 26:32] = 30
        unsure[15:27, 19:31, 23:35] = True
    return Background(hu, lungs, unsure, is_real)


def crops(**more: object) -> NoduleCrops:
    return NoduleCrops([background()], [background(True)], (32, 32, 32), 1, **more)  # type: ignore[arg-type]


def test_the_same_number_is_the_same_example_and_the_next_another() -> None:
    first, again, other = crops()(4), crops()(4), crops()(5)
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["target"], again["target"])
    assert not torch.equal(first["image"], other["image"])


def test_nodules_of_the_truth_are_brighter_than_the_lung_around() -> None:
    examples = [crops(real_share=0.0, empty_share=0.0)(number) for number in range(12)]
    inside = torch.cat([one["image"][one["target"] > 0] for one in examples])
    lung = scaled(np.array([-860.0]))[0]
    assert len(inside) > 500
    assert inside.mean() > lung + 0.2
    assert all(one["target"].min() >= 0 for one in examples)


def test_what_may_be_a_nodule_already_counts_as_neither() -> None:
    examples = [crops(real_share=1.0)(number) for number in range(8)]
    assert any((one["target"] == IGNORED).any() for one in examples)
    erased = [crops(real_share=1.0, erase_unsure=True, empty_share=1.0)(n) for n in range(8)]
    for one in erased:
        assert (one["target"] == 0).all()


def test_the_loss_is_the_same_whatever_is_answered_where_nobody_knows() -> None:
    class Answers(nn.Module):
        def __init__(self, logits: torch.Tensor) -> None:
            super().__init__()
            self.logits = logits

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.logits

    target = torch.zeros(1, 1, 4, 4, 4, dtype=torch.int64)
    target[..., :2], target[..., 3] = 1, IGNORED
    batch = {"image": torch.zeros(1, 1, 4, 4, 4), "target": target}
    logits = torch.randn(1, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[..., 3] = 9.0
    assert loss_of(Answers(logits), batch) == pytest.approx(float(loss_of(Answers(other), batch)))
    right = torch.stack([target[:, 0] <= 0, target[:, 0] > 0], dim=1).float() * 20.0
    assert float(loss_of(Answers(right), batch)) < 1e-3


def test_a_box_holds_its_nodule_exactly() -> None:
    numbers = np.zeros(SHAPE, dtype=np.int64)
    numbers[3:7, 10:15, 20:22] = 1
    numbers[30:33, 40:43, 50:53] = 2
    numbers[0, 0, 0] = 3
    numbers[20, 20, 20] = IGNORED
    np.testing.assert_array_equal(
        boxes_of(numbers), [[3, 10, 20, 7, 15, 22], [30, 40, 50, 33, 43, 53]]
    )


def test_a_crop_without_nodules_has_no_boxes() -> None:
    boxed = BoxedCrops(crops(empty_share=1.0))
    batch = collated([boxed(0), boxed(1)])
    assert batch["image"].shape == (2, 1, 32, 32, 32)
    assert [one["boxes"].shape for one in batch["targets"]] == [(0, 6), (0, 6)]
