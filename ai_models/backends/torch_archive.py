"""What a ``torch.export`` file (``.pt2``) may hold: a graph of tensor operations, and numbers.

`torch.export.load` unpickles objects, loads compiled libraries and evaluates expressions that it
finds in the archive. A file that holds any of that is refused before it is opened, so that a
``.pt2`` is as harmless as an ONNX file. Layout: ``torch/export/pt2_archive/constants.py`` of
torch 2.13.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from ai_models.types import ModelError

_TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|torchvision)\.(?!from_file)\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|wrap_with_(autocast|set_grad_enabled))"
    r"|torch\.sym_\w+|torch\.(_check|_check_is_size)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
# Numbers, names and arithmetic: nothing that could reach an attribute or a text.
_EXPRESSION = re.compile(r"(?:[A-Za-z0-9_+\-*/%()<>=!&|~, ]|(?<=\d)\.(?=\d))*")
_SYMBOL = re.compile(r"Symbol\('[a-z]+\d+'(, [a-z]+=(True|False))*\)")
_WATCHED = ("use_pickle", "target", "expr_str")
_CODE = ("/data/aotinductor/", "/data/constants/custom_obj_", "/data/constants/opaque_obj_")
_LARGEST_JSON = 1 << 28


def check_archive(content: bytes, name: str) -> None:
    """Refuse an archive that holds anything but operations and numbers.

    Raises
    ------
    ModelError
        ``model.pickle``: there are pickled objects; ``model.code``: compiled code, or operations
        beyond torch's own; ``model.load_failed``: no archive of `torch.export.save`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_names(archive, name)
            for entry in archive.infolist():
                _check_entry(archive, entry, name)
    except (zipfile.BadZipFile, ValueError, KeyError, RecursionError) as error:
        raise ModelError(
            f"{name} is no file of torch.export.save: {error}", reason="model.load_failed"
        ) from error


def _check_names(archive: zipfile.ZipFile, name: str) -> None:
    names = [one.lower() for one in archive.namelist()]
    if len(set(names)) != len(names):
        raise ModelError(f"{name} holds two files of one name", reason="model.load_failed")
    if not any(one.endswith("/archive_format") for one in names):
        raise ModelError(
            f"{name} was written by an older torch, or is none of its files: export it anew",
            reason="model.load_failed",
        )
    for one in names:
        if any(part in f"/{one}" for part in _CODE):
            kind = "model.code" if "aotinductor" in one else "model.pickle"
            raise ModelError(f"{name} holds more than tensors: {one}", reason=kind)


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> None:
    if entry.filename.lower().endswith(".json"):
        if entry.file_size > _LARGEST_JSON:
            raise ModelError(f"{entry.filename} is too large", reason="model.load_failed")
        for key, value in _walk(json.loads(archive.read(entry))):
            _check_value(key, value, name)
    elif entry.filename.lower().endswith(".pt"):
        # torch falls back to unpickling anything where this fails.
        try:
            torch.load(io.BytesIO(archive.read(entry)), map_location="cpu", weights_only=True)
        except Exception as error:  # what it raises is named after the module it protects from
            raise ModelError(
                f"{name} holds pickled objects in {entry.filename}: export it with tensors as its "
                "only inputs", reason="model.pickle",
            ) from error


def _check_value(key: str, value: Any, name: str) -> None:
    if key == "use_pickle" and value is not False:
        raise ModelError(f"{name} holds pickled tensors: export plain ones", reason="model.pickle")
    if key == "target" and not _TARGETS.fullmatch(str(value)):
        raise ModelError(
            f"{name} calls {str(value)[:80]!r}, which is none of torch's own operations",
            reason="model.code",
        )
    expression = _SYMBOL.sub("s", str(value)) if key == "expr_str" else ""
    if "__" in expression or not _EXPRESSION.fullmatch(expression):
        raise ModelError(
            f"{name} holds an expression that is no arithmetic: {str(value)[:80]!r}",
            reason="model.code",
        )


def _walk(document: Any) -> Iterator[tuple[str, Any]]:
    """The keys that matter, at any depth, with their values; names of ranges are expressions."""
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            for key, value in one.items():
                if key == "range_constraints" and isinstance(value, dict):
                    yield from (("expr_str", symbol) for symbol in value)
                    waiting.extend(value.values())
                elif key in _WATCHED:
                    yield key, value
                elif isinstance(value, dict | list):
                    waiting.append(value)
