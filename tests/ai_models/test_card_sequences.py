"""A network that goes along all slices says the edges of rows and columns, not how many slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_models.backends.signature import input_shape
from ai_models.card import load_card
from ai_models.catalog import ZOO
from ai_models.prediction.preparing import prepare
from ai_models.types import CardError, Volume

CARD = (ZOO / "embolism-ct" / "model.yaml").read_text()


def loaded(folder: Path, text: str) -> tuple[int | None, ...]:
    (folder / "model.yaml").write_text(text)
    return input_shape(load_card(folder))


def test_rows_and_columns_suffice_where_all_slices_are_taken(tmp_path: Path) -> None:
    assert loaded(tmp_path, CARD) == (1, None, 64, 96)
    three = CARD.replace("edges: [64, 96]", "edges: [80, 64, 96]")
    assert loaded(tmp_path, three) == (1, 80, 64, 96)


def test_a_network_that_answers_the_whole_says_all_three(tmp_path: Path) -> None:
    whole = CARD.replace("  per: sequence\n  aggregate: max\n", "")
    with pytest.raises(CardError, match="3 edges expected"):
        loaded(tmp_path, whole)


@pytest.mark.parametrize("slices", [40, 97])
def test_no_slice_is_left_out_however_many_there_are(slices: int) -> None:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 4.0, 2.0, 2.0, 1.0
    body = np.full((slices, 120, 150), 40, dtype=np.int16)
    prepared = prepare(Volume(body, affine), load_card(ZOO / "embolism-ct"))
    assert prepared.image.array.shape == (1, slices, 64, 96)
