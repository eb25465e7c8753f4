"""Pieces of CT slices: patients stay in one part, and a mask moves with its picture."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ai_models.training.recipes.lung_tumour_patch import (
    KEPT,
    PARTS,
    PATIENTS,
    PIECES,
    Pieces,
    bright_middle,
    by_onnx,
    example_of,
    figures_of,
    loss_of,
    network,
    read_pieces,
)
from ai_models.training.settings import TrainingError


def pieces() -> Pieces:
    count = PATIENTS * PIECES
    masks = np.zeros((count, 48, 48), dtype=bool)
    for i in range(0, count, 2):
        masks[i, 20:28, 18:30] = True
    images = masks.astype(np.float32) * 0.8
    return Pieces(images, masks, tuple(i // PIECES for i in range(count)))


def test_no_patient_is_in_two_parts() -> None:
    found = {part: set(pieces().of(part).patients) for part in PARTS}
    assert sorted(one for some in found.values() for one in some) == list(range(PATIENTS))


def test_a_mask_moves_with_its_picture() -> None:
    for number in range(20):
        one = example_of(pieces(), number)
        inside = one["mask"] > 0
        if inside.any():
            assert one["image"][inside].mean() > one["image"][~inside].mean() + 0.3


def test_figures_tell_pieces_without_a_tumour_apart() -> None:
    told = figures_of(pieces().masks, pieces())
    assert told["with_tumour"] == 65 and told["dice"]["value"] == 1.0
    assert told["empty_left_empty"]["value"] == 1.0
    nothing = figures_of(np.zeros_like(pieces().masks), pieces())
    assert nothing["dice"]["value"] == nothing["share_of_tumour_found"]["value"] == 0.0


def test_the_loss_falls_where_the_network_is_right() -> None:
    batch = {"image": torch.zeros(1, 1, 4, 4), "mask": torch.ones(1, 1, 4, 4)}
    right = loss_of(lambda _: torch.full((1, 1, 4, 4), 5.0), dict(batch))  # type: ignore[arg-type]
    wrong = loss_of(lambda _: torch.full((1, 1, 4, 4), -5.0), dict(batch))  # type: ignore[arg-type]
    assert right < 0.1 < wrong
    assert network()(torch.zeros(2, 1, 48, 48)).shape == (2, 1, 48, 48)


def test_what_lies_in_the_middle_is_found_without_learning() -> None:
    found = pieces()
    shown = Pieces(np.ones_like(found.images), found.masks, found.patients)
    assert bright_middle(shown)[0, 24, 24] and not bright_middle(shown)[0, 4, 24]
    assert not bright_middle(found)[1].any()


def test_weights_that_are_not_those_of_the_record_are_refused() -> None:
    with pytest.raises(TrainingError, match="is not the file"):
        by_onnx(KEPT / "weights.onnx", "0" * 64)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.h5"
    with h5py.File(path, "w") as content:
        content["images"] = content["labels"] = np.zeros((4, 1, 48, 48))
    with pytest.raises(TrainingError, match="expected"):
        read_pieces(path)
    with pytest.raises(TrainingError, match="no file of pieces"):
        read_pieces(tmp_path / "none.h5")
