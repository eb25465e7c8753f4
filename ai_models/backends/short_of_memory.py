"""A back-end whose network finds no memory at its first call, for the conformance suite."""

from __future__ import annotations

from typing import Any

import torch

from ai_models.backends.protocol import Backend
from ai_models.backends.tiled import TiledBackend


def fail_once(backend: Backend) -> bool:
    """Let the next call of the network fail as torch does without memory; the one after works.

    Returns whether the back-end has a network that can be made to fail: those that bring their
    own inference have not.
    """
    if not isinstance(backend, TiledBackend):
        return False
    network = backend.networks[0]
    for name in ("run", "detect"):
        setattr(network, name, _failing_once(network, name))
    return True


def _failing_once(network: Any, name: str) -> Any:
    whole = getattr(network, name)

    def run(*given: Any) -> Any:
        setattr(network, name, whole)
        raise torch.OutOfMemoryError("CUDA out of memory, simulated by the conformance suite")

    return run
