"""The schema knows every key and says what it means, and the page says the same."""

from __future__ import annotations

from typing import Any

import yaml

from ai_models.card_schema import entries, json_schema, meanings
from tests.ai_models import card_page
from tests.source_tree import ROOT

CARDS = sorted((ROOT / "docs" / "cards").glob("*.yaml"))


def keys_of(schema: dict[str, Any], name: str) -> set[str]:
    return set(schema["$defs"][name]["properties"])


def test_every_key_of_a_card_is_described() -> None:
    schema = json_schema()
    bare = [
        f"{name}.{key}" for name, definition in schema["$defs"].items()
        for key, value in definition["properties"].items() if not value.get("description")
    ]
    # The task and the output of a kind of card are what their own definitions say.
    assert bare == [] or all(one.endswith((".task", ".output")) for one in bare), bare


def test_no_sentence_stands_below_a_key_that_is_not_there() -> None:
    for entry in entries():
        assert set(meanings(entry)) <= set(entry.model_fields), entry


def test_the_schema_is_that_of_five_kinds_of_card() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["discriminator"]["mapping"]) == {
        "segmentation", "classification", "regression", "detection", "text",
    }
    for name in ("SegmentationCard", "TextCard"):
        assert {"id", "version", "input", "weights", "runtime", "trust"} <= keys_of(schema, name)
        assert schema["$defs"][name]["additionalProperties"] is False


def test_the_schema_asks_for_what_a_physician_must_read() -> None:
    required = json_schema()["$defs"]["SegmentationCard"]["required"]
    assert {"intended_use", "evidence", "demonstration", "licence", "manufacturer"} <= set(required)
    assert "validated_on" in json_schema()["$defs"]["Evidence"]["required"]
    assert {"licence", "source"} <= set(json_schema()["$defs"]["Weights"]["required"])


def test_every_key_of_the_example_cards_is_in_the_schema() -> None:
    schema = json_schema()
    kinds = schema["discriminator"]["mapping"]
    assert CARDS
    for path in CARDS:
        values = yaml.safe_load(path.read_text())
        _compare(values, schema, {"$ref": kinds[values["task"]]}, path.name)


def _compare(values: Any, schema: dict[str, Any], node: dict[str, Any], where: str) -> None:
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    for one in node.get("anyOf", []):
        if "$ref" in one and isinstance(values, dict):
            node = schema["$defs"][one["$ref"].rsplit("/", 1)[1]]
    if isinstance(values, dict) and "properties" in node:
        assert set(values) <= set(node["properties"]), where
        for key, value in values.items():
            _compare(value, schema, node["properties"][key], f"{where}: {key}")
    elif isinstance(values, list) and "items" in node:
        for value in values:
            _compare(value, schema, node["items"], where)


def test_the_page_has_the_tables_of_the_schema() -> None:
    page = card_page.PAGE.read_text()
    assert card_page.written(page) == page, "python -m tests.ai_models.card_page writes them anew"


def test_the_page_has_a_table_of_every_block() -> None:
    found = set(card_page.tables_of(card_page.PAGE.read_text()))
    cards = {name for name in json_schema()["$defs"] if name.endswith("Card")}
    assert found >= set(json_schema()["$defs"]) - cards | {"Card", "OutputEntry", "backends"}


def test_the_page_tells_every_key() -> None:
    page = card_page.PAGE.read_text()
    for name, definition in json_schema()["$defs"].items():
        for key in definition["properties"]:
            assert f"| `{key}` |" in page, f"{name}.{key}"
