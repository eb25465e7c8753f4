"""Numbers that say what an input is like before any network: grey values, noise, sharpness.

For every model whose back-end shows no layers. They are of the network's input, after the card's
intensities: what has no influence on the network has none here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ai_models.types import FloatArray

if TYPE_CHECKING:
    from ai_models.card_entries import InputEntry

_PERCENTILES = (1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 99.0)
_MOST_SAMPLES = 1 << 20
FEATURES_OF_A_CHANNEL = len(_PERCENTILES) + 5
"""Mean, standard deviation, percentiles, noise, and the mean step along columns and rows."""


def features_of_input(array: FloatArray, entry: InputEntry) -> tuple[float, ...]:
    """Features of a network's input ``(channels, ...)``: as many whatever the number of phases.

    Only of its pictures: what is known of the patient is given to some networks as channels of one
    value, and an age must not be kept. Of phases, of which one series has more than another, the
    mean of each feature over the channels, and its standard deviation.
    """
    pictures = array[: len(array) - entry.constant_channels]
    features = input_features(pictures)
    fewest, most = entry.channel_counts
    if fewest == most:
        return features
    by_channel = np.array(features, dtype=np.float64).reshape(len(pictures), -1)
    return (*by_channel.mean(axis=0).tolist(), *by_channel.std(axis=0).tolist())


def input_features(array: FloatArray) -> tuple[float, ...]:
    """Features of ``(channels, slices, rows, columns)`` or ``(channels, rows, columns)``.

    Of every channel mean, standard deviation, percentiles, the noise (median absolute second
    difference along columns over 0.6745 and the square root of 6, which is the standard deviation
    of white noise: Donoho and Johnstone, Biometrika 81, 1994), and the mean absolute step along
    columns and along rows.
    """
    features: list[float] = []
    for channel in array:
        values = _thinned(np.asarray(channel, dtype=np.float32))
        along = np.diff(values, n=2, axis=-1) if values.shape[-1] > 2 else np.zeros(1)
        features += [float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))]
        features += [float(one) for one in np.percentile(values, _PERCENTILES)]
        features.append(float(np.median(np.abs(along))) / (0.6745 * 6**0.5))
        features += [_mean_step(values, axis) for axis in (-1, -2)]
    return tuple(features)


def _thinned(values: FloatArray) -> FloatArray:
    """Every so many slices of a large volume: neighbours on a slice stay neighbours."""
    if values.ndim < 3 or values.size <= _MOST_SAMPLES:
        return values
    step = min(len(values), -(-values.size // _MOST_SAMPLES))
    return values[step // 2 :: step]


def _mean_step(values: FloatArray, axis: int) -> float:
    steps = np.diff(values, axis=axis)
    return float(np.abs(steps).mean(dtype=np.float64)) if steps.size else 0.0
