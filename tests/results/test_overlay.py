from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ai_models.types import LabelMap, Volume
from dicom_node.results.overlay import write_overlays
from tests.results import samples

GREY = np.full(samples.SHAPE, 80, np.uint8)
RIGHT_RGB, LEFT_RGB = samples.RIGHT.color_rgb, samples.LEFT.color_rgb


def volume_of(affine: npt.NDArray[np.float64]) -> Volume:
    return Volume(np.full(samples.SHAPE, -800, np.int16), affine)


def axial_affine() -> npt.NDArray[np.float64]:
    return samples.affine_lps(samples.ct())


def columns_of(path: Path, rgb: tuple[int, int, int]) -> tuple[float, float]:
    """Mean row and column of the outline drawn in ``rgb``, above the legend."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    rows, columns = np.nonzero((picture == rgb).all(axis=2))
    inside = rows < picture.shape[0] - 90
    assert inside.any()
    return float(rows[inside].mean()), float(columns[inside].mean())


def draw(volume: Volume, mask: LabelMap, directory: Path, **options: bool) -> dict[str, Path]:
    paths = write_overlays(volume, GREY, mask, samples.LABELS, directory, "case", **options)
    return {path.stem.removeprefix("case_"): path for path in paths}


def test_three_pictures_are_written_under_the_stem(tmp_path: Path) -> None:
    paths = draw(volume_of(axial_affine()), samples.lungs(), tmp_path / "new")
    assert sorted(paths) == ["axial", "coronal", "sagittal"]
    assert all(path.exists() for path in paths.values())


@pytest.mark.parametrize("view", ["axial", "coronal"])
@pytest.mark.parametrize("flip", [1, -1], ids=["as stored", "columns run to the right side"])
def test_the_patients_right_is_on_the_left_of_the_picture(
    tmp_path: Path, view: str, flip: int
) -> None:
    affine, mask = axial_affine(), samples.lungs()
    if flip < 0:
        affine[:3, 3] += affine[:3, 2] * (samples.SHAPE[2] - 1)
        affine[:3, 2] *= -1
        mask = mask[:, :, ::-1]
    path = draw(volume_of(affine), mask, tmp_path)[view]
    assert columns_of(path, RIGHT_RGB)[1] < columns_of(path, LEFT_RGB)[1]


def test_the_head_is_at_the_top_whichever_way_the_slices_run(tmp_path: Path) -> None:
    affine = axial_affine()
    mask = np.zeros(samples.SHAPE, np.uint8)
    mask[8:, 10:30, 4:18] = 1
    mask[:2, 10:30, 26:44] = 2
    path = draw(volume_of(affine), mask, tmp_path)["coronal"]
    assert columns_of(path, RIGHT_RGB)[0] < columns_of(path, LEFT_RGB)[0]
    affine[2, 0] *= -1
    path = draw(volume_of(affine), mask, tmp_path)["coronal"]
    assert columns_of(path, RIGHT_RGB)[0] > columns_of(path, LEFT_RGB)[0]


def test_the_picture_has_the_proportions_of_the_patient(tmp_path: Path) -> None:
    mask = np.zeros(samples.SHAPE, np.uint8)
    mask[2:6, 10:20, 10:18] = 1
    path = draw(volume_of(axial_affine()), mask, tmp_path)["coronal"]
    picture = np.asarray(Image.open(path).convert("RGB"))
    rows, columns = np.nonzero((picture == RIGHT_RGB).all(axis=2))
    rows, columns = rows[rows < picture.shape[0] - 90], columns[rows < picture.shape[0] - 90]
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height / width == pytest.approx((4 * 2.5) / (8 * 1.25), rel=0.05)


def test_an_empty_mask_is_drawn_without_a_fault(tmp_path: Path) -> None:
    empty = np.zeros(samples.SHAPE, np.uint8)
    assert len(draw(volume_of(axial_affine()), empty, tmp_path)) == 3


def test_a_picture_is_marked_as_a_demonstration_unless_that_is_ruled_out(tmp_path: Path) -> None:
    volume, mask = volume_of(axial_affine()), samples.lungs()
    marked = Image.open(draw(volume, mask, tmp_path / "a")["axial"])
    plain = Image.open(draw(volume, mask, tmp_path / "b", demonstration=False)["axial"])
    assert marked.height > plain.height


def test_an_oblique_volume_is_drawn_along_its_nearest_axes(tmp_path: Path) -> None:
    datasets = samples.ct(orientation=samples.OBLIQUE)
    path = draw(volume_of(samples.affine_lps(datasets)), samples.lungs(), tmp_path)["axial"]
    assert columns_of(path, RIGHT_RGB)[1] < columns_of(path, LEFT_RGB)[1]
