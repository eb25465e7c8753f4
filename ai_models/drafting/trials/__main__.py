"""``python -m ai_models.drafting.trials``: the figures of the guard as a table."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from ai_models.drafting.trials.measuring import Figures, measured


def table(figures: Figures) -> str:
    """The figures in Markdown."""
    missed = Counter(kind for kind, _ in figures.missed)
    lines = ["| what is false | sentences | kept | caught |", "|---|---|---|---|"]
    for kind, many in sorted(figures.false.items()):
        lines.append(f"| {kind} | {many} | {missed[kind]} | {1 - missed[kind] / many:.2%} |")
    lines += [
        f"| all | {sum(figures.false.values())} | {len(figures.missed)} "
        f"| {figures.caught_share:.3%} |",
        "",
        f"True sentences: {figures.true}, struck {len(figures.struck)} "
        f"({figures.false_strike_share:.2%}).",
    ]
    lines += [f"- kept ({kind}): {text}" for kind, text in sorted(set(figures.missed))]
    lines += [f"- struck ({why}): {text}" for text, why in sorted(set(figures.struck))]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1_000_000)
    asked = parser.parse_args()
    figures = measured(range(asked.seed, asked.seed + asked.scenes))
    sys.stdout.write(f"{table(figures)}\n")


if __name__ == "__main__":
    main()
