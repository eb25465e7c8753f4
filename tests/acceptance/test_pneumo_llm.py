"""A drawn chest as DX, sent to a running node: PneumoLLM's report as Orthanc has it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from ai_models.catalog import ZOO
from ai_models.training.phantoms.bones import XRAY_UNITS
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.pneumoconiosis import (
    SPACING_MM,
    ChestVariation,
    chest_radiograph,
)
from ai_models.training.phantoms.radiograph_files import RadiographHeader, write_radiograph
from dicom_node.config import PeerSettings
from dicom_node.results import sop_classes as classes
from tests import peers
from tests.acceptance import running_node
from tests.acceptance.conftest import Site
from tests.acceptance.running_node import RunningNode, wait_until
from tests.acceptance.test_radiograph_and_head import (
    answer,
    answers_of,
    check_identity,
    check_words,
    complaints,
)
from tests.shared_data import needs_shared, shared
from tests.source_tree import ROOT

MODEL_ID = "pneumoconiosis-dx"
pytestmark = [
    pytest.mark.network, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900),
    pytest.mark.skipif(not (ZOO / MODEL_ID).is_dir(), reason="the model is not shipped"),
]


class NodeOfDust(RunningNode):
    """A node with one rule, for radiographs."""

    def __init__(self, directory: Path, pacs: PeerSettings) -> None:
        super().__init__(directory, pacs, database=None)
        settings = yaml.safe_load(self.config.read_text())
        settings["rules"] = [
            {"name": "dust", "when": {"Modality": ["CR", "DX"]}, "model": MODEL_ID,
             "send_to": ["pacs"]},
        ]
        self.config.write_text(yaml.safe_dump(settings))


@contextmanager
def _importing(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    own = running_node._environment()
    path = os.pathsep.join([str(folder), str(ROOT)])
    patch.setattr(running_node, "_environment", lambda: {**own, "PYTHONPATH": path})
    yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    peers.need_private_network()
    folder = tmp_path_factory.mktemp("place")
    at_start = folder / "at-start"
    at_start.mkdir()
    # What tests/conftest.py does for this process, for the node and its workers.
    (at_start / "sitecustomize.py").write_text(
        "from tests.conftest import pytest_configure\npytest_configure()\n"
    )
    with (
        pytest.MonkeyPatch.context() as patch,
        peers.Orthanc(folder) as archive,
        _importing(patch, at_start),
        NodeOfDust(folder / "node", archive.peer) as node,
    ):
        yield Site(archive, node)


def test_the_report_on_a_chest_is_in_the_archive(place: Site, tmp_path: Path) -> None:
    chest = chest_radiograph(91_003, ChestVariation(3), XRAY_UNITS[0])
    header = RadiographHeader(
        photometric="MONOCHROME1", kvp=120.0, magnification=0.0,
        imager_spacing_mm=(SPACING_MM, SPACING_MM),
    )
    path = write_radiograph(
        tmp_path / "sent", PhantomStudy("dust", age_y=55), header, chest.displayed
    )
    found = answer(place, [path], tmp_path / "found")
    report = dcmread(found[classes.COMPREHENSIVE_3D_SR][0])
    check_identity({classes.COMPREHENSIVE_3D_SR: found[classes.COMPREHENSIVE_3D_SR]},
                   dcmread(path), MODEL_ID)
    words = " ".join(check_words(report, MODEL_ID))
    assert "rectangle about what Lungs in chest radiographs" in words
    assert "Pneumoconiosis" in words
    results = {kind: paths for kind, paths in found.items() if path.name not in map(str, paths)}
    assert complaints(results, path, tmp_path) == []


CHEST = ("data", "dicom", "pydicom-data", "data_store", "data", "RG1_J2KI.dcm")
ELBOW = ("data", "dicom", "pydicom-data", "data_store", "data", "RG3_J2KR.dcm")


def as_monochrome2(image: Dataset) -> None:
    """The same picture, stored the other way round."""
    most = (1 << image.BitsStored) - 1
    grey = most - image.pixel_array
    image.PhotometricInterpretation = "MONOCHROME2"
    image.WindowCenter = str(most - float(image.WindowCenter))
    image.set_pixel_data(grey.astype(grey.dtype), "MONOCHROME2", image.BitsStored)


def as_negative(image: Dataset) -> None:
    """Said to be stored the other way round, which it is not: bones are black."""
    image.PhotometricInterpretation = "MONOCHROME2"


@needs_shared(*CHEST)
@pytest.mark.parametrize(("part", "change", "reason"), [
    (CHEST, None, "input.unlike"), (CHEST, as_monochrome2, "input.unlike"),
    (CHEST, as_negative, "input."), (ELBOW, None, "input.no_such_view"),
])
def test_the_radiograph_of_a_person_is_declined_before_the_model_is_run(
    part: tuple[str, ...], change: Callable[[Dataset], None] | None, reason: str, place: Site,
    tmp_path: Path,
) -> None:
    image = dcmread(shared(*part))
    image.decompress()
    if change is not None:
        change(image)
        image.SeriesInstanceUID, image.SOPInstanceUID = generate_uid(), generate_uid()
        image.StudyInstanceUID = generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    path = tmp_path / "image.dcm"
    image.save_as(path)
    place.node.send([path])
    (job,) = place.node.wait_for_series(str(image.SeriesInstanceUID))
    assert job.reason.startswith(reason), job.reason
    found: dict[str, list[Path]] = {}

    def is_answered() -> bool:
        found.update(answers_of(place, str(image.StudyInstanceUID), tmp_path / "found"))
        return classes.COMPREHENSIVE_3D_SR in found

    wait_until(is_answered, "the archive has the report that nothing was looked at")
    words = " ".join(
        str(one.value) for one in dcmread(found[classes.COMPREHENSIVE_3D_SR][0]).iterall()
        if one.keyword == "TextValue"
    )
    assert "THESE IMAGES WERE NOT ANALYSED" in words
    assert "neither that anything is there nor that nothing is" in words
