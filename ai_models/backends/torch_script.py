"""What the program of a TorchScript file may call: computation, and neither files nor networks.

TorchScript has operations that write any file of this account (``torch.save``, a shared
``torch.from_file``) or open connections, below everything that Python could watch, and
`torch.jit.load` runs parts of a file by itself. So its source, which lies in the archive as text
(``code/**.py``, torch/csrc/jit/serialization/export_module.cpp), is read before torch sees it.
Whoever can run such a file may still keep a processor busy: that ends with the job's deadline.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib

from ai_models.types import ModelError

# Between a name and its bracket the language allows blanks, comments and continued lines.
_CALLED = r"(?:\s|\\|#[^\n]*\n)*\("
_FORBIDDEN = re.compile(
    rf"(?<!\w)(save|from_file|load_tensor|rpc_\w+|remote|PythonOp|IgnoredPythonOp){_CALLED}"
)
_NAMESPACE = re.compile(r"(?<!\w)ops\s*\.\s*(\w+)")
_NAMESPACES = frozenset({
    "aten", "prim", "prims", "quantized", "_quantized", "torchvision", "mkldnn",
    "mkldnn_prepacked", "onednn", "sparse", "quantization",
})
_CLASSES = re.compile(r"torch\s*\.\s*classes\s*\.\s*(\w+)")
_CLASS_NAMESPACES = frozenset({"quantized", "xnnpack", "mkldnn"})
_LARGEST_SOURCE = 1 << 26


def check_script(content: bytes, name: str) -> None:
    """Refuse a TorchScript file whose program reaches beyond computing.

    Raises
    ------
    ModelError
        ``model.code``: it calls what touches files or other hosts. ``model.load_failed``: it is
        no file of `torch.jit.save`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if len({one.filename.lower() for one in entries}) != len(entries):
                raise ModelError(f"{name} holds two files of one name", reason=_FAILED)
            source = [one for one in entries if "code/" in one.filename.lower()]
            for entry in source:
                if entry.file_size > _LARGEST_SOURCE:
                    raise ModelError(f"{entry.filename} is too large", reason=_FAILED)
                _check_source(archive.read(entry).decode("utf-8", "replace"), name)
            for entry in entries:
                if entry.filename.lower().endswith(".pkl"):
                    _check_classes(archive.read(entry).decode("latin-1"), name)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError) as error:
        raise ModelError(
            f"{name} is no file of torch.jit.save: {error}", reason=_FAILED
        ) from error


def _check_source(text: str, name: str) -> None:
    called = _FORBIDDEN.search(text)
    if called is not None:
        raise _refused(name, called[1])
    for found in _NAMESPACE.findall(text):
        if found not in _NAMESPACES:
            raise _refused(name, f"ops.{found}")
    _check_classes(text, name)


def _check_classes(text: str, name: str) -> None:
    for found in _CLASSES.findall(text):
        if found not in _CLASS_NAMESPACES:
            raise _refused(name, f"torch.classes.{found}")


def _refused(name: str, what: str) -> ModelError:
    return ModelError(
        f"{name} calls {what}, which reaches files or other hosts: a network only computes",
        reason="model.code",
    )


_FAILED = "model.load_failed"
