"""``DICOM_NODE__SECTION__KEY`` environment variables laid over the values of the file."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from dicom_node import config_yaml
from dicom_node.config_conditions import suggestion
from dicom_node.config_yaml import KeyPath, dotted
from dicom_node.errors import ConfigurationError

PREFIX = "DICOM_NODE__"


def overlay(
    values: dict[str, Any], environ: Mapping[str, str], model: type[BaseModel]
) -> dict[KeyPath, str]:
    """Write the variables into `values`; answers which variable gave which key path.

    A value is read as YAML where that fits the key's type, else as the text it is. Peers are
    named in any case; a list, such as ``DICOM_NODE__RULES``, is given whole.

    Raises
    ------
    ConfigurationError
        When a variable names no key; ``file`` is the variable.
    """
    sources: dict[KeyPath, str] = {}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        path = _path(variable, values, model)
        target = values
        for part in path[:-1]:
            below = target.get(str(part))
            target[str(part)] = dict(below) if isinstance(below, dict) else {}
            target = target[str(part)]
        target[str(path[-1])] = _value(environ[variable], field_annotation(model, path))
        sources[path] = variable
    return sources


def _path(variable: str, values: Mapping[str, Any], model: type[BaseModel]) -> KeyPath:
    parts = [part.lower() for part in variable.removeprefix(PREFIX).split("__")]
    if len(parts) > 1 and parts[0] == "peers":
        written = values.get("peers")
        known = {name.lower(): name for name in written} if isinstance(written, dict) else {}
        parts[1] = known.get(parts[1], parts[1])
    path: KeyPath = tuple(parts)
    for length in range(1, len(path) + 1):
        if field_annotation(model, path[:length]) is None:
            owner = model_of(model, path[: length - 1])
            names = list(owner.model_fields) if owner else []
            expected = (
                f"one of {', '.join(names)}{suggestion(str(path[length - 1]), names)}"
                if names
                else f"no key below {dotted(path[: length - 1])}; give it whole"
            )
            raise ConfigurationError(
                f"unknown key, expected {expected}", key_path=dotted(path), file=variable
            )
    return path


def _value(text: str, annotation: Any) -> Any:
    try:
        parsed = config_yaml.parse(text).values
        TypeAdapter(annotation).validate_python(parsed)
    except (ConfigurationError, ValidationError):
        pass
    else:
        return text if isinstance(parsed, str) else parsed
    try:
        TypeAdapter(annotation).validate_python(text)
    except ValidationError:
        # The whole is validated again with the file, where the error gets the variable's name.
        return _parsed_or_text(text)
    return text


def _parsed_or_text(text: str) -> Any:
    try:
        return config_yaml.parse(text).values
    except ConfigurationError:
        return text


def field_annotation(model: type[BaseModel], path: KeyPath) -> Any:
    """The annotation, with its constraints, of the setting at `path`; ``None``: no such key."""
    annotation: Any = model
    for part in path:
        base = _unwrapped(annotation)
        if typing.get_origin(base) is dict:
            annotation = typing.get_args(base)[1]
        elif typing.get_origin(base) is list and isinstance(part, int):
            annotation = typing.get_args(base)[0]
        elif isinstance(base, type) and issubclass(base, BaseModel) and part in base.model_fields:
            info = base.model_fields[str(part)]
            annotation = info.annotation
            if info.metadata:
                annotation = Annotated[annotation, *info.metadata]
        else:
            return None
    return annotation


def field_type(model: type[BaseModel], path: KeyPath) -> Any:
    """The bare type of the setting at `path`, ``None`` when there is no such key."""
    return _unwrapped(field_annotation(model, path))


def model_of(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """The settings class at `path`, when a class is there."""
    found = field_type(model, path)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _unwrapped(annotation: Any) -> Any:
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        given = [part for part in typing.get_args(annotation) if part is not type(None)]
        return _unwrapped(given[0]) if len(given) == 1 else annotation
    return annotation
