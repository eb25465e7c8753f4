"""What is written is read by the node as what was drawn: phases in order, SUV, clots in place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ai_models.training.phantoms.angiography import angiography_phantom
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.dynamic import MR_SCANNERS, DynamicVariation, dynamic_phantom
from ai_models.training.phantoms.examination_files import (
    TIME_TAGS,
    clock,
    write_angiography,
    write_dynamic,
    write_petct,
)
from ai_models.training.phantoms.pet import PET_SCANNERS, PetCtVariation, petct_phantom
from ai_models.training.phantoms.scanners import SCANNERS
from dicom_node.imaging.phases import load_phases
from dicom_node.imaging.suv import to_suv
from dicom_node.imaging.volume import VolumeLimits, load_volume

LIMITS = VolumeLimits()


@pytest.mark.parametrize("tag", TIME_TAGS)
def test_phases_are_read_in_their_order_by_each_of_the_tags(tmp_path: Path, tag: str) -> None:
    scanner = MR_SCANNERS[0]
    phantom = dynamic_phantom(3, (8, 24, 40), (9.0, 8.0, 8.0), DynamicVariation(), scanner)
    paths = write_dynamic(tmp_path, PhantomStudy("dynamic-3"), phantom, scanner, tags=[tag])
    shuffled = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]
    read = load_phases(shuffled, LIMITS, 2, 10)
    assert len(read.volumes) == len(phantom.times_s)
    for drawn, volume in zip(phantom.phases, read.volumes, strict=True):
        assert np.array_equal(drawn, volume.volume.array)
    if tag != "TemporalPositionIdentifier":
        assert read.times_s == pytest.approx(phantom.times_s)


def test_a_tag_that_says_no_time_is_refused(tmp_path: Path) -> None:
    phantom = dynamic_phantom(3, (4, 16, 24), (16.0, 8.0, 8.0))
    with pytest.raises(ValueError, match="EchoTime"):
        write_dynamic(
            tmp_path, PhantomStudy("x"), phantom, MR_SCANNERS[0], tags=["EchoTime"]
        )


def test_a_pet_has_the_uptake_that_was_drawn_and_shares_the_frame_of_the_ct(
    tmp_path: Path,
) -> None:
    scanner = replace(SCANNERS[0], spacing_mm=(6.0, 6.0, 6.0))
    phantom = petct_phantom(3, (40, 48, 60), (6.0, 6.0, 6.0), PetCtVariation(), scanner)
    ct, pet = write_petct(
        tmp_path, PhantomStudy("pet-ct-3"), phantom, scanner, PET_SCANNERS[0]
    )
    read = to_suv(load_volume(pet, LIMITS)).volume
    assert read.array.shape == phantom.suv.shape and read.unit == "SUVbw"
    assert np.abs(read.array - phantom.suv).max() < 1e-3
    assert np.allclose(read.affine_lps, phantom.pet_affine_lps, atol=1e-4)
    headers = [pydicom.dcmread(paths[0], stop_before_pixels=True) for paths in (ct, pet)]
    assert headers[0].FrameOfReferenceUID == headers[1].FrameOfReferenceUID
    assert headers[0].StudyInstanceUID == headers[1].StudyInstanceUID
    assert headers[0].SmokingStatus == "NO" and headers[0].PatientAge == "060Y"


def test_what_is_not_known_of_a_patient_is_not_written(tmp_path: Path) -> None:
    variation = PetCtVariation()
    unknown = replace(
        variation, patient=replace(variation.patient, age_y=None, sex=None, smokes=None)
    )
    phantom = petct_phantom(3, (20, 24, 30), (12.0, 12.0, 12.0), unknown)
    ct, _ = write_petct(tmp_path, PhantomStudy("x"), phantom, SCANNERS[0], PET_SCANNERS[0])
    header = pydicom.dcmread(ct[0], stop_before_pixels=True)
    assert "PatientAge" not in header and "SmokingStatus" not in header
    assert header.PatientSex == ""


def test_an_angiography_is_read_as_drawn_with_its_clots_beside_it(tmp_path: Path) -> None:
    phantom = angiography_phantom(3, (40, 64, 80), (7.0, 4.0, 4.0))
    paths = write_angiography(tmp_path, PhantomStudy("angiography-3"), phantom, SCANNERS[0])
    read = load_volume(paths, LIMITS).volume
    assert np.abs(read.array - phantom.volume_hu).max() <= 1
    assert np.allclose(read.affine_lps, phantom.affine_lps, atol=1e-4)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["slices_with_clot"] == np.flatnonzero(phantom.slices_with_clot).tolist()


def test_a_clock_goes_on_over_minutes_and_hours() -> None:
    assert clock("120000", 75.5) == "120115.500000"
    assert clock("095930", 90.0) == "100100.000000"
