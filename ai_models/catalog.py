"""Which models there are: the built-in zoo and the model directories of the configuration.

A model is a folder with a ``model.yaml``. A directory may itself be such a folder, or hold some.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ai_models.card import CARD_NAME, Card, load_card
from ai_models.types import CardError, ModelError

ZOO = Path(__file__).resolve().parent / "zoo"


class Catalog:
    """All cards, read and checked at once, so that a bad card is found at start.

    Raises
    ------
    CardError
        A card is wrong, or two cards carry one id.
    ModelError
        ``model.directory_missing``: a configured directory is not there.
    """

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        self._cards: dict[str, Card] = {}
        for directory in (ZOO, *directories):
            for folder in _model_folders(Path(directory)):
                self._add(load_card(folder))

    def _add(self, card: Card) -> None:
        earlier = self._cards.get(card.id)
        if earlier is None:
            self._cards[card.id] = card
        elif earlier.folder.resolve() != card.folder.resolve():
            raise CardError(
                f"{card.id!r} is already the id of {earlier.folder / CARD_NAME}",
                key_path="id", file=str(card.folder / CARD_NAME),
            )

    def cards(self) -> list[Card]:
        """Every card, by id."""
        return [self._cards[model_id] for model_id in sorted(self._cards)]

    def get(self, model_id: str) -> Card:
        """The card of one model; ModelError ``model.unknown`` names those there are."""
        card = self._cards.get(model_id)
        if card is None:
            known = ", ".join(sorted(self._cards)) or "none"
            raise ModelError(
                f"no model {model_id!r}; there are: {known}", reason="model.unknown"
            )
        return card


def _model_folders(directory: Path) -> list[Path]:
    if (directory / CARD_NAME).is_file():
        return [directory]
    if not directory.is_dir():
        raise ModelError(
            f"the model directory {directory} does not exist", reason="model.directory_missing"
        )
    return sorted(path.parent for path in directory.glob(f"*/{CARD_NAME}"))
