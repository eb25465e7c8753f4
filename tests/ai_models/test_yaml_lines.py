"""YAML of other people is plain values or an error with its place, whatever Python makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.catalog import Catalog
from tests.ai_models.tiny_models import write_model


@pytest.mark.parametrize("text", [
    "id: x\nrest: " + "[" * 30_000, "id: x\n" + "- " * 30_000, "{a: " * 5000,
    "id: x\nversion: 2026-99-99\n", "id: x\nversion: 0x_\n", "id: x\nversion: !!bool perhaps\n",
    "id: x\nversion: !!timestamp soon\n", "id: x\nversion: " + "9" * 5000,
    'id: "x\\0"',
])
def test_yaml_that_python_stumbles_over_is_a_problem_of_its_folder(
    tmp_path: Path, text: str
) -> None:
    write_model(tmp_path / "good", b"weights", id="good")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.yaml").write_text(text)
    catalog = Catalog([tmp_path])
    assert [one.folder.name for one in catalog.problems()] == ["folder"]
    assert catalog.get("good")
