"""Bundles of the tests, loaded and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.backends.monai_bundle import MonaiBundleBackend
from ai_models.backends.protocol import Answer, NetworkInput
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.tiny_models import LUNG, STRUCTURE

# Never nearer than 5 HU to where a label begins.
HU = (np.linspace(-20, 70, 24 * 20 * 28) // 1 * 10 + 5).astype(np.float32).reshape(1, 24, 20, 28)
RAS_2_MM = np.diag([-2.0, -2.0, 2.0, 1.0])  # in LPS
RADIOGRAPH = {"kind": "image", "modality": ["DX"], "intensity": {"unit": "displayed"}}


def trusting(folder: Path) -> Site:
    return Site(trusted_folders=(folder,))


def opened(folder: Path, site: Site | None = None) -> MonaiBundleBackend:
    backend = MonaiBundleBackend(load_card(folder), "cpu", site or trusting(folder))
    backend.load()
    return backend


def predict(
    folder: Path, array: np.ndarray = HU, affine_lps: np.ndarray | None = RAS_2_MM
) -> Answer:
    spacing_mm = () if affine_lps is None else tuple(np.linalg.norm(affine_lps[:3, :3], axis=0))
    return opened(folder).predict(NetworkInput(array, affine_lps, spacing_mm))


def refused(folder: Path, site: Site | None = None) -> ModelError:
    with pytest.raises(ModelError) as raised:
        opened(folder, site)
    return raised.value


def card_labels(*values: int) -> list[dict[str, Any]]:
    return [
        {"value": value, "name": f"label {value}", "category": STRUCTURE, "type": LUNG,
         "color_rgb": [value, 0, 0]}
        for value in values
    ]


def bright(array: np.ndarray = HU) -> np.ndarray:
    return (array[0] > 100).astype(np.uint8)


def with_postprocessing(*steps: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {"postprocessing": {"_target_": "Compose", "transforms": list(steps)}, **parts}
