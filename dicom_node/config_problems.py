"""Validation errors turned into one `ConfigurationError` with file, line and key path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dicom_node.config_conditions import suggestion
from dicom_node.config_environment import field_type, model_of
from dicom_node.config_yaml import KeyPath, Tree, dotted
from dicom_node.errors import ConfigurationError, UnknownName

AT_PATH: Final = "at_path"
UNKNOWN_NAME: Final = "unknown_name"
MOST_SHOWN = 10
_SECRET = re.compile(r"^(database\.url|security\b)")

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text (put it in quotes)",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping (lines `key: value`)",
    "model_type": "a mapping (lines `key: value`)",
    "model_attributes_type": "a mapping (lines `key: value`)",
    "path_type": "a path",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
    "none_required": "null: this version does not speak TLS itself; put a TLS proxy before it",
    "too_short": "at least {min_length} in the list",
}


def first_error(
    error: ValidationError,
    tree: Tree,
    file: str,
    variables: Mapping[KeyPath, str],
    model: type[BaseModel],
) -> ConfigurationError:
    """The error to raise: the first by line, with up to nine others listed below it.

    `variables` names the environment variable that gave the value at a key path.
    """
    found: dict[KeyPath, tuple[int, str, str, type[ConfigurationError]]] = {}
    for detail in error.errors(include_url=False):
        path, message = _explained(detail, model)
        known = UnknownName if detail["type"] == UNKNOWN_NAME else ConfigurationError
        line, source = tree.line(path), file
        for length in range(len(path), 0, -1):
            if path[:length] in variables:
                line, source = None, variables[path[:length]]
                break
        found.setdefault(path, (line or 0, source, message, known))
    ordered = sorted(found.items(), key=lambda item: item[1][0])
    path, (line, source, message, known) = ordered[0]
    for other, (other_line, other_source, other_message, _) in ordered[1:MOST_SHOWN]:
        where = ":".join(part for part in (other_source, str(other_line or "")) if part)
        message += f"\n{where + ': ' if where else ''}{dotted(other)}: {other_message}"
    if len(ordered) > MOST_SHOWN:
        message += f"\nand {len(ordered) - MOST_SHOWN} more"
    return known(message, key_path=dotted(path), line=line or None, file=source)


def without_password(url: str) -> str:
    """A database URL as it may be shown."""
    # Up to the last @: a password may hold one that should have been written as %40.
    return re.sub(r"(//[^:/@]*):.*@", r"\1:***@", re.sub(r"([?&]password=)[^&]*", r"\1***", url))


def _explained(detail: ErrorDetails, model: type[BaseModel]) -> tuple[KeyPath, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    path = tuple(part for part in detail["loc"] if part != "[key]")
    if kind in (AT_PATH, UNKNOWN_NAME):
        return (*path, *context["path"]), str(context["text"])
    if kind == "extra_forbidden":
        owner = model_of(model, path[:-1])
        names = list(owner.model_fields) if owner else []
        name = str(path[-1])
        return path, (f"unknown key, expected one of {', '.join(names)}{suggestion(name, names)}")
    if kind == "missing":
        return path, f"is missing, expected {_needed(model, path)}"
    expected = _EXPECTED.get(kind, "").format(**context) or detail["msg"]
    return path, f"found {_shown(detail['input'], path)}, expected {expected}"


def _needed(model: type[BaseModel], path: KeyPath) -> str:
    annotation = field_type(model, path)
    return {str: "text", int: "a whole number"}.get(annotation, "a value here")


def _shown(value: Any, path: KeyPath) -> str:
    if value is None:
        return "nothing (null)"
    if _SECRET.match(dotted(path)):
        return "another value"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
