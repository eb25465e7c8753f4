"""Each measurement can be called by its name, and says what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import bench.__main__ as measurements
from bench import quote
from bench.table import RESULTS


def test_every_name_is_told_once_and_has_its_module() -> None:
    told = re.findall(r"python -m bench (\w+)", measurements.__doc__ or "")
    assert sorted(told) == sorted(measurements.NAMES)
    assert len(set(told)) == len(told)
    folder = Path(measurements.__file__).parent
    assert not [name for name in told if not (folder / f"{name}.py").exists()]


def test_quoting_says_what_it_does_and_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        quote.main(["--help"])
    assert ended.value.code == 0 and "README.md" in capsys.readouterr().out
    before = quote.README.read_text()
    assert quote.main(["of-yesterday"]) == 1
    assert "bench/results/of-yesterday.json" in capsys.readouterr().out
    assert quote.README.read_text() == before


def test_the_readme_has_the_figures_of_the_last_table() -> None:
    text = quote.README.read_text()
    held = json.loads((RESULTS / "short.json").read_text())
    assert quote.quoted(held) in text, "python -m bench quote puts them there"
