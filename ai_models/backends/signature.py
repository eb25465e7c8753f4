"""Whether a network that says what it takes takes what the card gives, told before any patient."""

from __future__ import annotations

from collections.abc import Sequence

from ai_models.card import Card, DetectionCard, SegmentationCard
from ai_models.types import ModelError


def input_shape(card: Card) -> tuple[int | None, ...]:
    """``(channels, *spatial)`` of what a network gets; ``None``: as large as the input is."""
    entry = card.input
    axes = 2 if entry.kind == "image" else entry.ndim
    edges: Sequence[int] = ()
    if entry.size is not None:
        edges = entry.size.edges
    elif isinstance(card, SegmentationCard | DetectionCard):
        edges = card.runtime.roi or ()
    # Slice by slice, a window has the edges of the last two axes.
    least, most = entry.channel_counts
    channels = least if least == most else None
    known = tuple(edges)[-axes:]
    return (channels, *(None,) * (axes - len(known)), *known)


def check_input_shape(card: Card, declared: Sequence[object], *, batched: bool = True) -> bool:
    """Compare the shape that a network declares with what the card gives it.

    Parameters
    ----------
    declared
        Length of each axis; an axis of any length is ``None``, a name or negative.
    batched
        Whether the first axis must be that of the batch. Detectors may take one input alone.

    Returns
    -------
    bool
        Whether there is an axis of the batch.

    Raises
    ------
    ModelError
        ``model.wrong_input`` with both shapes.
    """
    expected = input_shape(card)
    has_batch = batched or len(declared) != len(expected)
    fixed = list(declared)[1:] if has_batch else list(declared)
    fits = len(fixed) == len(expected) and all(
        not _is_fixed(length) or wanted is None or length == wanted
        for length, wanted in zip(fixed, expected, strict=True)
    )
    if not fits or (has_batch and len(declared) == 0):
        raise ModelError(
            f"the network takes {_shown(declared)}, the card gives windows of "
            f"{_shown(('batch', *expected))}", reason="model.wrong_input",
        )
    return has_batch


def fixed_batch(declared: Sequence[object]) -> int | None:
    """The length of the first axis where the network fixes it."""
    first = declared[0] if declared else None
    return int(first) if isinstance(first, int) and first > 0 else None


def _is_fixed(length: object) -> bool:
    return isinstance(length, int) and length > 0


def _shown(shape: Sequence[object]) -> str:
    lengths = [
        str(length) if _is_fixed(length) or isinstance(length, str) else "any" for length in shape
    ]
    return f"[{', '.join(lengths)}]"
