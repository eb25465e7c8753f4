"""Imports MONAI without what it would take along, where a network or an explanation needs it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

_TAKEN_ALONG = "transformers"


def import_monai() -> None:
    """Import MONAI without transformers, which costs a worker more time than all the rest of it.

    MONAI has it for one network, Transchex, which no card can name; for a bundle, whose
    configuration may, there is `complete_monai`.
    """
    if "monai" in sys.modules or _TAKEN_ALONG in sys.modules:
        return
    # What an import finds there as None it takes for a package that is not installed.
    sys.modules[_TAKEN_ALONG] = None  # type: ignore[assignment]
    try:
        importlib.import_module("monai")
    finally:
        del sys.modules[_TAKEN_ALONG]


def names_transchex(folder: Path) -> bool:
    """Whether a bundle's configuration, or code of its own, names the one that needs it."""
    return any(
        b"ranschex" in file.read_bytes()
        for file in folder.rglob("*")
        if file.suffix in (".json", ".yaml", ".yml", ".py") and file.is_file()
    )


def complete_monai() -> None:
    """Give MONAI, as `import_monai` left it, what it was imported without.

    A worker keeps models of several kinds: the bundle may come after a network that came alone.
    """
    transchex = importlib.import_module("monai.networks.nets.transchex")
    if not transchex.transformers[1]:
        importlib.reload(transchex)
