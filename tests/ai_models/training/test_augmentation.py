from __future__ import annotations

import numpy as np
import pytest
import torch

from ai_models.training.augmentation import NONE, Augmentation, Augmenter
from ai_models.training.metrics import dice

EDGE = 48


def a_picture() -> tuple[torch.Tensor, torch.Tensor]:
    """An ellipsoid that fills a third of each edge, as a picture and as its label."""
    grid = np.indices((EDGE,) * 3) - EDGE / 2
    mask = ((grid / np.array([14.0, 11.0, 8.0]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) <= 1
    return torch.from_numpy(mask.astype(np.float32))[None], torch.from_numpy(mask.astype(np.uint8))


def changed(
    wanted: Augmentation, seed: int = 0, pictures: int = 1, image: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    picture, label = a_picture()
    given = picture if image is None else image
    found, target = Augmenter(wanted, 3, pictures)(given, label, np.random.default_rng(seed))
    assert target is not None
    return found, target


def elastic(low: float, high: float) -> Augmentation:
    return NONE.model_copy(update={"elastic_probability": 1.0, "elastic_magnitude": (low, high)})


def test_the_same_random_numbers_give_the_same_example_and_others_another() -> None:
    wanted = Augmentation(elastic_probability=1, gamma_probability=1, noise_probability=1)
    first, again, other = (changed(wanted, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_magnitude_of_a_hundred_bends_what_ten_leaves_as_it_is() -> None:
    _, label = a_picture()

    def likeness(low: float, high: float) -> float:
        return float(np.mean([
            dice(changed(elastic(low, high), seed)[1].numpy() > 0, label.numpy() > 0)
            for seed in range(3)
        ]))

    small, usual, large = likeness(10, 20), likeness(100, 200), likeness(500, 1000)
    assert small > 0.97
    assert 0.7 < usual < 0.97
    assert large < usual - 0.1


def test_a_label_moves_with_its_picture_and_stays_a_label() -> None:
    wanted = elastic(100, 200).model_copy(update={"affine_probability": 1.0, "flip": (0, 1, 2)})
    for seed in range(3):
        picture, label = changed(wanted, seed)
        assert set(label.unique().tolist()) == {0, 1}
        assert label.dtype == torch.uint8
        # Turned and then bent, each time to the nearest voxel.
        assert dice(picture[0].numpy() > 0.5, label.numpy() > 0) > 0.94
        assert type(picture) is type(label) is torch.Tensor


def test_the_exponent_keeps_the_lowest_and_the_highest_value() -> None:
    image = torch.linspace(-2.0, 3.0, EDGE**3).reshape(1, EDGE, EDGE, EDGE)
    wanted = NONE.model_copy(update={"gamma_probability": 1.0})
    found, _ = changed(wanted, image=image)
    assert not torch.allclose(found, image, atol=0.02)
    assert found.min() == pytest.approx(-2.0, abs=1e-4)
    assert found.max() == pytest.approx(3.0, abs=1e-4)
    assert (found.flatten().diff() >= -1e-6).all()


def test_channels_that_say_what_is_known_of_the_patient_stay_as_they_are() -> None:
    picture, _ = a_picture()
    known = torch.cat([torch.full_like(picture, 0.7), torch.ones_like(picture)])
    wanted = Augmentation(elastic_probability=1, gamma_probability=1, noise_probability=1,
                          shift_probability=1, affine_probability=1, smooth_probability=1)
    found, _ = changed(wanted, pictures=1, image=torch.cat([picture, known]))
    assert torch.equal(found[1:], known)
    assert not torch.equal(found[:1], picture)


def test_a_flat_picture_is_bent_as_well() -> None:
    picture, label = a_picture()
    flat, target = Augmenter(elastic(100, 200), 2, 1)(
        picture[:, EDGE // 2], label[EDGE // 2], np.random.default_rng(0))
    assert target is not None
    assert flat.shape == (1, EDGE, EDGE)
    before = label[EDGE // 2].numpy() > 0
    assert 0.5 < dice(target.numpy() > 0, before) < 0.995


def test_nothing_is_changed_where_nothing_is_wanted() -> None:
    picture, label = a_picture()
    found, target = changed(NONE)
    assert torch.equal(found, picture)
    assert torch.equal(target, label)
