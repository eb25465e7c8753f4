"""What part of a radiograph a model looks at, as another model outlines it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ai_models.card_base import Byte, Digest, Entry, Fraction, Text

if TYPE_CHECKING:
    from ai_models.card import Card


class Crop(Entry):
    """Looked at is the upright rectangle about parts that a segmentation model outlines first.

    Where it outlines less than is asked for, the whole image is looked at, and the report says so:
    a rectangle about one lung would hide the other.
    """

    model: Text
    """Folder beside this card with the card of a segmentation model of images."""
    sha256: Digest
    """Of that card, ``model.yaml``, as ``sha256sum`` prints it; it names its weights itself."""
    labels: Annotated[list[Byte], Field(min_length=1, max_length=16)]
    """Values of its labels: the rectangle has all of them."""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Added on every side, as a part of that edge of the rectangle."""
    least: Fraction = 0.01
    """Each of the labels takes so much of the image, or the whole image is looked at."""


def crop_problems(card: Card, folder: Path) -> Iterator[tuple[str, str]]:
    """Key path and sentence of what in ``input.crop`` cannot go together with the card in
    ``folder``."""
    entry = card.input.crop
    if entry is None:
        return
    if card.input.kind != "image":
        yield "input.crop", "of images: a volume is cropped by input.foreground"
    if card.input.foreground is not None:
        yield "input.crop", "input.foreground is there as well: one of the two expected"
    if card.task not in ("classification", "regression"):
        yield "input.crop", f"of a classification or regression, the task is {card.task}"
    there = folder / entry.model
    if Path(entry.model).is_absolute() or folder.resolve() not in there.resolve().parents:
        yield "input.crop.model", "a folder in the folder of the card expected"
