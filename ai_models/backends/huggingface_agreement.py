"""Whether a Hugging Face folder and its card say the same. The card is what is done.

The node scales and sizes every input as the card says; the folder's own image processor is never
run. What the processor would have done is compared with the card instead, and a difference is
refused: the network would see other values than those it learned from. So are names of outputs
that stand in another order. Where a folder says nothing, there is nothing to compare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ai_models.card import Card, ClassificationCard, RegressionCard, SegmentationCard
from ai_models.card_entries import Intensity, MeanAndDeviation
from ai_models.types import ModelError

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_UNNAMED = re.compile(r"label_?\d+")
Ends = tuple[float, float]


def check_preprocessing(card: Card, processor: Mapping[str, Any]) -> None:
    """Compare sizes, and what the darkest and the brightest value of an input become.

    ``processor`` is ``preprocessor_config.json``; nothing is compared if it is empty.

    Raises
    ------
    ModelError
        ``model.preprocessing_differs``, with what both say.
    """
    if not processor:
        return
    theirs, ours = _size_of_processor(processor), _size_of_card(card)
    if theirs is not None and theirs != ours:
        said = "no size" if ours is None else f"{ours[0]} x {ours[1]}"
        raise ModelError(
            f"the folder's processor gives the network {theirs[0]} x {theirs[1]} pixels, the card "
            f"{said} (input.size)", reason=_DIFFERS,
        )
    expected, given = _ends_of_processor(processor), _ends_of_card(card)
    if given is None:
        raise ModelError(
            f"the folder's processor maps black and white to {_said(expected[0])}, the card to "
            "values that depend on the input: give input.intensity a clip or scale_to, and no "
            "zscore", reason=_DIFFERS,
        )
    if len(expected) == 1:
        expected = expected * len(given)
    if len(expected) != len(given):
        raise ModelError(
            f"the folder's processor normalises {len(expected)} channels, the card gives "
            f"{len(given)} (input.channels, input.repeat)", reason=_DIFFERS,
        )
    for channel, (their, our) in enumerate(zip(expected, given, strict=True)):
        tolerance = 2e-3 * max(1.0, abs(their[0]), abs(their[1]))
        if max(abs(their[0] - our[0]), abs(their[1] - our[1])) > tolerance:
            raise ModelError(
                f"the folder's processor maps black and white of channel {channel} to "
                f"{_said(their)}, the card to {_said(our)} (input.intensity, "
                "input.normalisation)", reason=_DIFFERS,
            )


def _said(ends: Ends) -> str:
    return f"{ends[0]:.4g} and {ends[1]:.4g}"


def _size_of_processor(processor: Mapping[str, Any]) -> tuple[int, int] | None:
    size = None
    if processor.get("do_center_crop"):
        size = processor.get("crop_size")
    elif processor.get("do_resize", "size" in processor):
        size = processor.get("size")
    if isinstance(size, int):
        return (size, size)
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        return (int(size["height"]), int(size["width"]))
    return None


def _size_of_card(card: Card) -> tuple[int, int] | None:
    edges = card.input.size.edges if card.input.size else card.runtime.roi
    return None if edges is None else (edges[-2], edges[-1])


def _ends_of_processor(processor: Mapping[str, Any]) -> list[Ends]:
    scale = float(processor.get("rescale_factor", 1 / 255))
    white = 255.0 * scale if processor.get("do_rescale", True) else 255.0
    if not processor.get("do_normalize", "image_mean" in processor):
        return [(0.0, white)]
    mean, deviation = processor.get("image_mean"), processor.get("image_std")
    means = mean if isinstance(mean, list) else [mean]
    deviations = deviation if isinstance(deviation, list) else [deviation]
    try:
        return [
            ((0.0 - float(m)) / float(s), (white - float(m)) / float(s))
            for m, s in zip(means, deviations, strict=True)
        ]
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(
            f"image_mean and image_std of the folder's processor are {mean} and {deviation}",
            reason=_DIFFERS,
        ) from error


def _ends_of_card(card: Card) -> list[Ends] | None:
    entry = card.input
    intensities = [channel.intensity for channel in entry.channels] or [entry.intensity]
    ends = [_ends_of_intensity(one) for one in intensities for _ in range(entry.repeat)]
    known = [one for one in ends if one is not None]
    normalisation = entry.normalisation
    if len(known) != len(ends) or normalisation in ("zscore", "zscore_nonzero"):
        return None
    if normalisation == "none":
        return known
    means: Sequence[float]
    deviations: Sequence[float]
    means, deviations = _IMAGENET
    if isinstance(normalisation, MeanAndDeviation):
        means, deviations = normalisation.mean, normalisation.std
    if len(known) == 1:
        known *= len(means)
    return [
        ((low - mean) / deviation, (high - mean) / deviation)
        for (low, high), mean, deviation in zip(known, means, deviations, strict=False)
    ]


def _ends_of_intensity(intensity: Intensity) -> Ends | None:
    displayed = (0.0, 1.0) if intensity.unit == "displayed" else None
    return intensity.scale_to or intensity.clip or displayed


def compare_names(card: Card, names: Mapping[str, Any]) -> tuple[str, ...]:
    """Compare the folder's ``id2label`` with what the card calls its channels.

    A folder that says nothing (``LABEL_0``) is believed. Where a name of the card belongs to
    another channel in the folder, or the other way round, one of them is wrong, and the findings
    of a patient would change places. A word that the other does not know is a synonym, perhaps:
    it is told.

    Returns
    -------
    tuple
        A sentence for each channel that has two names.

    Raises
    ------
    ModelError
        ``model.labels_differ``.
    """
    theirs = {int(channel): word(str(name)) for channel, name in names.items()}
    theirs = {channel: name for channel, name in theirs.items() if not _UNNAMED.fullmatch(name)}
    ours = _channels(card)
    notes = []
    for channel, name in ours.items():
        there = theirs.get(channel)
        if there is None or there == name:
            continue
        if there in ours.values() or name in theirs.values():
            raise ModelError(
                f"channel {channel} is {name!r} on the card and {there!r} in the folder, which has "
                "these names in another order", reason="model.labels_differ",
            )
        notes.append(f"channel {channel} is {name!r} on the card and {there!r} in the folder")
    return tuple(notes)


def word(name: str) -> str:
    """A name in lower case, words joined by underscores: ``Lung Opacity`` is ``lung_opacity``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _channels(card: Card) -> dict[int, str]:
    if isinstance(card, ClassificationCard):
        return {entry.channel: entry.name for entry in card.output.scores}
    if isinstance(card, RegressionCard):
        return {entry.channel: entry.name for entry in card.output.quantities}
    if isinstance(card, SegmentationCard):
        first = 1 if card.output.activation == "sigmoid" else 0
        return {label.value - first: word(label.name) for label in card.labels}
    return {}


_DIFFERS = "model.preprocessing_differs"
