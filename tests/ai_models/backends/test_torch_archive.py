"""An export that holds more than tensors and operations on them is not opened."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ai_models.backends.torch_archive import check_archive
from ai_models.types import ModelError


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.putenv, ("DICOM_NODE_EVIL", "1"))


def saved(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


class Twice(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.cat([windows, windows * self.factor], dim=1)


def exported() -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(
        Twice(), (torch.zeros(2, 1, 4, 4, 4),),
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=8)},)), buffer)
    return buffer.getvalue()


def changed(content: bytes, change: Callable[[str, bytes], bytes | None],
            **more: bytes) -> bytes:
    """The same archive with other files in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            answer = change(entry.filename, old.read(entry))
            if answer is not None:
                new.writestr(entry.filename, answer)
        for name, extra in more.items():
            new.writestr(f"archive/{name.replace('__', '/')}", extra)
    return buffer.getvalue()


def in_model(old: str, new: str) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith(".json"):
            return content
        assert not name.endswith("model.json") or re.search(old.encode(), content)
        return re.sub(old.encode(), new.encode(), content)

    return change


@pytest.mark.parametrize(
    ("change", "more", "reason"),
    [
        (in_model("torch.ops.aten.cat.default", "torch.hub.load"), {}, "model.code"),
        (in_model("torch.ops.aten.cat.default", "_operator.methodcaller"), {}, "model.code"),
        (in_model("torch.ops.aten.cat.default", "torch.ops.aten.from_file.default"), {},
         "model.code"),
        (in_model(r'"s\d+"', '"__import__(\'os\').getcwd()"'), {}, "model.code"),
        (in_model("Symbol", "open"), {}, "model.code"),
        (lambda name, content: content.replace(b'"use_pickle": false', b'"use_pickle": true'), {},
         "model.pickle"),
        (lambda _name, content: content, {"data__constants__opaque_obj_0": b"x"}, "model.pickle"),
        (lambda _name, content: content, {"data__aotinductor__model__a.so": b"x"}, "model.code"),
        (lambda _name, content: content, {"MODELS__model.json": b"{}"}, "model.load_failed"),
        (lambda name, content: saved({"a": _Evil()}) if name.endswith(".pt") else content, {},
         "model.pickle"),
        (lambda name, content: None if name.endswith("archive_format") else content, {},
         "model.load_failed"),
    ],
)
def test_export_that_holds_more_than_tensors_is_not_opened(
    change: Callable[[str, bytes], bytes | None], more: dict[str, bytes],
    reason: str,
) -> None:
    with pytest.raises(ModelError) as caught:
        check_archive(changed(exported(), change, **more), "w.pt2")
    assert caught.value.reason == reason


def test_plain_export_is_let_in() -> None:
    check_archive(exported(), "w.pt2")


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 and no more"])
def test_what_is_no_archive_is_an_error(content: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        check_archive(content, "w.pt2")
    assert caught.value.reason == "model.load_failed"
