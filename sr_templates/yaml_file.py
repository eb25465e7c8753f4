"""A YAML file of this folder as a checked entry; what is wrong is named by file, line and key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from sr_templates.entries import Entry, TemplateError

_MAX_BYTES = 256 * 1024
AnyEntry = TypeVar("AnyEntry", bound=Entry)


class TemplateFile:
    """One YAML file: its values, and where each key stands.

    Raises
    ------
    TemplateError
        It cannot be read, is too long, or is not plain YAML: aliases, which can grow without
        bound, and keys that are written twice are refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, int] = {}
        self.content = self._read()
        try:
            loader = yaml.SafeLoader(self.content.decode("utf-8"))
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise TemplateError(f"{path}:1: a mapping of keys expected")
            self._walk(node, "", set())
            self._values = loader.construct_document(node)
        except UnicodeDecodeError as error:
            raise TemplateError(f"{path}: not UTF-8 text") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
            problem = getattr(error, "problem", None) or "not readable as YAML"
            raise TemplateError(f"{where}: {problem}") from error

    def checked(self, form: type[AnyEntry]) -> AnyEntry:
        """The values as ``form``; raises `TemplateError` at the first that does not fit."""
        try:
            return form.model_validate(self._values)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            key_path = _key_path(problems[0]["loc"])
            raise self.error(key_path, _message(problems[0])) from error

    def error(self, key_path: str, message: str) -> TemplateError:
        """What to raise when the value of ``key_path`` cannot be."""
        line = self._lines.get(_nearest(key_path, self._lines), 1)
        return TemplateError(f"{self._path}:{line}: {key_path}: {message}")

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise TemplateError(f"{self._path}: cannot be read: {error.strerror}") from error
        if len(content) > _MAX_BYTES:
            raise TemplateError(f"{self._path}: longer than {_MAX_BYTES} bytes")
        return content

    def _walk(self, node: yaml.Node, key_path: str, seen: set[int]) -> None:
        self._lines.setdefault(key_path, node.start_mark.line + 1)
        if id(node) in seen:
            raise self.error(key_path, "aliases (*name) are not allowed here")
        seen.add(id(node))
        for path, line, child in _children(node, key_path):
            if path in self._lines:
                raise TemplateError(f"{self._path}:{line}: {path}: written twice")
            self._lines[path] = line
            self._walk(child, path, seen)


def _children(node: yaml.Node, key_path: str) -> Iterator[tuple[str, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value)
            path = f"{key_path}.{name}" if key_path else name
            yield path, key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield f"{key_path}[{position}]", item.start_mark.line + 1, item


def _key_path(location: tuple[int | str, ...]) -> str:
    key_path = ""
    for part in location:
        if isinstance(part, int):
            key_path += f"[{part}]"
        elif part != "[key]":
            key_path += f".{part}" if key_path else part
    return key_path


def _nearest(key_path: str, lines: dict[str, int]) -> str:
    while key_path and key_path not in lines:
        key_path = key_path[: max(key_path.rfind("."), key_path.rfind("["), 0)]
    return key_path


def _message(problem: Any) -> str:
    plain = {
        "extra_forbidden": "unknown key",
        "missing": "required and absent",
        "string_type": "text expected (a number in quotes is text)",
        "string_pattern_mismatch": "letters, digits and underscores expected, a letter first",
    }
    message: str = plain.get(problem["type"], problem["msg"])
    return message.removeprefix("Value error, ")
