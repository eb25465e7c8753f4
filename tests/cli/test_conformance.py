"""``dicom-node conformance`` on the command line, and the statement that the project ships."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dicom_node.cli.main import run_command
from tests.cli.running import Site

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "docs" / "conformance.md"


def test_markdown_is_the_default_and_json_holds_the_same_sections(site: Site) -> None:
    text = site("conformance")
    assert text.code == 0
    assert text.err == ""
    assert text.out.startswith("# DICOM Conformance Statement")
    document = site("conformance", "--json")
    assert document.code == 0
    headings = re.findall(r"^## \d+ (.+)$", text.out, re.MULTILINE)
    assert [section["title"] for section in document.json()["sections"]] == headings
    assert "SCRIPTED" in text.out


def test_mistake_in_the_settings_is_told_and_nothing_is_stated(site: Site) -> None:
    site.config.write_text("node: {ae_title: 'much too long for an AE title'}\n")
    answer = site("conformance")
    assert answer.code == 2
    assert answer.out == ""
    assert "node.ae_title" in answer.err


def test_statement_in_the_documentation_is_that_of_the_example_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`dicom-node --config config.yaml conformance > docs/conformance.md` writes it anew."""
    assert run_command(["--config", str(ROOT / "config.yaml"), "conformance"]) == 0
    written, shipped = capsys.readouterr().out, SHIPPED.read_text(encoding="utf-8")
    assert without_version(shipped) == without_version(written)


def without_version(text: str) -> str:
    return re.sub(r"DICOM Node, version \S+", "DICOM Node", text)
