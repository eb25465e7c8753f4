"""``dicom-node run lungs-ct`` on every shared CT of the chest, beside the classical reference.

What counts as a chest CT is decided by the reference, not by the network: at least
`CHEST_FROM_ML` of lung; example_ct, an abdomen with the lowest tips of the lungs, has less and is
only told. Two more are declined: single slices, and an upper abdomen whose UIDs were emptied.
``pytest -s`` prints the table of all figures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ai_models.array.lungs_reference import lungs_reference
from dicom_node.imaging.scan import scan
from tests import dicom_samples
from tests.acceptance import masks, series
from tests.acceptance.running_node import dicom_node
from tests.shared_data import shared

CHEST_FROM_ML = 250.0
LEAST_DICE = 0.95
_TOTALSEGMENTATOR = ("data", "series", "ct_totalsegmentator", "tests", "reference_files")
_NIFTI = {
    "aorta_report ct_cropped": ("aorta_report", "test_result", "models", "ct_cropped.nii.gz"),
    "pulmonary_report ct_cropped": ("pulmonary_report", "models", "ct_cropped.nii.gz"),
    "example_ct": ("example_ct.nii.gz",),
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Row:
    """One line of the table; Dice against the reference."""

    name: str
    slices: int
    reference_ml: float
    both: float
    right: float
    left: float
    model_seconds: float
    verdict: str


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    """Figures of every series; printed at the end."""
    rows: list[Row] = []
    yield rows
    print("\n\n| series | slices | reference ml | Dice both | right | left | model s | verdict |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.name} | {row.slices} | {row.reference_ml:.0f} | {row.both:.4f} | "
            f"{row.right:.4f} | {row.left:.4f} | {row.model_seconds:.1f} | {row.verdict} |"
        )


def _rider(_folder: Path) -> list[Path]:
    return _files(shared(*series.RIDER))


def _converted(name: str) -> Callable[[Path], list[Path]]:
    return lambda folder: nifti_as_ct(_present(shared(*_TOTALSEGMENTATOR, *_NIFTI[name])), folder)


CASES: dict[str, Callable[[Path], list[Path]]] = {
    "ct_chest_rider_pilot": _rider,
    **{name: _converted(name) for name in _NIFTI},
}


@pytest.mark.parametrize("name", [
    # Half a minute each.
    pytest.param(one, marks=[pytest.mark.long] if one in _NIFTI else [])
    for one in CASES
])
def test_lungs_agree_with_the_classical_reference(
    tmp_path: Path, table: list[Row], name: str
) -> None:
    paths = CASES[name](tmp_path / "ct")
    loaded = masks.load(paths)
    reference = loaded.to_source_grid(
        lungs_reference(loaded.volume.array, loaded.volume.affine_lps)
    )
    entry = _run(paths, tmp_path / "out")
    found = np.zeros_like(reference)
    if entry["outcome"] == "result":
        found = masks.by_highdicom(tmp_path / "out" / "segmentation.dcm", loaded.source_images)

    voxel_ml = abs(np.linalg.det(masks.source_affine(loaded.source_images)[:3, :3])) / 1000.0
    reference_ml = float((reference > 0).sum()) * voxel_ml
    both = masks.dice(found > 0, reference > 0)
    right, left = (masks.dice(found == value, reference == value) for value in (1, 2))
    chest = reference_ml >= CHEST_FROM_ML
    verdict = ("passed" if both >= LEAST_DICE else "FAILED") if chest else "no chest CT"
    seconds = entry["seconds_by_stage"]["model"]
    table.append(Row(name, len(reference), reference_ml, both, right, left, seconds, verdict))
    if not chest:
        pytest.skip(f"no chest CT: {reference_ml:.0f} ml of lung by the reference; Dice {both:.3f}")
    assert both >= LEAST_DICE, table[-1]


def test_single_slices_are_declined_because_the_card_wants_a_stack(tmp_path: Path) -> None:
    folder = _present(shared("data", "dicom", "lungmask", "tests", "testdata"))
    paths = _files(folder)
    assert len(paths) < masks.lungs_card().input.min_slices
    assert _reason_of_decline(paths, tmp_path / "out") == "input.too_few_slices"


def test_series_that_names_no_study_is_declined_because_no_result_could_belong_to_it(
    tmp_path: Path,
) -> None:
    paths = _files(shared(*_TOTALSEGMENTATOR, "example_ct_dicom"))
    assert len(paths) == 20
    reason = _reason_of_decline(paths, tmp_path / "out", answered=False)
    assert reason == "input.invalid_uid"


@pytest.mark.parametrize("name", list(_NIFTI))
def test_converted_nifti_lies_where_the_nifti_lies(tmp_path: Path, name: str) -> None:
    import nibabel

    image = nibabel.Nifti1Image.from_filename(_present(shared(*_TOTALSEGMENTATOR, *_NIFTI[name])))
    values = np.asarray(image.dataobj)
    loaded = masks.load(nifti_as_ct(shared(*_TOTALSEGMENTATOR, *_NIFTI[name]), tmp_path))
    to_index = np.linalg.inv(loaded.volume.affine_lps)
    for index in np.random.default_rng(5).integers(0, values.shape, (200, 3)):
        ras = image.affine @ [*index, 1.0]
        place = np.rint(to_index @ (ras * [-1.0, -1.0, 1.0, 1.0]))[:3].astype(int)
        assert loaded.volume.array[tuple(place)] == values[tuple(index)]


def nifti_as_ct(path: Path, folder: Path) -> list[Path]:
    """A NIfTI CT (HU, RAS) as a DICOM series (LPS), one slice per third index, nothing flipped."""
    import nibabel

    image = nibabel.Nifti1Image.from_filename(path)
    affine: npt.NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    values = np.asarray(image.dataobj)
    assert np.array_equal(values, values.astype(np.int16)), "not whole HU"
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing_mm
    hu = np.ascontiguousarray(values.astype(np.int16).transpose(2, 1, 0))
    datasets = dicom_samples.ct_series(
        (hu.shape[0], hu.shape[1], hu.shape[2]),
        (float(spacing_mm[2]), float(spacing_mm[1]), float(spacing_mm[0])),
        [*directions[:, 0], *directions[:, 1]],
        list(affine[:3, 3]),
        values_hu=hu,
        slice_step_mm=list(affine[:3, 2]),
    )
    return dicom_samples.write_series(datasets, folder)


def _run(paths: list[Path], output: Path) -> dict[str, Any]:
    """Run the command on one series; its entry in ``predictions.json``, all files being there."""
    done = dicom_node("run", "lungs-ct", *paths, "--output", output)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((output / "predictions.json").read_text())["series"]
    expected = {"segmentation.dcm", "volumetric-report.dcm", "planar-report.dcm"}
    if entry["outcome"] == "no_finding":
        expected = {"negative-report.dcm"}
    assert {path.name for path in output.glob("*.dcm")} == expected == set(entry["objects"])
    assert len(list(output.glob("overlay_*.png"))) == 3
    result: dict[str, Any] = entry
    return result


def _reason_of_decline(paths: list[Path], output: Path, *, answered: bool = True) -> str:
    done = dicom_node("run", "lungs-ct", *paths, "--output", output)
    assert done.returncode == 1, done.stderr
    (entry,) = json.loads((output / "predictions.json").read_text())["series"]
    assert entry["outcome"] == "declined"
    assert entry["reason"] in done.stderr
    written = ["not-analysed-report.dcm"] if answered else []
    assert [path.name for path in output.glob("*.dcm")] == entry["objects"] == written
    return str(entry["reason"])


def _files(folder: Path) -> list[Path]:
    found, _ = scan([_present(folder)])
    (paths,) = found.values()
    return paths


def _present(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"shared data not found: {path}")
    return path
