"""What is written is read as what it was: the same values at the same places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_models.array.phantom_head import head_phantom
from ai_models.array.phantom_radiograph import radiograph_phantom
from ai_models.types import Image, Volume
from dicom_node.cli.generated_series import IMAGES, VOLUMES, Description, write_series
from dicom_node.pipeline.loading import load_input


def told(modality: str) -> Description:
    return Description("test", 1, modality, "PHANTOM", "P-1", "Phantom", "Generated")


@pytest.mark.parametrize("modality", VOLUMES)
def test_volume_comes_back(tmp_path: Path, modality: str) -> None:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 6.0, 1 / 0.3, 4.1, 1.0
    affine[:3, 3] = (-70.123456, -240.5, 740.0)
    unit = "HU" if modality == "CT" else "arbitrary"
    source = head_phantom((24, 40, 36), affine, unit)
    loaded = load_input(write_series(source, tmp_path, told(modality)))
    found = loaded.model_input
    assert isinstance(found, Volume)
    assert found.unit == unit
    np.testing.assert_array_equal(found.array, source.array)
    np.testing.assert_allclose(found.affine_lps, affine, atol=1e-5)
    assert loaded.notes == ()


@pytest.mark.parametrize("modality", IMAGES)
def test_image_comes_back(tmp_path: Path, modality: str) -> None:
    source = radiograph_phantom((95, 85))
    loaded = load_input(write_series(source, tmp_path, told(modality)))
    found = loaded.model_input
    assert isinstance(found, Image)
    np.testing.assert_allclose(found.array, source.array, atol=1 / 4095)
    assert found.pixel_spacing_mm == pytest.approx(source.pixel_spacing_mm)
    assert loaded.notes == ()


def test_same_description_gives_the_same_series(tmp_path: Path) -> None:
    source = radiograph_phantom((10, 12))
    first = write_series(source, tmp_path / "a", told("DX"))[0].read_bytes()
    assert write_series(source, tmp_path / "b", told("DX"))[0].read_bytes() == first
