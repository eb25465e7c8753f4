"""YAML text to plain values, with the line of every key kept.

Only plain YAML is read: mappings with text keys, lists, text, numbers, true/false and null, by
the YAML 1.2 rules (``off`` and ``no`` are words, ``010`` is ten). Tags, anchors and aliases are
refused: nothing here builds an object, and nothing can grow beyond the text that was written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dicom_node.errors import ConfigurationError

KeyPath = tuple[str | int, ...]

LARGEST_FILE_BYTES = 1024 * 1024
DEEPEST_NESTING = 32

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 40


@dataclass
class Tree:
    """The values of one YAML text; ``lines`` maps a key path to its 1-based line."""

    values: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int | None:
        """The line of `path`, or of the nearest key above it that was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


def dotted(path: Sequence[str | int]) -> str:
    """``("rules", 0, "when")`` as people write it: ``rules[0].when``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises
    ------
    ConfigurationError
        When it is missing, unreadable, too large or not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigurationError(
            "there is no such file; name another with --config", file=str(path)
        ) from None
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=str(path)) from error
    if len(content) > LARGEST_FILE_BYTES:
        raise ConfigurationError(
            f"is larger than {LARGEST_FILE_BYTES} bytes, expected a settings file", file=str(path)
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigurationError("is not UTF-8 text", line=line, file=str(path)) from error


def parse(text: str, file: str = "") -> Tree:
    """Read one YAML document.

    Raises
    ------
    ConfigurationError
        For a syntax error, a duplicate or non-text key, a tag, an anchor or deep nesting; it
        carries the line.
    """
    try:
        _refuse_anchors(text, file)
        node = yaml.compose(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigurationError(
            f"is not YAML: {error.problem or error.context}",
            line=mark.line + 1 if mark else None,
            file=file,
        ) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"is not YAML: {error}", file=file) from error
    tree = Tree()
    if node is not None:
        tree.lines[()] = _line(node)
        tree.values = _Reader(file, tree.lines).value(node, ())
    return tree


class _PlainLoader(yaml.SafeLoader):
    """Leaves every plain scalar as text; `_plain_scalar` gives it its YAML 1.2 type."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - as the base class has it


def _refuse_anchors(text: str, file: str) -> None:
    """Also bounds the depth, before the composer recurses into it."""
    depth = 0
    for event in yaml.parse(text, Loader=_PlainLoader):
        line = _line(event)
        if getattr(event, "anchor", None) is not None:
            raise ConfigurationError(
                "anchors and aliases (& and *) are not read; write the value out",
                line=line,
                file=file,
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST_NESTING:
            raise ConfigurationError(
                f"is nested deeper than {DEEPEST_NESTING} levels", line=line, file=file
            )


def _line(part: yaml.Node | yaml.Event) -> int:
    return int(part.start_mark.line) + 1 if part.start_mark else 1


@dataclass
class _Reader:
    file: str
    lines: dict[KeyPath, int]

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return self._list(node, path)
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
            if node.style is not None:
                return node.value
            return self._plain_scalar(node, path)
        raise self._error(f"found the tag {node.tag}, expected a plain value", node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node, path)
            if not isinstance(key, str):
                raise self._error(
                    f"found the key {key!r}, expected text (put it in quotes)", key_node, path
                )
            here = (*path, key)
            if key in values:
                first = self.lines[here]
                raise self._error(
                    f"the key is written twice (first on line {first}), expected once",
                    key_node,
                    here,
                )
            self.lines[here] = _line(key_node)
            values[key] = self.value(value_node, here)
        return values

    def _list(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            self.lines[(*path, index)] = _line(item)
            values.append(self.value(item, (*path, index)))
        return values

    def _plain_scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text = str(node.value)
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        number = _INT.fullmatch(text) or _BASED_INT.fullmatch(text) or _FLOAT.fullmatch(text)
        if not number:
            return text
        if len(text) > _LONGEST_NUMBER:
            raise self._error("found a number that is too long (put text in quotes)", node, path)
        if _INT.fullmatch(text):
            return int(text)
        return int(text, 0) if _BASED_INT.fullmatch(text) else float(text)

    def _error(self, message: str, node: yaml.Node, path: KeyPath) -> ConfigurationError:
        return ConfigurationError(message, key_path=dotted(path), line=_line(node), file=self.file)
