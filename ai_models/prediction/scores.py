"""Probabilities and numbers of a whole image or series."""

from __future__ import annotations

import numpy as np

from ai_models.backends import Answer
from ai_models.card import ClassificationCard, RegressionCard
from ai_models.prediction.checking import WRONG, checked_probabilities, checked_scores
from ai_models.prediction.preparing import Prepared
from ai_models.types import (
    Algorithm,
    ClassificationPrediction,
    FloatArray,
    ModelError,
    RegressionPrediction,
)


def classification(
    card: ClassificationCard, prepared: Prepared, answer: Answer, algorithm: Algorithm,
    seconds: dict[str, float], notes: tuple[str, ...],
) -> ClassificationPrediction:
    """The scores that the card names, of the whole input and of every slice of it.

    Of a network that answers slice by slice, ``aggregate`` makes one score of those that are of
    the series and no filling up to the edges of the network; what it said of each
    of its own slices is told for the input's slice that lies there (the highest where several
    do, or with ``decisive`` the one that decides), and not at all where the two cut the patient in
    different directions. A score that ``needs`` a companion which is absent is undetermined, and
    not among them.

    Raises
    ------
    ModelError
        ``model.wrong_output``: another number of channels, or no probabilities;
        ``model.not_finite``.
    """
    scores = checked_probabilities(answer.scores, "probabilities")
    by_slice = np.clip(_by_slice(scores, card, prepared), 0.0, 1.0)
    shown = by_slice if prepared.fitting is None or len(by_slice) == 1 else \
        by_slice[prepared.fitting.axes[0].content]
    if card.output.aggregate == "decisive":
        shown = shown[_decisive(shown, card)][None]
    whole = {
        entry.name: aggregated(shown[:, entry.channel], card.output.aggregate)
        for entry in card.output.scores
    }
    slices: dict[str, FloatArray] = {}
    if scores.ndim == 2 and not prepared.is_flat:
        where = source_slices(prepared)
        if where is None:
            notes = (*notes, "the network's slices are not those of the series: none is told of")
        else:
            if card.output.aggregate == "decisive":
                # All scores of a slice are those of one, or what it shows would not add up.
                where = [[own[_decisive(by_slice[own], card)]] for own in where]
            slices = {
                entry.name: _at(by_slice[:, entry.channel], where)
                for entry in card.output.scores
            }
    lacking = {
        entry.name: tuple(role for role in entry.needs if role in prepared.absent)
        for entry in card.output.scores
    }
    undetermined = {name: roles for name, roles in lacking.items() if roles}
    return ClassificationPrediction(
        {name: score for name, score in whole.items() if name not in undetermined}, algorithm,
        seconds_by_stage=seconds, notes=notes,
        by_slice={name: told for name, told in slices.items() if name not in undetermined},
        undetermined=undetermined,
    )


def regression(
    card: RegressionCard, prepared: Prepared, answer: Answer, algorithm: Algorithm,
    seconds: dict[str, float], notes: tuple[str, ...],
) -> RegressionPrediction:
    """The quantities that the card names, in their units.

    Raises
    ------
    ModelError
        ``model.implausible_value``: outside of what the card says is possible;
        ``model.wrong_output``, ``model.not_finite``.
    """
    outputs = checked_scores(answer.scores, "numbers")
    if outputs.shape == (1, card.output.channels):
        outputs = outputs[0]
    if outputs.shape != (card.output.channels,):
        raise ModelError(
            f"the network answered {outputs.shape}, the card says ({card.output.channels},)",
            reason=WRONG,
        )
    values = {}
    for entry in card.output.quantities:
        value = float(outputs[entry.channel]) * entry.factor + entry.offset
        if not entry.minimum <= value <= entry.maximum:
            raise ModelError(
                f"{entry.name} would be {value:.4g} {entry.unit}; {entry.minimum:g} to "
                f"{entry.maximum:g} is possible", reason="model.implausible_value",
            )
        values[entry.name] = value
    return RegressionPrediction(values, algorithm, seconds, notes)


def aggregated(scores: FloatArray, rule: str) -> float:
    """One score of many: the highest, their mean, or that at least one is true (noisy or).

    Of ``decisive`` there is only one left.
    """
    if rule in ("max", "decisive"):
        return float(scores.max())
    if rule == "mean":
        return float(scores.mean(dtype=np.float64))
    return float(1.0 - np.prod(1.0 - scores.astype(np.float64)))


def _decisive(scores: FloatArray, card: ClassificationCard) -> int:
    """The slice that is least likely to show nothing."""
    channel = next(
        entry.channel for entry in card.output.scores if entry.name == card.output.absence
    )
    return int(scores[:, channel].argmin())


def _by_slice(scores: FloatArray, card: ClassificationCard, prepared: Prepared) -> FloatArray:
    """Scores as ``(slices, channels)``: one slice of what is answered as a whole."""
    channels = card.output.channels
    is_sliced = prepared.is_sliced(card) or card.output.per == "sequence"
    expected = (prepared.shape[0], channels) if is_sliced else (channels,)
    if not is_sliced and scores.shape == (1, channels):
        scores = scores[0]
    if scores.shape != expected:
        raise ModelError(
            f"the network answered {scores.shape}, the card and the input ask for {expected}",
            reason=WRONG,
        )
    return np.atleast_2d(scores)


def source_slices(prepared: Prepared) -> list[list[int]] | None:
    """For each slice of the source the network's slices there; ``None`` where they cross.

    Of a source slice between two of the network's it is the nearer one.
    """
    plan, count = prepared.plan, prepared.shape[0]
    if plan.model_to_coarse is not None or plan.order[0] != 0:
        return None
    to_source = np.linalg.inv(prepared.source_affine) @ prepared.affine
    # Half way between two, rounding must not hang on the last digit.
    near = np.floor(to_source[0, 0] * np.arange(count) + to_source[0, 3] + 0.5 - 1e-6)
    lie_at: list[list[int]] = [[] for _ in range(plan.source_shape[0])]
    for own, there in enumerate(near.astype(int)):
        if 0 <= there < len(lie_at):
            lie_at[there].append(own)
    for there, found in enumerate(lie_at):
        if not found:
            own = round((there - to_source[0, 3]) / to_source[0, 0])
            found.append(min(max(own, 0), count - 1))
    return lie_at


def _at(scores: FloatArray, where: list[list[int]]) -> FloatArray:
    return np.array([scores[own].max() for own in where], dtype=np.float32)
