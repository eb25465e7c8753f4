"""The table of what was drawn, as a training reads it (``ai_models.training.cases``)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, str | int | float]


def add_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows to a CSV file; a row of the same ``image`` takes the place of the one there.

    All rows have the same columns, one of them ``image``.
    """
    columns = list(rows[0])
    kept: dict[str, Row] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            # One of other columns was written by another version: its rows cannot be joined.
            if reader.fieldnames == columns:
                kept = {row["image"]: row for row in reader}
    kept |= {str(row["image"]): row for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())
