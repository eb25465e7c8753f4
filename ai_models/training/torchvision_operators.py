"""Two operators that torchvision misses where it was built for CUDA and torch was not.

The one wheel of torchvision that package indices have is built for CUDA, and its import fails
beside a torch for CPUs. The operators are declared, not implemented: no backbone calls them. For
training on a machine without a GPU only; a node serves what was exported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

_kept: list[Any] = []  # a torch library that is let go takes its operators with it


def declare_missing_operators() -> bool:
    """Make torchvision importable where this is all that it lacks; whether anything was declared.
    """
    import torch

    found = importlib.util.find_spec("torchvision")
    version = Path(found.origin or "").with_name("version.py") if found is not None else None
    if version is None or not version.is_file() or "+cu" not in version.read_text():
        return False
    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms"):
        return False
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)
    return True
