"""The catalogue finds every card once, and says which models there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.backends.protocol import read_verified_weights
from ai_models.card import load_card
from ai_models.catalog import ZOO, Catalog
from ai_models.types import CardError, ModelError
from tests.ai_models.tiny_models import write_model


def test_built_in_models_are_always_there() -> None:
    assert "lungs-ct" in [card.id for card in Catalog().cards()]


def test_built_in_lungs_say_that_they_are_a_demonstration() -> None:
    card = Catalog().get("lungs-ct")
    assert card.demonstration
    assert card.intended_use.startswith("DEMONSTRATION, NOT FOR CLINICAL USE.")
    assert [label.laterality.value for label in card.labels if label.laterality] == [
        "24028007", "7771000"]


def test_built_in_weights_are_the_ones_their_cards_vouch_for() -> None:
    for path in sorted(ZOO.glob("*/model.yaml")):
        assert read_verified_weights(load_card(path.parent))


def test_models_of_a_directory_are_found(tmp_path: Path) -> None:
    write_model(tmp_path / "one", b"weights", id="one")
    write_model(tmp_path / "two", b"weights", id="two")
    found = [card.id for card in Catalog([tmp_path]).cards()]
    assert found == sorted(["lungs-ct", "one", "two"])


def test_a_model_folder_itself_may_be_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one", b"weights", id="one")
    assert Catalog([folder]).get("one").folder == folder


def test_the_same_folder_twice_is_one_model(tmp_path: Path) -> None:
    write_model(tmp_path / "one", b"weights", id="one")
    assert len(Catalog([tmp_path, tmp_path, ZOO]).cards()) == len(Catalog([tmp_path]).cards())


def test_two_folders_with_one_id_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "a", b"weights", id="one")
    write_model(tmp_path / "b", b"weights", id="one")
    with pytest.raises(CardError, match="already the id of"):
        Catalog([tmp_path])


def test_unknown_model_names_those_there_are() -> None:
    with pytest.raises(ModelError, match="there are: lungs-ct") as caught:
        Catalog().get("livers-mr")
    assert caught.value.reason == "model.unknown"


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist") as caught:
        Catalog([tmp_path / "nowhere"])
    assert caught.value.reason == "model.directory_missing"
