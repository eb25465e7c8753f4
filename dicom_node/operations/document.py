"""A document of numbered sections, paragraphs and tables, written as Markdown or as JSON.

Pure: a document is made of what it is given, and the same content is the same text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_DEEPEST_HEADING = 6


@dataclass(frozen=True)
class Table:
    """A table with a title; every row has as many cells as there are columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"{self.title}: {len(row)} cells under {len(self.columns)} columns"
                )


@dataclass(frozen=True)
class Section:
    """A heading, what stands under it in this order, and the sections below."""

    title: str
    blocks: tuple[str | Table, ...] = ()
    sections: tuple[Section, ...] = ()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of anything that has a text."""
    return Table(title, tuple(columns), tuple(tuple(str(cell) for cell in row) for row in rows))


def to_markdown(document: Section) -> str:
    """The document as Markdown: its sections numbered, its tables as pipe tables."""
    lines = [f"# {document.title}", "", *_blocks(document)]
    for number, section in _numbered(document):
        level = min(number.count(".") + 2, _DEEPEST_HEADING)
        lines += [f"{'#' * level} {number} {section.title}", "", *_blocks(section)]
    return "\n".join(lines).rstrip("\n") + "\n"


def to_json(document: Section, number: str = "") -> dict[str, Any]:
    """The document as nested objects: number, title, text, tables, sections."""
    prefix = f"{number}." if number else ""
    return {
        "number": number,
        "title": document.title,
        "text": [block for block in document.blocks if isinstance(block, str)],
        "tables": [
            {
                "title": block.title,
                "columns": list(block.columns),
                "rows": [list(row) for row in block.rows],
            }
            for block in document.blocks
            if isinstance(block, Table)
        ],
        "sections": [
            to_json(section, f"{prefix}{position}")
            for position, section in enumerate(document.sections, start=1)
        ],
    }


def _numbered(document: Section, number: str = "") -> Iterator[tuple[str, Section]]:
    prefix = f"{number}." if number else ""
    for position, section in enumerate(document.sections, start=1):
        yield f"{prefix}{position}", section
        yield from _numbered(section, f"{prefix}{position}")


def _blocks(section: Section) -> Iterator[str]:
    for block in section.blocks:
        if isinstance(block, str):
            yield from (block, "")
        else:
            yield from (f"**{block.title}**", "", *_rows(block), "")


def _rows(block: Table) -> Iterator[str]:
    yield _row(block.columns)
    yield _row(["---"] * len(block.columns))
    for row in block.rows:
        yield _row(row)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    """On one line, and without what would end the cell or begin a tag."""
    plain = " ".join(text.split())
    for sign, written in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("*", "\\*")):
        plain = plain.replace(sign, written)
    return plain
