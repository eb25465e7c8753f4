"""Imports MONAI without what it would take along."""

from __future__ import annotations

import importlib
import sys

_TAKEN_ALONG = "transformers"


def import_monai() -> None:
    """Import MONAI without transformers, which costs a worker more time than all the rest of it.

    MONAI has it for one network, Transchex, which no card can name. A bundle, whose configuration
    may, imports MONAI whole; so does whoever has transformers already.
    """
    if "monai" in sys.modules or _TAKEN_ALONG in sys.modules:
        return
    # What an import finds there as None it takes for a package that is not installed.
    sys.modules[_TAKEN_ALONG] = None  # type: ignore[assignment]
    try:
        importlib.import_module("monai")
    finally:
        del sys.modules[_TAKEN_ALONG]
