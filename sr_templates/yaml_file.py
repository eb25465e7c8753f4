"""A YAML file of this folder as a checked entry; what is wrong is named by file, line and key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from sr_templates.entries import Entry, TemplateError

_MAX_BYTES = 256 * 1024
_MAX_DEPTH = 30
AnyEntry = TypeVar("AnyEntry", bound=Entry)


class _Loader(yaml.SafeLoader):
    """What Python itself would stumble over becomes an error of YAML, with its line."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self._depth > _MAX_DEPTH:
            event = self.peek_event()  # type: ignore[no-untyped-call, unused-ignore]
            raise yaml.composer.ComposerError(None, None, "nested too deeply", event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)  # type: ignore[no-any-return, unused-ignore]
        finally:
            self._depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)  # type: ignore[no-untyped-call, unused-ignore]
        except (ValueError, LookupError, AttributeError, OverflowError) as error:
            # What looks like a date or a number and is none: 2026-99-99, ten thousand digits.
            raise yaml.constructor.ConstructorError(
                None, None,
                f"{str(node.value)[:40]!r} cannot be read as {node.tag.rpartition(':')[2]}",
                node.start_mark,
            ) from error


class TemplateFile:
    """One YAML file: its values, and where each key stands.

    ``content`` is what was read of it (`read_content`), in place of the file.

    Raises
    ------
    TemplateError
        It cannot be read, is too long, or is not plain YAML: aliases, which can grow without
        bound, and keys that are written twice are refused.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self._path = path
        self._lines: dict[str, int] = {}
        self.content = read_content(path) if content is None else content
        try:
            loader = _Loader(self.content.decode("utf-8"))
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


def read_content(path: Path) -> bytes:
    """The bytes of a file; raises `TemplateError` when it cannot be read or is too long."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TemplateError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise TemplateError(f"{path}: longer than {_MAX_BYTES} bytes")
    return content


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
