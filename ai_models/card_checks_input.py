"""What in ``input`` of a card cannot go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ai_models.card_checks_intensity import (
    bounds_problems,
    modality_problems,
    unit_problems,
)
from ai_models.card_checks_joint import joint_problems
from ai_models.card_input import InputEntry, MeanAndDeviation

if TYPE_CHECKING:
    from ai_models.card import Card

Problems = Iterator[tuple[str, str]]

_AXIS_OF = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}
_OF_A_VOLUME = (
    "axes", "min_slices", "max_slices", "max_slice_gap_mm", "max_slice_thickness_mm",
    "max_tilt_deg",
)


def input_problems(card: Card) -> Problems:
    """Key path and sentence of each."""
    yield from _kind(card.input)
    yield from _grid(card)
    yield from _intensities(card)
    yield from _channels(card)
    yield from _normalisation(card.input)
    yield from _search(card)
    yield from joint_problems(card)


def channel_count(entry: InputEntry) -> int:
    """How many channels of images the network gets; of a series in phases the fewest."""
    return entry.channel_counts[0] - entry.constant_channels


def axis_count(entry: InputEntry) -> int:
    """How many spatial axes the network gets."""
    return 2 if entry.kind == "image" else entry.ndim


def _kind(entry: InputEntry) -> Problems:
    yield from modality_problems("input.modality", entry.modality, entry.kind)
    if entry.kind == "volume":
        if entry.views:
            yield "input.views", "only images have a View Position: input.kind is volume"
        return
    if entry.ndim != 2:
        yield "input.ndim", "an image has two axes: 2 expected"
    if entry.foreground is not None and entry.foreground.min_volume_ml > 0:
        yield "input.foreground.min_volume_ml", "an image has no millilitres: 0 expected"
    for key in _OF_A_VOLUME:
        if entry.gives(key):
            yield f"input.{key}", "only a volume has slices and axes: input.kind is image"


def _search(card: Card) -> Problems:
    if card.input.search is None:
        return
    if card.input.kind == "image" or card.input.intensity.unit != "HU":
        yield "input.search", "lungs are found in a volume in HU only"
    if card.task not in ("segmentation", "detection"):
        yield "input.search", f"{card.task} finds nothing that has a place"


def _grid(card: Card) -> Problems:
    entry, count = card.input, axis_count(card.input)
    if len({_AXIS_OF[direction] for direction in entry.axes}) != 3:
        yield "input.axes", "one of L or R, one of P or A and one of S or I, in any order"
    if entry.max_slices is not None and entry.max_slices < entry.min_slices:
        yield "input.max_slices", f"fewer than input.min_slices, {entry.min_slices}"
    is_sequence = getattr(card.output, "per", "image") == "sequence"
    what = "an image" if entry.kind == "image" else f"a volume with input.ndim {entry.ndim}"
    for key_path, edges in (
        ("input.size.edges", entry.size.edges if entry.size else None),
        ("runtime.roi", card.runtime.roi),
    ):
        # Of a sequence all slices are taken, however many there are: rows and columns suffice.
        fewest = 2 if is_sequence and key_path == "input.size.edges" else count
        if edges is not None and not fewest <= len(edges) <= count:
            yield key_path, f"{count} edges expected of {what}, found {len(edges)}"


def _intensities(card: Card) -> Problems:
    entry = card.input
    yield from bounds_problems("input.intensity", entry.intensity)
    for position, channel in enumerate(entry.channels):
        here = f"input.channels[{position}].intensity"
        yield from bounds_problems(here, channel.intensity)
        if channel.intensity.unit != entry.intensity.unit:
            yield f"{here}.unit", f"as input.intensity.unit, {entry.intensity.unit} expected"
    unit = entry.intensity.unit
    if (unit == "displayed") != (entry.kind == "image"):
        wanted = "displayed" if entry.kind == "image" else "HU, SUVbw or arbitrary"
        yield "input.intensity.unit", f"{wanted} expected where input.kind is {entry.kind}"
    else:
        yield from unit_problems("input.intensity", unit, entry.modality)
    if card.runtime.backend == "nnunet" and _scales(entry):
        yield "input.intensity", (
            "nnU-Net scales intensities itself: only the unit expected here, and "
            "input.normalisation: none"
        )


def _scales(entry: InputEntry) -> bool:
    said = [entry.intensity, *(channel.intensity for channel in entry.channels)]
    return entry.normalisation != "none" or any(
        one.clip or one.clip_percentiles or one.scale_to for one in said
    )


def _channels(card: Card) -> Problems:
    entry = card.input
    names = [channel.name for channel in entry.channels]
    for position, name in enumerate(names):
        if name in names[:position]:
            yield f"input.channels[{position}].name", f"{name!r} is already a channel"
    if entry.channels and entry.repeat > 1:
        yield "input.repeat", "of one channel only: input.channels are written one by one"
    if entry.channels:
        # Pictures for a language model are shown as the input's own scale says.
        keys = ("clip", "clip_percentiles", *(() if card.task == "text" else ("scale_to",)))
        for key in keys:
            if getattr(entry.intensity, key) is not None:
                yield f"input.intensity.{key}", (
                    "each of input.channels has its own: only the unit expected here"
                )
    if card.task != "text" or card.runtime.backend == "command":
        return
    if channel_count(entry) not in (1, 3):
        yield "input.channels", f"a picture has 1 channel or 3, found {channel_count(entry)}"
    if entry.normalisation != "none":
        yield "input.normalisation", "a language model is shown pictures: none expected"
    for position, channel in enumerate(entry.channels):
        if channel.intensity.scale_to != entry.intensity.scale_to:
            yield f"input.channels[{position}].intensity.scale_to", (
                "the colours of one picture have one scale: that of input.intensity expected"
            )


def _normalisation(entry: InputEntry) -> Problems:
    kind, count = entry.normalisation, channel_count(entry)
    if kind == "imagenet" and count != 3:
        yield "input.normalisation", (
            f"imagenet is for 3 channels, found {count}: input.repeat: 3 makes them of one"
        )
    if not isinstance(kind, MeanAndDeviation):
        return
    if len(kind.mean) not in (1, count):
        yield "input.normalisation.mean", (
            f"one value or {count} expected (input.channels, input.repeat), found {len(kind.mean)}"
        )
    if len(kind.std) != len(kind.mean):
        yield "input.normalisation.std", (
            f"as many values as mean has expected, {len(kind.mean)}, found {len(kind.std)}"
        )
