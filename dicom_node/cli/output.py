"""Tables and JSON for people and programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

_MOST_SKIPPED = 10


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if hasattr(value, "__dict__"):
        return vars(value)
    return str(value)


def print_table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their longest cell; nothing but the header when there are no lines."""
    cells = [[str(value) for value in line] for line in (header, *lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def tell_skipped(skipped: Sequence[tuple[Path, str]]) -> None:
    """The first files that are not used, and how many more: a folder may hold thousands."""
    for path, reason in skipped[:_MOST_SKIPPED]:
        print(f"skipped {path}: {reason}", file=sys.stderr)
    if len(skipped) > _MOST_SKIPPED:
        print(f"skipped {len(skipped) - _MOST_SKIPPED} more", file=sys.stderr, flush=True)


def when(at: datetime) -> str:
    """Local time to the second."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
