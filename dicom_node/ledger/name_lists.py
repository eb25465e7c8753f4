"""Lists of names in statements, in few lengths.

Every length of ``IN (?, ?, ...)`` is a statement of its own, and SQLite's driver keeps the last 128
of each connection ready, one with 500 names in 120 KB. A list that is a little longer each time
filled all of them: 14 connections grew by 40 MB within 20 minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Name = TypeVar("Name")
_LONGEST = 1024


def in_steps(names: Sequence[Name]) -> list[Name]:
    """These names, the last of them several times: their number is a power of two, or none.

    A list of more than 1024 stays as it is: it is rare, and a server takes 65,535 names at most.
    """
    wanted = list(names)
    if 0 < len(wanted) <= _LONGEST:
        wanted += wanted[-1:] * ((1 << (len(wanted) - 1).bit_length()) - len(wanted))
    return wanted
