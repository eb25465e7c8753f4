"""What a candidate, and a reference of features, are made with: inputs whose truth is not asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ai_models.adapt.inputs import inputs_alone
from ai_models.card import load_card
from ai_models.card_entries import InputEntry
from ai_models.catalog import ZOO
from ai_models.training.cases import Series
from ai_models.types import ModelError, ModelInput


class Reader:
    """Series as they would be found."""

    def __init__(self, *series: Series) -> None:
        self._series = series

    def series(self, folder: Path) -> list[Series]:
        return list(self._series)

    def load(self, images: Mapping[str, Sequence[Path]], entry: InputEntry) -> ModelInput:
        raise AssertionError("nothing is loaded yet")


def series(uid: str, modality: str, study: str, frame: str = "1") -> Series:
    return Series(uid, modality, (Path(uid),), "somebody", study, frame)


def test_a_series_comes_with_its_companions_of_the_same_place(tmp_path: Path) -> None:
    card = load_card(ZOO / "fdg-pet-ct")
    found = inputs_alone(tmp_path, card, Reader(
        series("ct-a", "CT", "a"), series("pt-b", "PT", "b"), series("pt-a", "PT", "a"),
        series("ct-b", "CT", "b", "2"),
    ))
    assert [dict(one.images) for one in found] == [
        {"": (Path("ct-a"),), "pt": (Path("pt-a"),)},
        {"": (Path("ct-b"),)},
    ]


def test_where_nothing_is_that_the_model_takes_it_says_so(tmp_path: Path) -> None:
    card = load_card(ZOO / "fdg-pet-ct")
    with pytest.raises(ModelError, match="holds no input of fdg-pet-ct"):
        inputs_alone(tmp_path, card, Reader(series("pt-a", "PT", "a")))
