"""Which slices of a series its answer rests on, where a model answers slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_models.types import FloatArray
from sr_templates.numbers import Evaluated
from sr_templates.report_template import ImageGroup, LargestOf, Step

Flags = npt.NDArray[np.bool_]
# A viewer shows them as a series of their own, and nobody pages through more.
IMAGE_LIMIT = 50


@dataclass(frozen=True)
class KeySlices:
    """The slices that one evaluation of a series rests on, as indices.

    Attributes
    ----------
    decisive
        The one whose score is that of the series, or speaks for the answer most.
    agreeing
        How many slices have the same answer by themselves, the decisive one among them.
    shown
        Those to look at, ascending: the agreeing ones, of many the highest ``IMAGE_LIMIT``.
    slices
        How many slices there are.
    differing
        How many have another answer by themselves that is not the negative one.
    """

    decisive: int
    agreeing: int
    shown: tuple[int, ...]
    slices: int
    differing: int = 0


def key_slices(
    group: ImageGroup,
    evaluations: Sequence[Evaluated],
    by_slice: Mapping[str, FloatArray],
    absence: str = "",
) -> KeySlices | None:
    """Of a group, the slices on which it rests that something was not found absent.

    Parameters
    ----------
    evaluations
        Of the series.
    by_slice
        Output name to the score of each slice of the source, ``(slices,)``.
    absence
        The output whose lowest slice answers for the series with all of its scores; empty where
        each output is a number of its own.

    Returns
    -------
    KeySlices or None
        ``None`` where all was found absent, or where no slice has a score.
    """
    for one in evaluations:
        scores = by_slice.get(one.number)
        if one.term.negative or scores is None:
            continue
        decisive = int(by_slice[absence].argmin() if absence in by_slice else scores.argmax())
        where = _agree(group, one, scores, by_slice)
        agreeing = set(np.flatnonzero(where).tolist()) | {decisive}
        others = sorted(agreeing - {decisive}, key=lambda index: -float(scores[index]))
        shown = sorted([decisive, *others[: IMAGE_LIMIT - 1]])
        differing = _differ(group, by_slice) & ~where
        return KeySlices(
            decisive, len(agreeing), tuple(shown), len(scores), int(differing.sum())
        )
    return None


def _agree(
    group: ImageGroup, one: Evaluated, scores: FloatArray, by_slice: Mapping[str, FloatArray]
) -> Flags:
    """Where a slice by itself says what the series says, or something stronger."""
    nowhere = np.zeros(len(scores), bool)
    if isinstance(one.term, Step):
        bound = one.term.at_least
        # In double precision, as the score of the series is compared.
        return nowhere if bound is None else np.asarray(scores.astype(np.float64) >= bound)
    largest = group.largest_of
    if largest is None or one.term is largest.otherwise:
        return nowhere
    likeliest = _likeliest(largest, by_slice)
    return nowhere if likeliest is None else likeliest == list(largest.terms).index(one.number)


def _differ(group: ImageGroup, by_slice: Mapping[str, FloatArray]) -> Flags:
    """Where the likeliest of several classes is not the negative one."""
    largest = group.largest_of
    likeliest = None if largest is None else _likeliest(largest, by_slice)
    if largest is None or likeliest is None:
        return np.zeros(len(next(iter(by_slice.values()))), bool)
    negative = [number for number, one in enumerate(largest.terms.values()) if one.negative]
    return np.asarray(~np.isin(likeliest, negative))


def _likeliest(
    largest: LargestOf, by_slice: Mapping[str, FloatArray]
) -> npt.NDArray[np.intp] | None:
    """Of each slice the number of its largest class; ``None`` where one has no scores."""
    if not by_slice.keys() >= largest.terms.keys():
        return None
    return np.asarray(np.stack([by_slice[name] for name in largest.terms]).argmax(axis=0))
