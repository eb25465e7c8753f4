"""Whether torch and torchvision were built for each other, in words for whoever installs them."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version

# Its operators are in a library that torch could not load, or that lacks what it was linked with.
_OTHER_BUILD = ("operator torchvision::", "undefined symbol", "cannot open shared object")


def why_no_torchvision() -> str:
    """Why torchvision cannot be imported, and what to do; empty when it can.

    Packages of the same versions come in builds for one processor or GPU each, from an index of
    its own. A torchvision of another build than torch fails at its first operator, and libraries
    that use it say only that one of their own classes cannot be imported.
    """
    try:
        importlib.import_module("torchvision")
    # Whatever its own code raises while it begins: there is no narrower type.
    except Exception as error:  # noqa: BLE001
        said = " ".join(str(error).split())[:200]
    else:
        return ""
    try:
        torch, vision = version("torch"), version("torchvision")
    except PackageNotFoundError:
        return f"torchvision cannot be imported: {said}"
    if not any(words in said for words in _OTHER_BUILD):
        return f"torchvision {vision} cannot be imported: {said}"
    return (
        f"torchvision cannot be imported: {said}. torch {torch} and torchvision {vision} are of "
        "different builds: install both from one index (with make, the same PIP_OPTIONS for every "
        "target)"
    )
