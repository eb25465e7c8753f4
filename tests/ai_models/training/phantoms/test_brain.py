"""Drawn heads: each kind of tumour lies where it should, and is written as MR."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ai_models.training.phantoms.brain import (
    HEAD_SCANNERS,
    KINDS,
    BrainVariation,
    brain_phantom,
    random_brain,
    random_head_scanner,
    write_brain,
)
from ai_models.training.phantoms.dicom_files import PhantomStudy
from dicom_node.imaging.volume import load_volume


def middle_mm(kind: str, seed: int = 3) -> np.ndarray:
    variation = random_brain(np.random.default_rng(seed), kind)
    phantom = brain_phantom(seed, variation)
    index = np.argwhere(phantom.tumour).mean(axis=0)
    return np.asarray((phantom.affine_lps @ np.array([*index, 1.0]))[:3])


@pytest.mark.parametrize("seed", range(2))
def test_each_kind_lies_where_it_should(seed: int) -> None:
    x, y, z = middle_mm("pituitary", seed)
    assert abs(x) < 8 and z < -25 and -30 < y < 5
    away = np.linalg.norm(middle_mm("meningioma", seed) / (65.0, 83.0, 77.0))
    assert away > 0.75
    inside = np.linalg.norm(middle_mm("glioma", seed) / (65.0, 83.0, 77.0))
    assert inside < 0.8 and abs(middle_mm("glioma", seed)[0]) > 12


def test_a_glioma_is_dark_inside_and_a_meningioma_is_not() -> None:
    signal = {}
    for kind in ("glioma", "meningioma"):
        phantom = brain_phantom(5, BrainVariation(kind, radius_mm=18.0))
        index = np.round(np.argwhere(phantom.tumour).mean(axis=0)).astype(int)
        inside = phantom.signal[phantom.tumour > 0]
        signal[kind] = phantom.signal[tuple(index)] / np.percentile(inside, 90)
    assert signal["glioma"] < 0.5 < 0.8 < signal["meningioma"]


def test_slices_have_the_kind_that_they_show() -> None:
    phantom = brain_phantom(1, BrainVariation("meningioma", radius_mm=15.0))
    kinds = phantom.slice_kinds()
    assert set(kinds.tolist()) <= {-1, 0, KINDS.index("meningioma")}
    assert (kinds[phantom.tumour.any(axis=(1, 2))] != 0).all()
    assert not brain_phantom(1, BrainVariation()).slice_kinds().any()


def test_a_slice_that_shows_only_what_swells_about_a_glioma_is_not_called_normal() -> None:
    phantom = brain_phantom(1, BrainVariation("glioma", radius_mm=18.0))
    is_only_swollen = phantom.swelling.any(axis=(1, 2)) & ~phantom.tumour.any(axis=(1, 2))
    assert is_only_swollen.any()
    assert (phantom.slice_kinds()[is_only_swollen] == -1).all()


def test_a_series_is_read_again_where_it_was_drawn(tmp_path: Path) -> None:
    scanner = HEAD_SCANNERS[2]
    phantom = brain_phantom(2, BrainVariation("glioma"), scanner)
    paths = write_brain(tmp_path, PhantomStudy("head-2", sex="F"), phantom, scanner)
    loaded = load_volume(paths)
    assert np.allclose(loaded.volume.affine_lps, phantom.affine_lps, atol=1e-3)
    assert np.array_equal(loaded.volume.array, phantom.signal)
    if shutil.which("dciodvfy"):
        said = subprocess.run(
            ["dciodvfy", "-new", str(paths[0])], capture_output=True, text=True, check=False)
        lines = (said.stdout + said.stderr).splitlines()
        assert [line for line in lines if line.startswith("Error")] == []


def test_any_head_can_be_drawn_and_no_unknown_one() -> None:
    rng = np.random.default_rng(8)
    phantom = brain_phantom(8, random_brain(rng, "pituitary"), random_head_scanner(rng))
    assert phantom.signal.dtype == np.int16 and phantom.tumour.any()
    with pytest.raises(ValueError, match="meningioma"):
        brain_phantom(1, BrainVariation("abscess"))
