"""YAML as plain values, with the line on which every key stands.

Model cards come from other people: only scalars, lists and mappings of YAML's own types are
read. Aliases (they can grow without bound), foreign tags, duplicate keys and keys that are not
text are refused, and so is a file of more than `MAX_BYTES`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ai_models.types import CardError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
# No name of a file and no text of a report may hold them; YAML lets them be written as \0.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def read_content(path: Path) -> bytes:
    """The bytes of a card.

    Raises
    ------
    CardError
        The file cannot be read, is no plain file, or is too long.
    """
    try:
        # A pipe in its place would be waited for without end, here and with it the whole node.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CardError("not a plain file", file=str(path))
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CardError(f"cannot be read: {error.strerror}", file=str(path)) from error
    if len(content) > MAX_BYTES:
        raise CardError(f"longer than {MAX_BYTES} bytes", file=str(path))
    return content


def read_yaml(content: bytes, path: Path) -> tuple[Any, dict[str, int]]:
    """Read one YAML document; ``path`` is what errors say where it stands.

    Returns
    -------
    values, lines
        The document as dict, list and scalars; and for every key path (``input.spacing_mm[0]``,
        the root being ``""``) its 1-based line.

    Raises
    ------
    CardError
        It is not YAML of the plain kind.
    """
    try:
        text = _text(content, path)
        loader = _PlainLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise CardError("the file is empty", file=str(path), line=1)
        lines: dict[str, int] = {}
        return _Builder(loader, str(path), lines).build(node, "", 0), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "not readable as YAML"
        line = mark.line + 1 if mark is not None else None
        raise CardError(str(problem), file=str(path), line=line) from error


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CardError("not UTF-8 text", file=str(path)) from error


class _PlainLoader(yaml.SafeLoader):
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call, unused-ignore]
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not allowed here", event.start_mark
            )
        if self._depth > MAX_DEPTH:
            # Before Python's own stack ends, which is no error of YAML.
            event = self.peek_event()  # type: ignore[no-untyped-call, unused-ignore]
            raise yaml.composer.ComposerError(
                None, None, "nested too deeply", event.start_mark
            )
        self._depth += 1
        try:
            return super().compose_node(parent, index)  # type: ignore[no-any-return, unused-ignore]
        finally:
            self._depth -= 1


class _Builder:
    def __init__(self, loader: _PlainLoader, file: str, lines: dict[str, int]) -> None:
        self._loader = loader
        self._file = file
        self._lines = lines

    def build(self, node: yaml.Node, key_path: str, depth: int) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(key_path, line)
        if depth > MAX_DEPTH:
            raise CardError("nested too deeply", key_path=key_path, line=line, file=self._file)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, key_path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [
                self.build(item, f"{key_path}[{position}]", depth + 1)
                for position, item in enumerate(node.value)
            ]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Hashable:
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, f"the tag {node.tag} is not allowed here", node.start_mark
            )
        try:
            value: Hashable = self._loader.construct_object(node)  # type: ignore[no-untyped-call, unused-ignore]
        except (ValueError, LookupError, AttributeError, OverflowError) as error:
            # What looks like a date or a number and is none: 2026-99-99, 0x_, ten thousand digits.
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value[:40]!r} cannot be read as {node.tag.rpartition(':')[2]}",
                node.start_mark,
            ) from error
        if isinstance(value, str) and _CONTROL.search(value):
            raise yaml.constructor.ConstructorError(
                None, None, f"{value[:40]!r} holds control characters", node.start_mark
            )
        return value

    def _mapping(self, node: yaml.MappingNode, key_path: str, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._scalar(key_node)
            if not isinstance(key, str):
                raise CardError(
                    f"a key must be text, found {key!r}", key_path=key_path, line=line,
                    file=self._file,
                )
            path = f"{key_path}.{key}" if key_path else key
            if key in values:
                raise CardError("written twice", key_path=path, line=line, file=self._file)
            self._lines[path] = line
            values[key] = self.build(value_node, path, depth + 1)
        return values
