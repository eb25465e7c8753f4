"""Pictures written as radiographs are shown as they were given, and are valid DICOM."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.radiograph_files import (
    CHEST,
    HAND,
    WRIST,
    write_radiograph,
)
from dicom_node.imaging.radiograph import load_radiograph

PICTURE = np.add.outer(np.arange(48) / 100.0, np.arange(64) / 130.0)
WAYS: list[dict[str, Any]] = [
    {}, {"photometric": "MONOCHROME1"}, {"modality": "CR"}, {"magnification": 0.0},
    {"modality": "CR", "photometric": "MONOCHROME1", "bits": 10},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_picture_is_displayed_as_it_was_given(way: dict[str, Any], tmp_path: Path) -> None:
    header = replace(HAND, **way)
    path = write_radiograph(tmp_path, PhantomStudy("hand-1", age_y=8), header, PICTURE)
    shown = load_radiograph(path)
    assert np.abs(shown.image.array - PICTURE).max() < 1.0 / (1 << header.bits)
    spacing = shown.image.pixel_spacing_mm
    assert spacing is not None
    assert spacing[0] == pytest.approx(0.2 / (header.magnification or 1.0), rel=1e-4)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
@pytest.mark.parametrize("header", [CHEST, HAND, WRIST], ids=lambda one: one.body_part)
def test_a_validator_finds_nothing_wrong(header: Any, tmp_path: Path) -> None:
    for number, way in enumerate([*WAYS, {"is_for_presentation": False}]):
        path = write_radiograph(
            tmp_path, PhantomStudy("x-1"), replace(header, **way), PICTURE, number=number + 1
        )
        found = subprocess.run(
            ["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False
        )
        lines = (found.stdout + found.stderr).splitlines()
        assert [one for one in lines if one.startswith(("Error", "Warning"))] == []


def test_the_same_phantom_is_the_same_study_and_says_what_it_is_of(tmp_path: Path) -> None:
    study = PhantomStudy("wrist-1", sex="F", age_y=61)
    first, second = (
        pydicom.dcmread(write_radiograph(tmp_path / name, study, WRIST, PICTURE)) for name in "ab"
    )
    assert first.SOPInstanceUID == second.SOPInstanceUID
    assert (first.BodyPartExamined, first.ViewPosition, first.ImageLaterality) == (
        "WRIST", "PA", "L")
    assert first.PresentationIntentType == "FOR PRESENTATION"
    assert (first.PatientSex, first.PatientAge) == ("F", "061Y")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 axes"):
        write_radiograph(tmp_path, PhantomStudy("x"), HAND, PICTURE[None])
