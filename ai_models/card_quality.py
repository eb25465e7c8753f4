"""What is looked at before a model is run: what does not pass is not analysed, and is told so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ai_models.card_base import Count, Digest, Entry, Finite, Fraction, Positive, Text

if TYPE_CHECKING:
    from ai_models.card import Card

Range = tuple[Finite, Finite]
Ratio = Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)]
Age = Annotated[float, Field(ge=0, le=150, allow_inf_nan=False)]
_TOWARDS = {"L": 0, "R": 0, "P": 1, "A": 1, "H": 2, "F": 2}
_OF_A_VOLUME = ("min_extent_mm", "contrast_agent", "echo_time_ms")
_OF_AN_IMAGE = ("orientation", "sides", "side_required", "min_contrast", "max_clipped", "min_field")


class Likeness(Entry):
    """How unlike the pictures that the model learned from a picture may be.

    Of the prepared picture, or of each slice, the edges are compared with those of the pictures
    learned from, in a space that those span: the distance of a usual one is 1. Of the slices of a
    volume the median counts.
    """

    reference: Text
    """A file ``.npy`` beside the card: mean, deviations and directions of that space, no picture.
    The recipe of a model writes it: docs/quality-gate.md."""
    sha256: Digest
    """Of ``reference``, as ``sha256sum`` prints it."""
    limit: Positive
    """A picture that is farther is refused, ``input.unlike``."""
    inverted: Ratio | None = None
    """A picture that is so many times as near once black and white change places is refused,
    ``input.inverted``; without it that is not looked at."""
    turned: Ratio | None = None
    """The same of a picture turned by 90, 180 or 270 degrees, or upside down: ``input.turned``."""
    mirrored: Ratio | None = None
    """The same of left and right: ``input.mirrored``. Without it that is not looked at."""
    brightness: Range | None = None
    """From which to which mean of the prepared picture; another one is refused, ``input.exposure``.
    Where edges run tells nothing of it, and answers hang on it."""
    contrast: Range | None = None
    """The same of its deviation."""
    sharpness: Range | None = None
    """The same of how fine its grain is for its contrast: low where it is blurred or enlarged, high
    of noise. Another one is refused, ``input.sharpness``."""


class Quality(Entry):
    """What is looked at before the model is run; what does not pass is answered "not analysed"."""

    body_part: Literal["compared", "required"] = "compared"
    """Whether a series is refused, ``input.body_part``, only where Body Part Examined (0018,0015)
    or Anatomic Region (0008,2218) name another part than ``input.body_part``, or also where they
    name none that is known."""
    orientation: tuple[Literal["L", "R", "A", "P", "H", "F"], Literal["L", "R", "A", "P", "H", "F"]
                       ] | None = None
    """Patient Orientation (0020,0020): towards what rows and columns run. A picture whose header
    says otherwise is refused, ``input.orientation``; one whose header says nothing is taken."""
    sides: list[Literal["L", "R", "B"]] = []
    """Image Laterality (0020,0062), else Laterality (0020,0060), one of these; any when empty.
    Another one is refused, ``input.laterality``."""
    side_required: bool = False
    """Whether a picture that does not say its side is refused, too."""
    age_years: tuple[Age, Age] | None = None
    """From and below which age the patient may be, Patient's Age (0010,1010), else from the dates
    of birth and study. Another one is refused, ``input.age``; who is of unknown age is taken."""
    min_edge_pixels: Count = 1
    """A picture, or slices, of fewer rows or columns is refused, ``input.too_few_pixels``."""
    min_grey_levels: Count = 16
    """One of fewer different values is refused, ``input.too_few_grey_levels``."""
    min_contrast: Fraction = 0.02
    """Between the 5th and 95th percentile of the exposed field, 0 to 1 as displayed; a picture of
    less is refused, ``input.blank``. A volume of one value is, too."""
    max_clipped: Fraction = 0.8
    """Share of the exposed field that is fully black or fully white; a picture of more is refused,
    ``input.clipped``."""
    min_field: Fraction = 0.1
    """Share of the picture within its uniform borders (collimators); a picture of less is refused,
    ``input.collimated``."""
    min_extent_mm: Positive | None = None
    """How far a volume must reach along its slices, counting those that show anything: what lies
    beyond was not seen. A shorter one is refused, ``input.too_short``."""
    contrast_agent: Literal["compared", "required"] = "compared"
    """Whether a volume is refused, ``input.no_contrast_agent``, whose Contrast/Bolus Agent
    (0018,0010; 0018,0012) is missing or says that there was none."""
    echo_time_ms: tuple[Positive, Positive] | None = None
    """From which to which Echo Time (0018,0081; 0018,9082) any image of an MR may have; another
    one is refused, ``input.echo_time``. One that is not stated is taken."""
    likeness: Likeness | None = None
    """How like what the model learned from it must be; without it that is not looked at."""


def quality_problems(card: Card, folder: Path) -> Iterator[tuple[str, str]]:
    """Key path and sentence of what in ``input.quality`` cannot go together."""
    quality, entry = card.input.quality, card.input
    if quality is None:
        return
    here = "input.quality"
    yield from _headers(card, quality)
    likeness = quality.likeness
    if likeness is None:
        return
    if entry.size is None:
        yield f"{here}.likeness", "of a network that takes the whole input: input.size expected"
    elif entry.kind == "volume" and entry.ndim == 3 and (
        getattr(card.output, "per", "image") != "sequence"
    ):
        yield f"{here}.likeness", "of pictures and slices: input.ndim 2 expected"
    yield from _reversed(f"{here}.likeness", likeness, ("brightness", "contrast", "sharpness"))
    there = folder / likeness.reference
    if Path(likeness.reference).is_absolute() or not there.resolve().is_relative_to(
        folder.resolve()
    ):
        yield f"{here}.likeness.reference", "must lie in the folder of the card"
    elif there.suffix != ".npy":
        yield f"{here}.likeness.reference", "a file that ends in .npy expected"


def _headers(card: Card, quality: Quality) -> Iterator[tuple[str, str]]:
    entry, here = card.input, "input.quality"
    elsewhere = _OF_AN_IMAGE if entry.kind == "volume" else _OF_A_VOLUME
    only = "single images" if entry.kind == "volume" else "volumes"
    for key in elsewhere:
        if quality.gives(key):
            yield f"{here}.{key}", f"of {only} only: input.kind is {entry.kind}"
    if quality.body_part == "required" and not entry.body_part:
        yield f"{here}.body_part", "input.body_part names no part that could be required"
    if quality.side_required and not quality.sides:
        yield f"{here}.side_required", "input.quality.sides says which sides there may be"
    for position, side in enumerate(quality.sides):
        if side in quality.sides[:position]:
            yield f"{here}.sides[{position}]", f"{side} is there already"
    yield from _reversed(here, quality, ("age_years", "echo_time_ms"))
    if quality.orientation is not None:
        rows, columns = quality.orientation
        if _TOWARDS[rows] == _TOWARDS[columns]:
            yield f"{here}.orientation", "rows and columns run along one line"


def _reversed(here: str, entry: Entry, keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key in keys:
        found = getattr(entry, key)
        if found is not None and found[0] >= found[1]:
            yield f"{here}.{key}", "the first is not below the second"
