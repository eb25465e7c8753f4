"""``python -m tests.acceptance.compatibility``: ask every tool and write the matrix.

Exits with 1 where an error or a warning is accounted for by nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.acceptance.compatibility.answer import Answers, Column
from tests.acceptance.compatibility.columns import columns
from tests.acceptance.compatibility.document import Matrix, render
from tests.acceptance.compatibility.objects import specimens
from tests.acceptance.compatibility.specimen import Filed, write
from tests.conformance.validators import ToolMissing

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "compatibility.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse options, ask, write."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="compatibility-") as folder:
        matrix = ask(options, Path(folder))
    text = render(matrix, datetime.now(UTC).date())
    options.output.write_text(text, encoding="utf-8")
    print(f"{len(matrix.specimens)} objects, {len(matrix.columns)} tools: {options.output}")
    unexplained = sorted(set(matrix.unexplained()))
    for line in unexplained:
        print(line)
    return 1 if unexplained else 0


def ask(options: argparse.Namespace, folder: Path) -> Matrix:
    """Build the objects and ask every tool that is wanted and can be had."""
    filed = write(specimens(), folder / "objects")
    wanted = [one for one in filed if options.only in one.specimen.name]
    asked = columns(with_slow=not options.no_slow, with_viewer=not options.no_ohif)
    if options.tool:
        asked = [column for column in asked if column.name in options.tool]
    answers: dict[str, Answers] = {}
    missing: dict[str, str] = {}
    for column in asked:
        started = time.monotonic()
        try:
            answers[column.name] = _ask(column, wanted, folder)
        except ToolMissing as why:
            missing[column.name] = str(why)
        print(f"{column.name}: {missing.get(column.name) or f'{time.monotonic() - started:.0f} s'}")
    return Matrix([one.specimen for one in wanted], asked, answers, missing)


def _ask(column: Column, files: Sequence[Filed], folder: Path) -> Answers:
    place = folder / column.name
    place.mkdir()
    return column.ask(files, place)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.compatibility")
    parser.add_argument("--no-ohif", action="store_true", help="leave out the viewer")
    parser.add_argument("--no-slow", action="store_true", help="leave out pixelmed")
    parser.add_argument("--only", default="", help="objects whose name contains this")
    parser.add_argument("--tool", action="append", help="only this tool; may be repeated")
    parser.add_argument("--output", type=Path, default=DOCUMENT)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
