"""Deflated data sets (PS3.5 section A.5) without trust in how large they become.

Two megabytes may inflate to gigabytes, so nothing is inflated further than it is asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

DEFLATED_SYNTAXES = frozenset({"1.2.840.10008.1.2.1.99"})
_STEP_BYTES = 1 << 18


def inflated_head(path: Path, offset: int, longest_bytes: int) -> bytes:
    """The first bytes of what the stream at ``offset`` of a file inflates to.

    Raises
    ------
    zlib.error, OSError
        It is not a deflate stream, or cannot be read.
    """
    head = bytearray()
    for piece in _inflated(path, offset):
        head += piece
        if len(head) >= longest_bytes:
            break
    return bytes(head[:longest_bytes])


def inflates_beyond(path: Path, offset: int, longest_bytes: int) -> bool:
    """Whether the stream inflates to more than this; keeps none of it (raises as above)."""
    total_bytes = 0
    for piece in _inflated(path, offset):
        total_bytes += len(piece)
        if total_bytes > longest_bytes:
            return True
    return False


def _inflated(path: Path, offset: int) -> Iterator[bytes]:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        file.seek(offset)
        while not inflate.eof:
            given = inflate.unconsumed_tail or file.read(_STEP_BYTES)
            if not given:
                return
            yield inflate.decompress(given, _STEP_BYTES)
