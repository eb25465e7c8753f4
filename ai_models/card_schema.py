"""The JSON Schema of a card, for editors: what each key means comes from where it is declared."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter

from ai_models import card as cards
from ai_models.card_base import Entry


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of ``model.yaml``, with a description of every key."""
    adapter: TypeAdapter[Any] = TypeAdapter(cards.AnyCard)
    schema: dict[str, Any] = adapter.json_schema()
    described = {one.__name__: meanings(one) for one in entries()}
    for name, definition in schema["$defs"].items():
        definition["description"] = _plain(definition["description"])
        for key, value in definition.get("properties", {}).items():
            value.pop("title", None)
            if key in described.get(name, {}):
                value["description"] = described[name][key]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Model card of DICOM Node", **schema,
    }


def entries() -> list[type[Entry]]:
    """Every kind of mapping that a card may hold, the card itself among them."""
    found: list[type[Entry]] = []
    waiting: list[type[Entry]] = [Entry]
    while waiting:
        kinds = waiting.pop(0).__subclasses__()
        waiting.extend(kinds)
        # Only what stands in these modules: a test may make kinds of its own.
        found.extend(one for one in kinds if one.__module__.startswith("ai_models.card"))
    return found


def meanings(entry: type[Entry]) -> Mapping[str, str]:
    """The sentence below each key of this class and of those it is made from."""
    said: dict[str, str] = {}
    for kind in reversed(entry.__mro__):
        if kind is not Entry and issubclass(kind, Entry):
            said |= _own_meanings(kind)
    return said


def _own_meanings(kind: type[Entry]) -> dict[str, str]:
    source = inspect.getsource(sys.modules[kind.__module__])
    body = next(
        node.body for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    )
    said: dict[str, str] = {}
    for declared, below in pairwise(body):
        if (
            isinstance(declared, ast.AnnAssign) and isinstance(declared.target, ast.Name)
            and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        ):
            said[declared.target.id] = _plain(str(below.value.value))
    return said


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
