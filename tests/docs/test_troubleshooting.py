"""Every reason code of the source is on the page of troubleshooting, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ai_models.card_schema import json_schema as card_schema
from dicom_node.config import json_schema

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
FAMILIES = (
    "access", "card", "commitment", "configuration", "dataset", "delivery", "demo", "destination",
    "file", "gate", "input", "intake", "job", "ledger", "model", "outbox", "peer", "picture",
    "routing", "series", "spool", "storage", "store", "tls", "worker",
)
CODE = re.compile(rf"(?:{'|'.join(FAMILIES)})(?:\.[a-z][a-z0-9_]*)+")
# Where something happens, or a name of a file, and not why.
NO_REASONS = {
    "dataset.json", "input.json", "ledger.db", "model.yaml", "peer.http_", "peer.refused.http_",
    "intake.accept", "intake.association", "intake.enquiry", "intake.indexer", "intake.inventory",
    "intake.left_behind",
    "intake.normalised", "intake.priors", "intake.repair", "intake.upper_layer", "input.accepted",
    "input.clinical", "input.crop", "input.crop.model", "input.foreground", "input.size",
    "input.quality", "input.quality.likeness.sha256",
}
# Functions that put a family before their first argument.
SHORT = {"decline": "input", "refused": "gate"}
# Tools for authors of models, and what is wrong with a card: the message has the key.
WITHOUT = (
    "ai_models/training/", "ai_models/scaffold/", "ai_models/conformance/", "cli/verify_",
    "ai_models/card_checks",
)


def key_paths() -> set[str]:
    """The settings and the keys of a card, some of which look like codes."""
    found: set[str] = set()
    for schema in (json_schema(), card_schema()):
        def walk(node: dict[str, object], path: str, schema: dict[str, object]) -> None:
            while "$ref" in node:
                node = schema["$defs"][str(node["$ref"]).rpartition("/")[2]]  # type: ignore[index]
            options = [node, *node.get("anyOf", [])]  # type: ignore[misc]
            for option in options:
                if "$ref" in option:
                    option = schema["$defs"][option["$ref"].rpartition("/")[2]]  # type: ignore[index]
                for name, one in option.get("properties", {}).items():
                    here = f"{path}.{name}" if path else name
                    if here.count(".") < 4:
                        found.add(here)
                        walk(one, here, schema)

        walk(schema, "", schema)
    return found


def codes_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if CODE.fullmatch(node.value):
                yield node.value
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", "")
            first = node.args[0]
            if name in SHORT and isinstance(first, ast.Constant):
                yield f"{SHORT[name]}.{first.value}"


def in_source() -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in ("dicom_node", "ai_models", "sr_templates"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            where = str(path.relative_to(ROOT))
            if not any(part in where for part in WITHOUT):
                for code in codes_of(ast.parse(path.read_text("utf-8"))):
                    found.setdefault(code, where)
    for name in (*NO_REASONS, *key_paths()):
        found.pop(name, None)
    return found


def on_page() -> set[str]:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    return {code for row in rows for code in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


def test_every_reason_code_is_explained() -> None:
    named = on_page()
    prefixes = tuple(code.removesuffix("*") for code in named if code.endswith("*"))
    missing = {
        code: where for code, where in in_source().items()
        if code not in named and not code.startswith(prefixes)
    }
    assert not missing, "add a row to docs/troubleshooting.md"


def test_no_code_is_explained_that_is_no_more() -> None:
    source = in_source()
    text = "".join(
        path.read_text("utf-8") for path in sorted((ROOT / "dicom_node").rglob("*.py"))
    )
    stale = {
        code for code in on_page()
        if CODE.fullmatch(code.removesuffix(".*").removesuffix("*"))
        and code not in source
        and code.removesuffix("*").removesuffix(".") not in text
    }
    assert not stale


def test_every_row_says_what_to_do() -> None:
    for line in PAGE.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert all(cells), line
