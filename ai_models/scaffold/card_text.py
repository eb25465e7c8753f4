"""A drafted card as YAML that people read: short parts on one line, and what to check beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ai_models.scaffold.draft import Draft

MARK = "# check:"
_WIDTH = 96
_INDENT = "  "


def card_text(draft: Draft, head: str) -> str:
    """The text of ``model.yaml``; ``head`` is said in its first comment."""
    lines = [*(f"# {line}" if line else "#" for line in head.splitlines())]
    lines += _mapping(draft.values, "", 0, draft.checks)
    return "\n".join(lines) + "\n"


def _mapping(
    values: Mapping[str, Any], path: str, depth: int, checks: Mapping[str, str]
) -> Iterator[str]:
    for key, value in values.items():
        if value is None:
            continue
        where = f"{path}.{key}" if path else key
        yield from _entry(f"{_INDENT * depth}{_flow(key)}:", value, where, depth, checks)


def _entry(
    head: str, value: Any, path: str, depth: int, checks: Mapping[str, str]
) -> Iterator[str]:
    comment = f"  {MARK} {checks[path]}" if path in checks else ""
    inner = any(one.startswith((f"{path}.", f"{path}[")) for one in checks)
    flow = _flow(value)
    if not isinstance(value, dict | list) or not value or (
        not inner and len(head) + len(flow) < _WIDTH
    ):
        if isinstance(value, str) and len(head) + len(flow) >= _WIDTH:
            yield f"{head} >-{comment}"
            yield from _folded(value, depth + 1)
            return
        yield f"{head} {flow}{comment}"
        return
    yield f"{head}{comment}"
    if isinstance(value, dict):
        yield from _mapping(value, path, depth + 1, checks)
        return
    for place, one in enumerate(value):
        yield from _item(one, f"{path}[{place}]", depth + 1, checks)


def _item(value: Any, path: str, depth: int, checks: Mapping[str, str]) -> Iterator[str]:
    indent = _INDENT * depth
    flow = _flow(value)
    inner = any(one.startswith((f"{path}.", f"{path}[")) for one in checks)
    if not isinstance(value, dict) or (not inner and len(indent) + len(flow) < _WIDTH - 2):
        comment = f"  {MARK} {checks[path]}" if path in checks else ""
        yield f"{indent}- {flow}{comment}"
        return
    for number, line in enumerate(_mapping(value, path, depth + 1, checks)):
        yield f"{indent}- {line.removeprefix(indent + _INDENT)}" if number == 0 else line


def _folded(text: str, depth: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(_INDENT * depth) + len(line) + 1 + len(word) > _WIDTH:
            yield _INDENT * depth + line
            line = ""
        line = f"{line} {word}" if line else word
    yield _INDENT * depth + line


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True  # cards have none


def _flow(value: Any) -> str:
    text: str = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=10**6,
        allow_unicode=True,
    )
    return text.removesuffix("\n").removesuffix("\n...").replace("'", '"') if _is_plain(
        value) else text.removesuffix("\n").removesuffix("\n...")


def _is_plain(value: Any) -> bool:
    """Whether double quotes may stand for single ones: no text in it has either."""
    if isinstance(value, dict):
        return all(_is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return all(_is_plain(one) for one in value)
    return not isinstance(value, str) or not set(value) & set("'\"\\")
