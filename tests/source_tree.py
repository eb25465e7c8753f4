"""The project's Python files as syntax trees, for the tests that hold its architecture."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("dicom_node", "ai_models", "sr_templates")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One imported module; ``at_load`` is false inside functions and under TYPE_CHECKING."""

    module: str
    line: int
    at_load: bool


@dataclass(frozen=True)
class Source:
    """One Python file."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def where(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"

    def imports(self) -> list[Import]:
        return list(_imports(self, self.tree.body, at_load=True))

    def functions(self) -> Iterator[Function]:
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Every Python file below the folders, in order of path."""
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if "work" in relative.parts:
                continue
            parts = relative.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text(encoding="utf-8")
            found.append(Source(name, path, text, ast.parse(text, str(path))))
    return tuple(found)


def module_names() -> frozenset[str]:
    return frozenset(source.name for source in sources(*PACKAGES))


def _imports(source: Source, body: list[ast.stmt], *, at_load: bool) -> Iterator[Import]:
    for statement in body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield Import(alias.name, statement.lineno, at_load)
        elif isinstance(statement, ast.ImportFrom):
            for module in _from(source, statement):
                yield Import(module, statement.lineno, at_load)
        else:
            later = isinstance(statement, Function) or _is_type_checking(statement)
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                for part in getattr(statement, field, []):
                    nested = part.body if not isinstance(part, ast.stmt) else [part]
                    loads = at_load and not (later and field == "body")
                    yield from _imports(source, nested, at_load=loads)


def _from(source: Source, statement: ast.ImportFrom) -> Iterator[str]:
    """``from a import b`` imports ``a.b`` where that is a module of ours, else ``a``."""
    base = statement.module or ""
    if statement.level:
        package = source.name.split(".")
        package = package if source.path.name == "__init__.py" else package[:-1]
        kept = package[: len(package) - statement.level + 1]
        base = ".".join([*kept, *([base] if base else [])])
    for alias in statement.names:
        below = f"{base}.{alias.name}"
        yield below if below in module_names() else base


def _is_type_checking(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.If):
        return False
    test = statement.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def code_lines(function: Function) -> int:
    """Physical lines from ``def`` to the end, without the docstring's."""
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    documented = first.end_lineno - first.lineno + 1 if is_docstring else 0  # type: ignore[operator]
    return (function.end_lineno or function.lineno) - function.lineno + 1 - documented
