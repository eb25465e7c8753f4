"""A chest with nodules: the same from the same seed, and read as a scanner's by the node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from ai_models.training.phantoms.chest import LOBES, NoduleChest, nodule_chest
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.nodule_studies import write_study
from ai_models.training.phantoms.scanners import SCANNERS
from dicom_node.imaging.volume import load_volume

FIELD_MM = (90.0, 260.0, 320.0)
SCANNER = SCANNERS[2]


@pytest.fixture(scope="module")
def chest() -> NoduleChest:
    return nodule_chest(3, SCANNER, 4, field_mm=FIELD_MM)


def test_the_same_seed_is_the_same_chest(chest: NoduleChest) -> None:
    again = nodule_chest(3, SCANNER, 4, field_mm=FIELD_MM)
    np.testing.assert_array_equal(again.volume_hu, chest.volume_hu)
    np.testing.assert_array_equal(again.label_map, chest.label_map)


def test_nodules_grow_by_the_factor_asked_for_and_stay_where_they_are(chest: NoduleChest) -> None:
    later = nodule_chest(3, SCANNER, 4, field_mm=FIELD_MM, growth=2.0)
    for before, after in zip(chest.nodules, later.nodules, strict=True):
        assert after.nodule.centre_lps_mm == before.nodule.centre_lps_mm
        assert after.nodule.volume_ml == pytest.approx(2.0 * before.nodule.volume_ml)
    # Neither cut by the pleura nor by the end of the images.
    whole = [
        (before, after) for before, after in zip(chest.nodules, later.nodules, strict=True)
        if after.volume_ml == pytest.approx(after.nodule.volume_ml, rel=0.02)
    ]
    assert whole
    for before, after in whole:
        assert after.volume_ml == pytest.approx(2.0 * before.volume_ml, rel=0.03)


def test_lobes_lie_in_the_order_of_the_patient(chest: NoduleChest) -> None:
    heights = [
        float(np.argwhere(chest.lobes == number)[:, 0].mean()) for number in range(1, 6)
    ]
    upper_right, middle, lower_right, upper_left, lower_left = heights
    assert upper_right > middle
    assert upper_right > lower_right
    assert upper_left > lower_left
    assert all(chest.lobe_of(one) in LOBES for one in chest.nodules if one.voxels)


def test_as_dicom_the_node_reads_the_very_chest(chest: NoduleChest, tmp_path: Path) -> None:
    paths = write_study(tmp_path, PhantomStudy("nodules-3"), chest)
    volume = load_volume(paths).volume
    np.testing.assert_array_equal(volume.array, chest.volume_hu)
    np.testing.assert_allclose(volume.affine_lps, chest.affine_lps, atol=1e-4)
    truth: Any = nibabel.load(tmp_path / "truth.nii.gz")
    mask = np.asarray(truth.dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(mask, chest.label_map)
    told = json.loads((tmp_path / "truth.json").read_text())
    assert [one["kind"] for one in told["nodules"]] == [n.nodule.kind for n in chest.nodules]
