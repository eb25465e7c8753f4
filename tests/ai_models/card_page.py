"""The tables of docs/model-card.md, made of the schema and of what back-ends can do.

``python -m tests.ai_models.card_page`` writes them anew, and `tests.ai_models.test_card_schema`
compares.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ai_models.card_abilities import ABILITIES
from ai_models.card_schema import json_schema

PAGE = Path(__file__).parents[2] / "docs" / "model-card.md"
_TABLE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# Of these the page says what they are like in its own words.
_BLOCKS = {
    "Evidence": "evidence", "InputEntry": "input", "Weights": "weights", "Runtime": "runtime",
    "Explanation": "explanation", "Trust": "trust", "Size": "size", "Intensity": "intensity",
    "Foreground": "foreground", "Search": "search", "ChannelEntry": "channels",
    "Quality": "quality", "Likeness": "likeness", "Crop": "crop", "PartFolder": "folders",
    "LabelEntry": "labels",
    "Postprocessing": "postprocessing", "ScoreEntry": "scores", "Calibration": "calibration",
    "QuantityEntry": "quantities", "Member": "ensemble", "Network": "network",
    "BundleOptions": "bundle", "NnunetOptions": "nnunet", "CommandOptions": "command",
    "EndpointOptions": "endpoint", "Metric": "metrics", "CodeEntry": "code",
    "Monitor": "monitor", "Adaptation": "adaptation", "Compression": "compression",
    "TorchTwin": "torch", "Phases": "phases",
    "CompanionEntry": "companions",
    "ClinicalEntry": "clinical",
    "MeanAndDeviation": "mean and std",
}


def written(page: str) -> str:
    """The page with its tables as they are to be."""
    schema = json_schema()
    return _TABLE.sub(
        lambda found: found[1] + table(found[2], schema) + found[3], page
    )


def tables_of(page: str) -> list[str]:
    """The names of the tables that the page has."""
    return [found[2] for found in _TABLE.finditer(page)]


def table(name: str, schema: dict[str, Any]) -> str:
    """One table, by the name of a definition of the schema."""
    if name == "backends":
        return _backends()
    definition = schema["$defs"][_FROM.get(name, name)]
    required = set(definition.get("required", ()))
    lines = ["| key | values | without it | meaning |", "|---|---|---|---|"]
    for key, value in definition["properties"].items():
        if (name == "OutputEntry") != (key == "mirror") and "Output" in name:
            continue  # every task has it, in a table of its own
        default = "required" if key in required else _default(key, value)
        said = _values(value) if (name, key) not in _OF_TASKS else _OF_TASKS[name, key]
        meaning = value.get("description", "")
        cells = [f"`{key}`", said, default, meaning]
        lines.append(f"| {' | '.join(one.replace('|', chr(92) + '|') for one in cells)} |")
    return "\n".join(lines) + "\n"


# What several definitions have, by one that has it.
_FROM = {"Card": "SegmentationCard", "OutputEntry": "SegmentationOutput"}
_OF_TASKS = {
    ("Card", "task"): "`segmentation`, `classification`, `regression`, `detection`, `text`",
    ("Card", "output"): "by task",
}


def _default(key: str, value: dict[str, Any]) -> str:
    if "default" not in value:
        return "by `kind`" if key == "ndim" else "-"
    default = value["default"]
    if default is None or default in ([], {}, ""):
        return "-"
    if isinstance(default, dict):
        return "its defaults"
    if isinstance(default, list):
        return f"`[{', '.join(str(one) for one in default)}]`"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _values(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return f"*{_BLOCKS[name]}*"
    if "anyOf" in value:
        kinds = [_values(one) for one in value["anyOf"] if one.get("type") != "null"]
        return ", ".join(kinds)
    if "const" in value:
        return f"`{json.dumps(value['const'])}`".replace('"', "")
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    kind = value.get("type")
    if kind == "array":
        return _list(value)
    if kind in ("integer", "number"):
        return _range(kind, value)
    if kind == "object":
        return "names and values"
    return _text(value) if kind == "string" else "`true`, `false`"


def _list(value: dict[str, Any]) -> str:
    if "prefixItems" in value:
        return f"{len(value['prefixItems'])} of: {_values(value['prefixItems'][0])}"
    count = [str(value[end]) for end in ("minItems", "maxItems") if end in value]
    how_many = f"{' to '.join(count)} " if len(count) == 2 else ""
    return f"list: {how_many}{_values(value['items'])}"


def _range(kind: str, value: dict[str, Any]) -> str:
    what = "whole number" if kind == "integer" else "number"
    low, above = value.get("minimum"), value.get("exclusiveMinimum")
    high = value.get("maximum")
    if low is not None and high is not None:
        return f"{what}, {low:g} to {high:g}"
    if above is not None:
        return f"{what} above {above:g}" + (f", to {high:g}" if high is not None else "")
    return f"{what} from {low:g}" if low is not None else what


def _text(value: dict[str, Any]) -> str:
    if "pattern" in value:
        return "64 hexadecimal digits" if "{64}" in value["pattern"] else "name"
    return f"text, to {value['maxLength']}"


def _backends() -> str:
    lines = [
        "| `backend` | tasks | weights | follows, of `runtime`, `output` and `weights` | "
        "`fallbacks` | `trust` |",
        "|---|---|---|---|---|---|",
    ]
    places = {"any": "file or folder", "elsewhere": "of another host"}
    for name, one in ABILITIES.items():
        block = f"`{one.options}` (required)" if one.needs_options else f"`{one.options}`"
        follows = [block] if one.options else []
        follows += [f"`{word}`" for word in one.follows]
        suffixes = f", {', '.join(one.suffixes)}" if one.suffixes else ""
        trust = [
            f"`{word}` (required)" if word == one.needed_trust else f"`{word}`"
            for word in one.trust
        ]
        cells = [
            f"`{name}`", ", ".join(one.tasks), places.get(one.weights, one.weights) + suffixes,
            ", ".join(follows) or "-", ", ".join(f"`{word}`" for word in one.fallbacks) or "-",
            ", ".join(trust) or "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
