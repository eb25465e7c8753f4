"""The page of all settings: what each may be from the schema, what it means from ``config.yaml``.

    python -m dicom_node.operations.configuration_reference config.yaml > docs/configuration.md

``config.yaml`` has a comment above every key and the defaults beside them; the schema knows types,
limits and choices. Neither is written a second time, so neither page nor file can go stale alone.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.config import json_schema

_KEY = re.compile(r"^(?P<indent> *)(?P<dash>- )?(?P<name>[A-Za-z_]+):(?: (?P<value>.*))?$")
# The examples of the file, as whose keys they stand for.
_NAMED = {"peers.pacs": "peers.<name>", "rules": "rules[]"}
# What the file shows without a comment, and what is not written as a setting.
_ALSO = {
    "peers.<name>.ae_title": ["Its AE title."],
    "peers.<name>.host": ["Its host name or address."],
    "peers.<name>.port": ["Its DICOM port."],
    "rules[].name": ["Its name, once in the list: `status`, `explain` and reports say it."],
    "rules[].when": ["What a series must be like, as above."],
    "rules[].model": ["The id of a model, as `dicom-node models` lists it."],
}
_LEFT_OUT = {"peers.<name>.name"}
_INTRODUCTION = """# Configuration

Every setting, with its default: the page is made from the schema and from the comments in
[config.yaml](../config.yaml), which is a complete example to copy from. Leave out what you do not
change.

- `dicom-node --config config.yaml check` says which line is wrong, before anything starts.
- An environment variable overrides a line: `DICOM_NODE__NODE__PORT=11113` is `node.port`.
- Relative paths start at the folder of the file.
- The file is `--config FILE`, `$DICOM_NODE_CONFIG`, `./config.yaml` or
  `/etc/dicom-node/config.yaml`, the first of these that is there.

## In an editor

`dicom-node schema > config.schema.json` writes a JSON Schema. An editor with the YAML language
server (VS Code with the YAML extension, Neovim, JetBrains) completes keys and marks mistakes by it
when the file begins with

```yaml
# yaml-language-server: $schema=./config.schema.json
```
"""


@dataclass(frozen=True)
class _Setting:
    path: str
    value: str
    default: str
    meaning: str


def reference(example: str) -> str:
    """The page, in Markdown.

    Parameters
    ----------
    example
        The text of ``config.yaml``.
    """
    comments = {**_comments(example), **_ALSO}
    schema = json_schema()
    parts = [_INTRODUCTION]
    for name, node in schema["properties"].items():
        settings = _settings(name, node, schema, comments)
        table = ["| setting | value | default | meaning |", "|---|---|---|---|"]
        table += [
            f"| `{one.path}` | {one.value} | {one.default} | {one.meaning} |"
            for one in settings if one.path not in _LEFT_OUT
        ]
        introduction = _introduction(comments.get(name, []))
        parts.append(f"## {name}\n")
        parts += [introduction] if introduction else []
        parts.append("\n".join(table) + "\n")
    return "\n".join(parts)


def _comments(example: str) -> dict[str, list[str]]:
    """The lines of comment above each key, by its dotted path."""
    found: dict[str, list[str]] = {}
    above: list[str] = []
    stack: list[tuple[int, str]] = []
    for line in example.splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.lstrip()[1:].removeprefix(" "))
            continue
        key = _KEY.match(line)
        if key:
            indent = len(key["indent"]) + len(key["dash"] or "")
            stack = [one for one in stack if one[0] < indent]
            stack.append((indent, key["name"]))
            path = ".".join(name for _, name in stack)
            for example_path, general in _NAMED.items():
                if path.startswith(f"{example_path}."):
                    path = general + path[len(example_path) :]
            found.setdefault(path, above)
        above = []
    return found


def _introduction(lines: list[str]) -> str:
    """Comment above a whole section: sentences as such, columns as they stand."""
    parts: list[tuple[bool, list[str]]] = []
    for line in lines:
        is_column = re.search(r"^ |\S {2,}\S", line) is not None
        if not parts or parts[-1][0] != is_column:
            parts.append((is_column, []))
        parts[-1][1].append(line)
    texts = [
        "```text\n" + "\n".join(part) + "\n```" if is_column else " ".join(part)
        for is_column, part in parts
    ]
    return "\n\n".join(texts) + "\n" if texts else ""


def _settings(
    path: str, node: Mapping[str, Any], schema: Mapping[str, Any],
    comments: Mapping[str, list[str]],
) -> Iterator[_Setting]:
    resolved = _resolve(node, schema)
    inner, child = _inside(resolved, schema)
    if inner is None:
        yield _setting(path, node, schema, comments)
        return
    if "." in path:
        yield _setting(path, node, schema, comments)
    for name, one in inner["properties"].items():
        yield from _settings(f"{path}{child}.{name}", one, schema, comments)


def _inside(
    node: Mapping[str, Any], schema: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, str]:
    """The object with the keys of a section, and how one of several is named."""
    if "properties" in node:
        return node, ""
    for key, name in (("additionalProperties", ".<name>"), ("items", "[]")):
        if isinstance(node.get(key), Mapping):
            one = _resolve(node[key], schema)
            if "properties" in one:
                return one, name
    for option in node.get("anyOf", ()):
        one = _resolve(option, schema)
        if "properties" in one:
            return one, ""
    return None, ""


def _setting(
    path: str, node: Mapping[str, Any], schema: Mapping[str, Any],
    comments: Mapping[str, list[str]],
) -> _Setting:
    default = node.get("default", ...)
    shown = "required" if default is ... else f"`{json.dumps(default, ensure_ascii=False)}`"
    parent = path.rpartition(".")[0]
    lines = comments.get(path)
    meaning = " ".join(line.strip() for line in lines) if lines else f"see `{parent}`"
    return _Setting(path, _kind(node, schema), _cell(shown), _cell(meaning))


def _kind(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    node = _resolve(node, schema)
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_kind(one, schema) for one in node["anyOf"]))
    if "enum" in node or "const" in node:
        choices = node.get("enum", [node.get("const")])
        return ", ".join(f"`{one}`" for one in choices)
    kind = node.get("type")
    if kind == "array":
        return f"list of {_kind(node.get('items', {}), schema)}"
    if kind in ("integer", "number"):
        return {"integer": "whole number", "number": "number"}[kind] + _limits(node)
    names = {
        "string": "text", "boolean": "`true`, `false`", "null": "`null`", "object": "mapping",
    }
    return names.get(str(kind), "value")


def _limits(node: Mapping[str, Any]) -> str:
    words = {
        "minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}",
        "exclusiveMaximum": "below {}",
    }
    if "exclusiveMinimum" in node:
        words.pop("minimum")
    found = [text.format(f"{node[key]:g}" if isinstance(node[key], float) else node[key])
             for key, text in words.items() if key in node]
    return f" {' '.join(found)}" if found else ""


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        found = schema["$defs"][str(node["$ref"]).rpartition("/")[2]]
        node = {**found, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference(Path(sys.argv[1]).read_text("utf-8")))
