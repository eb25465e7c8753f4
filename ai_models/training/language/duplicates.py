"""Texts that are nearly the same: found by MinHash, compared by their shingles.

Broder, "On the resemblance and containment of documents" (1997): the share of equal minima of two
sets under random hashes estimates their Jaccard index. Candidates come from bands of minima;
whether two are alike is then told by the exact index, so that the hashes can only miss, not invent.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

SHINGLE_WORDS = 3
_BANDS, _ROWS = 24, 3
_WORD = re.compile(r"\w+(?:[.,]\d+)?")
_SEED = 20240811


def shingles(text: str) -> frozenset[int]:
    """Every three words in a row, in small letters, as 64-bit hashes; shorter texts as one."""
    words = _WORD.findall(text.lower())
    rows = [
        " ".join(words[start : start + SHINGLE_WORDS])
        for start in range(max(1, len(words) - SHINGLE_WORDS + 1))
    ]
    return frozenset(
        int.from_bytes(hashlib.blake2b(row.encode(), digest_size=8).digest(), "little")
        for row in rows
    )


def resemblance(one: frozenset[int], other: frozenset[int]) -> float:
    """The Jaccard index of two sets of shingles, from 0 to 1."""
    return len(one & other) / len(one | other)


def without_near_duplicates(texts: Sequence[str], threshold: float) -> list[int]:
    """Places of the texts that are kept: of those alike, the first.

    A text goes where its index with one that is kept is ``threshold`` or more. At 0.9 the bands
    miss one such pair in 10 ** 13, at 0.5 one in 25.
    """
    sets = [shingles(text) for text in texts]
    kept: list[int] = []
    for place, earlier in _candidates(sets):
        alike = (resemblance(sets[place], sets[one]) >= threshold for one in earlier)
        if not any(alike):
            kept.append(place)
            earlier.keep()
    return kept


def groups_of(texts: Sequence[str], threshold: float) -> list[int]:
    """A number for each text: those alike, directly or through others, have one number."""
    sets = [shingles(text) for text in texts]
    parent = list(range(len(texts)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for place, earlier in _candidates(sets):
        for one in earlier:
            mine, other = root(place), root(one)
            if mine != other and resemblance(sets[place], sets[one]) >= threshold:
                parent[max(mine, other)] = min(mine, other)
        earlier.keep()
    return [root(place) for place in range(len(texts))]


class _Earlier:
    """Places before this one that share a band with it; `keep` puts this one among them."""

    def __init__(
        self, place: int, keys: Sequence[bytes], buckets: dict[bytes, list[int]]
    ) -> None:
        self._place = place
        self._keys = keys
        self._buckets = buckets

    def __iter__(self) -> Iterator[int]:
        return iter(sorted({one for key in self._keys for one in self._buckets.get(key, ())}))

    def keep(self) -> None:
        for key in self._keys:
            self._buckets[key].append(self._place)


def _candidates(sets: Sequence[frozenset[int]]) -> Iterator[tuple[int, _Earlier]]:
    chance = np.random.default_rng(_SEED)
    factors = chance.integers(1, 2**63, _BANDS * _ROWS, dtype=np.uint64) | np.uint64(1)
    offsets = chance.integers(0, 2**63, _BANDS * _ROWS, dtype=np.uint64)
    buckets: dict[bytes, list[int]] = defaultdict(list)
    for place, one in enumerate(sets):
        minima = _minima(one, factors, offsets)
        keys = [
            bytes([band]) + minima[band * _ROWS : (band + 1) * _ROWS].tobytes()
            for band in range(_BANDS)
        ]
        yield place, _Earlier(place, keys, buckets)


def _minima(
    one: frozenset[int], factors: npt.NDArray[np.uint64], offsets: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """The smallest hash of a set under each of the random ones (``(hashes,)``)."""
    values = np.fromiter(one, dtype=np.uint64, count=len(one))
    with np.errstate(over="ignore"):
        hashed = (values[:, None] * factors + offsets) >> np.uint64(16)
    smallest: npt.NDArray[np.uint64] = hashed.min(axis=0)
    return smallest
