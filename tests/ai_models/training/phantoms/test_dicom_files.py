"""Phantoms as files: valid CT images, identifiers that follow from the name, nobody's data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from ai_models.training.phantoms.dicom_files import (
    PhantomStudy,
    ct_header,
    write_ct,
    write_slices,
)
from ai_models.training.phantoms.scanners import SCANNERS
from dicom_node.imaging.volume import load_volume

AFFINE = np.array(
    [[0.0, 0.0, 0.8, -20.0], [0.0, 0.7, 0.0, -30.0], [2.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0]]
)
HU = np.random.default_rng(0).integers(-1024, 3000, (5, 8, 9)).astype(np.int16)


def test_the_node_reads_values_and_place_as_they_were_written(tmp_path: Path) -> None:
    turned = AFFINE.copy()
    c, s = np.cos(0.3), np.sin(0.3)
    turned[:3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ AFFINE[:3]
    for folder, affine in (("straight", AFFINE), ("oblique", turned)):
        paths = write_ct(tmp_path / folder, PhantomStudy("a"), SCANNERS[0], HU, affine)
        volume = load_volume(paths).volume
        np.testing.assert_array_equal(volume.array, HU)
        np.testing.assert_allclose(volume.affine_lps, affine, atol=1e-5)
        assert volume.unit == "HU"


def test_the_same_name_is_the_same_study_and_another_is_another(tmp_path: Path) -> None:
    first, again, other = (
        pydicom.dcmread(write_ct(tmp_path / str(i), PhantomStudy(name), SCANNERS[0], HU, AFFINE)[0])
        for i, name in enumerate(["a", "a", "b"])
    )
    assert first == again
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"):
        assert first[keyword].value != other[keyword].value
    assert first.PatientName == "Phantom^a"
    assert first.StudyInstanceUID.startswith("2.25.")
    assert first.StudyInstanceUID.is_valid


def test_headers_say_the_scanner(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, PhantomStudy("a"), SCANNERS[1], HU, AFFINE)
    one = pydicom.dcmread(paths[2])
    assert (one.Manufacturer, one.ConvolutionKernel) == ("Phantom Works", "LUNG")
    assert float(one.SliceThickness) == SCANNERS[1].slice_thickness_mm
    assert [float(mm) for mm in one.PixelSpacing] == [0.7, 0.8]
    assert one.InstanceNumber == 3


def test_arrays_that_are_no_slices_of_16_bits_are_refused(tmp_path: Path) -> None:
    for wrong in (HU[0], HU.astype(np.int32)):
        with pytest.raises(ValueError, match="slices of 16 bits"):
            write_slices(tmp_path, PhantomStudy("a"), ct_header(SCANNERS[0]), wrong, AFFINE)
