"""Parametric maps, selections and structure sets under validators and readers that are not ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import Dataset

from ai_models.types import FloatArray
from dicom_node.results.key_objects import build_key_objects
from dicom_node.results.parametric_map import NO_UNITS, PROBABILITY, SALIENCY, build_parametric_map
from dicom_node.results.rejection_note import build_rejection_note
from dicom_node.results.request import Reference, ResultRequest
from dicom_node.results.structure_set import build_structure_set
from tests.conformance import validators
from tests.peers import Orthanc, storescu
from tests.results import samples

ORDER = [3, 1, 2, 0, 4, 5, 6, 7, 8, 9]
POSES: dict[str, Callable[[], list[Dataset]]] = {
    "axial": samples.ct,
    "tilted": samples.tilted,
    "latin-1 names": lambda: samples.ct(
        SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Zoë=山田^太郎"
    ),
    "bare headers": lambda: samples.ct(
        PatientBirthDate=None, AccessionNumber=None, PatientSex="U", StudyTime=None, StudyID=None
    ),
    "oblique": lambda: samples.ct(orientation=samples.OBLIQUE),
    "feet first": lambda: samples.ct(orientation=(-1, 0, 0, 0, 1, 0)),
    "enhanced": lambda: [samples.enhanced(ORDER)],
}
SELECTIONS = ("key-objects", "rejection-note")


def values() -> FloatArray:
    return np.random.default_rng(7).random(samples.SHAPE, np.float32)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Source and results of every pose, written as they would be sent."""
    return {
        name: _write(datasets(), tmp_path_factory.mktemp(name.replace(" ", "-")))
        for name, datasets in POSES.items()
    }


def _write(datasets: list[Dataset], directory: Path) -> dict[str, Path]:
    frames = [1] * 10 if len(datasets) > 1 else [ORDER.index(index) + 1 for index in range(10)]
    request = samples.request_for(datasets, frame_numbers=frames)
    objects = {"source": datasets[0], **_results(request)}
    paths = {name: directory / f"{name}.dcm" for name in objects}
    for name, dataset in objects.items():
        dataset.save_as(paths[name], enforce_file_format=True)
    return paths


def _results(request: ResultRequest) -> dict[str, Dataset]:
    mask = samples.lungs(request.source_images if len(request.source_images) > 1 else None)
    study = str(request.source_images[0].StudyInstanceUID)
    rejected = [
        Reference("1.2.840.10008.5.1.4.1.1.66.4", "2.25.11", "2.25.1", study),
        Reference("1.2.840.10008.5.1.4.1.1.88.34", "2.25.21", "2.25.2", study),
    ]
    selection = build_key_objects(request, mask, series_number=9007)
    structure_set = build_structure_set(request, mask, series_number=9010)
    assert selection is not None
    assert structure_set is not None
    return {
        "probability": build_parametric_map(
            request, values(), PROBABILITY, NO_UNITS, name="lung", series_number=9005
        ),
        "saliency": build_parametric_map(
            request, values(), SALIENCY, NO_UNITS, name="pneumonia", series_number=9005
        ),
        "key-objects": selection,
        "rejection-note": build_rejection_note(request, rejected, series_number=9011),
        "structure-set": structure_set,
    }


def _by_place(array: FloatArray, affine: npt.NDArray[np.float64]) -> dict[tuple[float, ...], float]:
    """Voxel centre in LPS, to 0.01 mm, to value."""
    index = np.argwhere(np.ones(array.shape, bool))
    places = np.round(index @ affine[:3, :3].T + affine[:3, 3], 2) + 0.0
    return dict(zip(map(tuple, places.tolist()), array.ravel().tolist(), strict=True))


def _made(paths: dict[str, Path]) -> list[Path]:
    return [path for name, path in paths.items() if name != "source"]


def _or_skip(check: Callable[[], list[validators.Complaint]]) -> list[str]:
    try:
        return validators.unexplained(check())
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("pose", POSES)
def test_dciodvfy_finds_nothing_to_say(results: dict[str, dict[str, Path]], pose: str) -> None:
    paths = _made(results[pose])
    assert _or_skip(lambda: [c for path in paths for c in validators.dciodvfy(path)]) == []


@pytest.mark.parametrize("pose", [pose for pose in POSES if pose != "bare headers"])
def test_patient_and_study_are_those_of_the_source(
    results: dict[str, dict[str, Path]], pose: str
) -> None:
    source, paths = results[pose]["source"], _made(results[pose])
    assert _or_skip(lambda: [c for path in paths for c in validators.dcentvfy(source, path)]) == []


def test_dicom_validator_finds_nothing_to_say(
    results: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    paths = [results["axial"][name] for name in ("saliency", "key-objects", "structure-set")]
    assert _or_skip(lambda: validators.dicom_validator(paths, tmp_path / "tables")) == []


def test_dcmtk_parses_every_object(results: dict[str, dict[str, Path]]) -> None:
    paths = [path for pose in results.values() for path in _made(pose)]
    assert _or_skip(lambda: [c for path in paths for c in validators.dcmdump(path)]) == []


@pytest.mark.parametrize("pose", ["axial", "enhanced", "latin-1 names"])
def test_dcmtk_parses_the_content_of_every_selection(
    results: dict[str, dict[str, Path]], pose: str
) -> None:
    paths = [results[pose][name] for name in SELECTIONS]
    assert _or_skip(lambda: [c for path in paths for c in validators.dsrdump(path)]) == []


@pytest.mark.parametrize("pose", ["axial", "oblique", "feet first", "enhanced"])
def test_dcmqi_reads_back_every_value_where_it_lies(
    results: dict[str, dict[str, Path]], pose: str, tmp_path: Path
) -> None:
    try:
        read, affine = validators.map_by_dcmqi(results[pose]["saliency"], tmp_path)
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))
    datasets = samples.ct() if pose == "enhanced" else POSES[pose]()
    assert _by_place(read, affine) == _by_place(values(), samples.affine_lps(datasets))


def test_a_map_that_does_not_say_what_it_measures_does_not_pass(
    results: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    broken = pydicom.dcmread(results["axial"]["saliency"])
    del broken.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    path = tmp_path / "broken.dcm"
    broken.save_as(path)
    assert _or_skip(lambda: validators.dciodvfy(path))


def test_a_structure_set_with_a_region_without_number_does_not_pass(
    results: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    broken = pydicom.dcmread(results["axial"]["structure-set"])
    del broken.StructureSetROISequence[0].ROINumber
    path = tmp_path / "broken.dcm"
    broken.save_as(path)
    assert _or_skip(lambda: validators.dciodvfy(path))


def test_an_archive_keeps_every_kind_as_it_was_sent(
    results: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    paths = _made(results["axial"])
    with Orthanc(tmp_path) as archive:
        storescu(paths, port=archive.port, called=archive.ae_title)
        for path in paths:
            sent = pydicom.dcmread(path)
            kept = pydicom.dcmread(_downloaded(archive, sent, tmp_path))
            assert kept == sent


def _downloaded(archive: Orthanc, sent: Dataset, directory: Path) -> Path:
    path = directory / "kept.dcm"
    path.write_bytes(archive.download(str(sent.SOPInstanceUID)))
    return path
