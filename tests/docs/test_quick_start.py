"""Every shell block of the quick start, as it stands, in an empty home, does what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.peers import need_program

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quick-start.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(sh|text)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SHELL = [text for kind, text in BLOCKS if kind == "sh"]
MARK = "---- end of block {} ----"


def promised() -> dict[int, list[str]]:
    """By the number of a shell block, the lines that stand behind it on the page."""
    found: dict[int, list[str]] = {}
    number = -1
    for kind, text in BLOCKS:
        if kind == "sh":
            number += 1
        else:
            found[number] = text.splitlines()
    return found


def is_shown(lines: list[str], output: str) -> str:
    """The first promised line that does not follow in the output; empty when all do.

    ``...`` stands for anything, on a line of its own also for lines.
    """
    rest = output.splitlines()
    for line in lines:
        if line == "...":
            continue
        pattern = ".*".join(re.escape(part.strip()) for part in line.split("..."))
        for number, candidate in enumerate(rest):
            if re.fullmatch(pattern, " ".join(candidate.split())) or re.fullmatch(
                pattern, candidate.strip()
            ):
                rest = rest[number + 1 :]
                break
        else:
            return line
    return ""


@pytest.mark.parametrize(
    ("lines", "missing"),
    [(["a ... c", "...", "e"], ""), (["a ... c", "x"], "x"), (["e", "a ... c"], "a ... c")],
)
def test_a_promise_is_compared_line_by_line(lines: list[str], missing: str) -> None:
    assert is_shown(lines, "a  b c\nd\ne") == missing


@pytest.mark.slow
@pytest.mark.namespace
def test_the_quick_start_does_what_it_says(tmp_path: Path) -> None:
    for program in ("storescp", "storescu", "echoscu", "curl", "unshare"):
        need_program(program)
    script = "set -e -o pipefail -m\n" + "".join(
        f"{text}echo '{MARK.format(number)}'\n" for number, text in enumerate(SHELL)
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "dicom-node").symlink_to(Path(sys.executable).parent / "dicom-node")
    done = subprocess.run(
        # In a network of its own, so that its fixed ports are free.
        [ROOT / "tests" / "in_private_network.sh", "bash", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
        env={
            "HOME": str(tmp_path), "LANG": "C.UTF-8",
            "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        },
    )
    logs = "".join(
        f"\n{path.name}:\n{path.read_text('utf-8', 'replace')[-3000:]}"
        for path in sorted((tmp_path / "dicom-node-trial").glob("*.log"))
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:] + logs
    ends = [0]
    for number in range(len(SHELL)):
        mark = MARK.format(number)
        assert mark in done.stdout, f"block {number} did not come to its end"
        ends.append(done.stdout.index(mark))
    outputs = [done.stdout[start:end] for start, end in pairwise(ends)]
    for number, lines in promised().items():
        missing = is_shown(lines, outputs[number])
        assert not missing, f"block {number} does not show {missing!r}:\n{outputs[number]}"
