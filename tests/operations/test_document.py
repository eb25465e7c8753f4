from __future__ import annotations

import pytest

from dicom_node.operations.document import Section, Table, table, to_json, to_markdown

DOCUMENT = Section(
    "A statement",
    ("About it.",),
    (
        Section("First", ("Text.", table("Numbers", ("One", "Two"), [(1, "a"), (2, "b|c")]))),
        Section("Second", (), (Section("Inner", ("Deeper.",)),)),
    ),
)


def test_sections_are_numbered_and_each_level_has_its_heading() -> None:
    lines = to_markdown(DOCUMENT).splitlines()
    headings = [line for line in lines if line.startswith("#")]
    assert headings == ["# A statement", "## 1 First", "## 2 Second", "### 2.1 Inner"]


def test_table_is_a_pipe_table_under_its_title() -> None:
    text = to_markdown(DOCUMENT)
    assert "**Numbers**\n\n| One | Two |\n| --- | --- |\n| 1 | a |\n| 2 | b\\|c |\n" in text


def test_nothing_in_a_cell_ends_the_cell_or_the_line() -> None:
    text = to_markdown(Section("T", (table("t", ("x",), [("a\nb|c<d>*e*\\f",)]),)))
    assert text.splitlines()[-1] == "| a b\\|c&lt;d>\\*e\\*\\\\f |"


def test_json_holds_the_same_content_with_its_numbers() -> None:
    written = to_json(DOCUMENT)
    assert written["text"] == ["About it."]
    assert [section["number"] for section in written["sections"]] == ["1", "2"]
    assert written["sections"][0]["tables"] == [
        {"title": "Numbers", "columns": ["One", "Two"], "rows": [["1", "a"], ["2", "b|c"]]}
    ]
    assert written["sections"][1]["sections"][0]["number"] == "2.1"


def test_row_with_a_missing_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under 2 columns"):
        Table("t", ("a", "b"), (("only",),))
