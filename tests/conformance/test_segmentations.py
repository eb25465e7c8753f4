"""Every form of a segmentation under independent validators, and read back by two decoders."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import Dataset

from ai_models.types import FloatArray, LabelMap
from dicom_node.results.segmentation import build_label_map_segmentation, build_probability_map
from dicom_node.results.writing import write_result
from tests.conformance import validators
from tests.dicom_samples import radiograph
from tests.results import samples


def _probabilities() -> dict[int, FloatArray]:
    mask = samples.lungs()
    return {value: (mask == value).astype(np.float32) * np.float32(0.6) for value in (1, 2)}


def _radiograph_mask() -> LabelMap:
    mask: LabelMap = np.zeros((1, 48, 64), np.uint8)
    mask[0, 5:20, 7:30], mask[0, 25:40, 40:50] = 1, 2
    return mask


def _build(name: str) -> tuple[Dataset, Dataset | None]:
    """The first source image and the result."""
    if name in ("DX", "MG", "CR"):
        # A mammogram has the spacing of its detector only; highdicom reads no Pixel Measures
        # without a slice thickness, so it reads this one and not the others.
        spacing: dict[str, Any] = {"PixelSpacing": None} if name == "MG" else {}
        image = radiograph(modality=name, **spacing)
        return image, samples.segmentation_of([image], _radiograph_mask())
    datasets = samples.ct()
    request = samples.request_for(datasets)
    if name == "probability map":
        return datasets[0], build_probability_map(request, _probabilities(), series_number=9004)
    return datasets[0], build_label_map_segmentation(request, samples.lungs(), series_number=9001)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Source and result of every kind, written as they would be sent."""
    directory = tmp_path_factory.mktemp("segmentations")
    written = {}
    for name in ("DX", "MG", "CR", "probability map", "label map"):
        source, result = _build(name)
        assert result is not None
        paths = (directory / f"{name} source.dcm", directory / f"{name}.dcm")
        source.save_as(paths[0], enforce_file_format=True)
        with paths[1].open("wb") as file:
            write_result(result, file)
        written[name] = paths
    return written


def _or_skip(check: Callable[[], Any]) -> Any:
    try:
        return check()
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", ["DX", "MG", "CR", "probability map"])
def test_dciodvfy_finds_nothing_to_say(results: dict[str, tuple[Path, Path]], name: str) -> None:
    complaints = _or_skip(lambda: validators.dciodvfy(results[name][1]))
    assert validators.unexplained(complaints) == []


@pytest.mark.parametrize("name", ["DX", "probability map"])
def test_patient_and_study_are_those_of_the_source(
    results: dict[str, tuple[Path, Path]], name: str
) -> None:
    complaints = _or_skip(lambda: validators.dcentvfy(*results[name]))
    assert validators.unexplained(complaints) == []


def test_dicom_validator_finds_nothing_to_say(
    results: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    paths = [results[name][1] for name in ("DX", "probability map", "label map")]
    complaints = _or_skip(lambda: validators.dicom_validator(paths, tmp_path / "tables"))
    assert validators.unexplained(complaints) == []


def test_dcmqi_reads_back_every_voxel_of_a_label_map(
    results: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    read = _or_skip(lambda: validators.masks_by_dcmqi(results["label map"][1], tmp_path))
    affine = samples.affine_lps(samples.ct())
    for value in (1, 2):
        found, found_affine = read[value]
        assert _points(found, found_affine) == _points(samples.lungs() == value, affine)


@pytest.mark.parametrize("name", ["label map", "probability map", "MG"])
def test_highdicom_reads_back_every_voxel(results: dict[str, tuple[Path, Path]], name: str) -> None:
    read = _by_highdicom(results[name][1], combine=name != "probability map")
    if name == "probability map":
        expected = np.stack([_probabilities()[value] for value in (1, 2)], axis=-1)
        assert np.abs(read - expected).max() <= 0.5 / 255
    else:
        assert np.array_equal(read, samples.lungs() if name == "label map" else _radiograph_mask())


def _points(mask: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> set[tuple[float, ...]]:
    """Centres of the voxels of ``mask`` in the patient, to a tenth of a millimetre."""
    centres = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    return {tuple(point) for point in np.round(centres * 10).astype(int).tolist()}


def _by_highdicom(path: Path, *, combine: bool) -> npt.NDArray[Any]:
    import highdicom as hd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segmentation = hd.seg.segread(io.BytesIO(path.read_bytes()))
        series = pydicom.dcmread(path).ReferencedSeriesSequence[0]
        read: npt.NDArray[Any] = segmentation.get_pixels_by_source_instance(
            [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence],
            combine_segments=combine,
            assert_missing_frames_are_empty=True,
        )
    return read
