"""Results under independent validators, and read back voxel by voxel by two decoders."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset

from ai_models.types import LabelMap
from dicom_node.results.report import (
    build_negative_report,
    build_planar_report,
    build_volumetric_report,
)
from tests.conformance import validators
from tests.results import samples

POSES: dict[str, Callable[[], list[Dataset]]] = {
    "axial": samples.ct,
    "oblique": lambda: samples.ct(orientation=samples.OBLIQUE),
    "feet first": lambda: samples.ct(orientation=(-1, 0, 0, 0, 1, 0)),
    "tilted": samples.tilted,
    "irregular": samples.irregular,
    "latin-1 names": lambda: samples.ct(
        SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Zoë=山田^太郎"
    ),
    "bare headers": lambda: samples.ct(
        PatientBirthDate=None, AccessionNumber=None, PatientSex="U", StudyTime=None, StudyID=None
    ),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Source, segmentation and reports of every pose, written as they would be sent."""
    return {
        name: _write(datasets(), tmp_path_factory.mktemp(name.replace(" ", "-")))
        for name, datasets in POSES.items()
    }


def _write(datasets: list[Dataset], directory: Path) -> list[Path]:
    mask = samples.lungs(datasets)
    segmentation = samples.segmentation_of(datasets, mask)
    request = samples.request_for(datasets)
    volumetric = build_volumetric_report(
        request, segmentation, mask, samples.MEASUREMENTS, series_number=9101
    )
    planar = build_planar_report(request, mask, series_number=9102)
    assert planar is not None
    negative = build_negative_report(request, series_number=9103)
    objects = {
        "source": datasets[0],
        "segmentation": segmentation,
        "volumetric": volumetric,
        "planar": planar,
        "negative": negative,
    }
    paths = []
    for name, dataset in objects.items():
        path = directory / f"{name}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _or_skip(check: Callable[[], list[validators.Complaint]]) -> list[str]:
    try:
        return validators.unexplained(check())
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("pose", POSES)
def test_dciodvfy_finds_nothing_to_say(results: dict[str, list[Path]], pose: str) -> None:
    paths = results[pose][1:]
    assert _or_skip(lambda: [c for path in paths for c in validators.dciodvfy(path)]) == []


@pytest.mark.parametrize("pose", [pose for pose in POSES if pose != "bare headers"])
def test_patient_and_study_are_those_of_the_source(
    results: dict[str, list[Path]], pose: str
) -> None:
    source, *paths = results[pose]
    assert _or_skip(lambda: [c for path in paths for c in validators.dcentvfy(source, path)]) == []


def test_dicom_validator_finds_nothing_to_say(
    results: dict[str, list[Path]], tmp_path: Path
) -> None:
    paths = results["axial"][1:3]
    assert _or_skip(lambda: validators.dicom_validator(paths, tmp_path / "tables")) == []


def test_dcmtk_parses_every_object(results: dict[str, list[Path]]) -> None:
    paths = [path for pose in results.values() for path in pose[1:]]
    assert _or_skip(lambda: [c for path in paths for c in validators.dcmdump(path)]) == []


@pytest.mark.parametrize("pose", ["axial", "latin-1 names"])
def test_dcmtk_parses_the_content_of_every_report(
    results: dict[str, list[Path]], pose: str
) -> None:
    paths = results[pose][2:]
    assert _or_skip(lambda: [c for path in paths for c in validators.dsrdump(path)]) == []


@pytest.mark.slow
def test_pixelmed_finds_nothing_to_say_on_a_segmentation(results: dict[str, list[Path]]) -> None:
    assert _or_skip(lambda: validators.pixelmed("iod", [results["axial"][1]])) == []


@pytest.mark.slow
def test_pixelmed_finds_nothing_to_say_on_reports(results: dict[str, list[Path]]) -> None:
    assert _or_skip(lambda: validators.pixelmed("sr", results["axial"][2:])) == []


def test_a_broken_report_does_not_pass(results: dict[str, list[Path]], tmp_path: Path) -> None:
    import pydicom

    report = pydicom.dcmread(results["axial"][2])
    del report.CurrentRequestedProcedureEvidenceSequence
    del samples.named(report, "118565006")[0].MeasuredValueSequence[0].MeasurementUnitsCodeSequence
    path = tmp_path / "broken.dcm"
    report.save_as(path)
    assert _or_skip(lambda: validators.dciodvfy(path))
    assert _or_skip(lambda: validators.dsrdump(path))


def test_a_segmentation_of_another_patient_does_not_pass(
    results: dict[str, list[Path]], tmp_path: Path
) -> None:
    import pydicom

    segmentation = pydicom.dcmread(results["axial"][1])
    segmentation.PatientID = "ANOTHER"
    segmentation.KVP = "120"
    path = tmp_path / "broken.dcm"
    segmentation.save_as(path)
    assert _or_skip(lambda: validators.dcentvfy(results["axial"][0], path))
    assert _or_skip(lambda: validators.dicom_validator([path], tmp_path / "tables"))


@pytest.mark.parametrize("pose", ["axial", "oblique", "feet first"])
def test_dcmqi_reads_back_every_voxel_where_it_lies(
    results: dict[str, list[Path]], pose: str, tmp_path: Path
) -> None:
    datasets = POSES[pose]()
    mask = samples.lungs(datasets)
    try:
        read = validators.masks_by_dcmqi(results[pose][1], tmp_path)
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))
    affine = samples.affine_lps(datasets)
    for value in (1, 2):
        found, found_affine = read[value]
        assert _points(found, found_affine) == _points(mask == value, affine)


@pytest.mark.parametrize("pose", POSES)
def test_highdicom_reads_back_every_voxel(results: dict[str, list[Path]], pose: str) -> None:
    assert np.array_equal(_by_highdicom(results[pose][1]), samples.lungs(POSES[pose]()))


def test_dcmqi_reads_the_measurements_of_the_volumetric_report(
    results: dict[str, list[Path]], tmp_path: Path
) -> None:
    path = results["axial"][2]
    try:
        read, complaints = validators.tid1500reader(path, tmp_path)
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))
    assert validators.unexplained(complaints) == []
    groups = read["Measurements"]
    assert [group["TrackingIdentifier"] for group in groups] == [
        "lungs-ct Right lung",
        "lungs-ct Left lung",
        "lungs-ct Both lungs",
    ]
    assert [group["measurementItems"][0]["value"] for group in groups] == [
        "2400.2",
        "2100.5",
        "4500.8",
    ]
    assert [group["ReferencedSegment"] for group in groups[:2]] == [1, 2]


def _points(mask: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> set[tuple[float, ...]]:
    """Centres of the voxels of ``mask`` in the patient, to a tenth of a millimetre."""
    indices = np.argwhere(mask)
    centres = indices @ affine[:3, :3].T + affine[:3, 3]
    return {tuple(point) for point in np.round(centres * 10).astype(int).tolist()}


def _by_highdicom(path: Path) -> LabelMap:
    import highdicom as hd
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segmentation = hd.seg.segread(path)
        sources = [
            item.ReferencedSOPInstanceUID
            for item in pydicom.dcmread(path).ReferencedSeriesSequence[0].ReferencedInstanceSequence
        ]
        read: LabelMap = segmentation.get_pixels_by_source_instance(
            sources, combine_segments=True, assert_missing_frames_are_empty=True
        )
    return read
