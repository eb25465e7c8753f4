from __future__ import annotations

import re

import pytest

from tests.source_tree import ROOT

NAMED = sorted(
    set(re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / "docs/ihe-air.md").read_text("utf-8")))
)


def test_the_checklist_names_tests() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_the_checklist_names_exists(file: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / file).read_text("utf-8")
