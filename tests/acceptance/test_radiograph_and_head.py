"""A radiograph and a head, sent to a running node, as Orthanc and the validators have the answer.

Report, map or picture, and key objects: of real radiographs as DX, and of a drawn head as MR.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydicom import dcmread
from pydicom.dataset import Dataset

from ai_models.card import load_card
from ai_models.catalog import ZOO
from ai_models.training.phantoms.brain import (
    HEAD_SCANNERS,
    BrainVariation,
    brain_phantom,
    write_brain,
)
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.radiograph_files import CHEST, HAND, write_radiograph
from dicom_node.config import PeerSettings
from dicom_node.results import sop_classes as classes
from tests import peers
from tests.acceptance.conftest import Site
from tests.acceptance.running_node import RunningNode, wait_until
from tests.conformance import validators
from tests.results.samples import items, named
from tests.results.test_report import texts
from tests.shared_data import needs_shared, shared

REAL = ("data", "labelled", "pneumoniamnist", "pneumoniamnist_trainval.npz")
BRAIN = ZOO / "brain-tumour-mr"
pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
RULES = [
    {"name": "chest", "when": {"Modality": "DX"}, "model": "pneumonia-dx", "send_to": ["pacs"]},
    {"name": "head", "when": {"Modality": "MR"}, "model": "brain-tumour-mr", "send_to": ["pacs"]},
]


class ClassifyingNode(RunningNode):
    """A node with rules for radiographs and heads, whose archive wants key objects as well."""

    def __init__(self, directory: Path, pacs: PeerSettings) -> None:
        super().__init__(directory, pacs, database=None)
        settings = yaml.safe_load(self.config.read_text())
        settings["rules"] = [rule for rule in RULES if (ZOO / str(rule["model"])).is_dir()]
        settings["peers"]["pacs"]["results"] = {"key_objects": True}
        self.config.write_text(yaml.safe_dump(settings))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    peers.need_private_network()
    folder = tmp_path_factory.mktemp("place")
    with (
        peers.Orthanc(folder) as archive,
        ClassifyingNode(folder / "node", archive.peer) as node,
    ):
        yield Site(archive, node)


def answer(place: Site, paths: list[Path], folder: Path) -> dict[str, list[Path]]:
    """What the archive has of a study after its series was sent, by SOP class."""
    header = dcmread(paths[0], stop_before_pixels=True)
    place.node.send(paths)
    place.node.wait_for_series(str(header.SeriesInstanceUID))
    return answers_of(place, str(header.StudyInstanceUID), folder)


def answers_of(place: Site, study: str, folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for uid in place.archive.find_instances(study):
        path = folder / f"{uid}.dcm"
        path.write_bytes(place.archive.download(uid))
        found.setdefault(str(dcmread(path, stop_before_pixels=True).SOPClassUID), []).append(path)
    return found


def complaints(found: dict[str, list[Path]], source: Path, folder: Path) -> list[str]:
    """What no known fault of a validator accounts for."""
    paths = [path for group in found.values() for path in group]
    said = [one for path in paths for one in validators.dciodvfy(path)]
    said += [one for path in paths for one in validators.dcentvfy(source, path)]
    said += [one for path in paths for one in validators.dcmdump(path)]
    said += validators.dicom_validator(paths, folder / "tables")
    for sop_class in (classes.COMPREHENSIVE_3D_SR, classes.KEY_OBJECTS):
        said += [one for path in found.get(sop_class, []) for one in validators.dsrdump(path)]
    reports = found[classes.COMPREHENSIVE_3D_SR]
    said += validators.pixelmed("sr", reports)
    said += [one for path in reports for one in validators.tid1500reader(path, folder)[1]]
    return validators.unexplained(said)


def check_identity(found: dict[str, list[Path]], source: Dataset, model_id: str) -> None:
    """Study of the source, a series of each kind, which model with which weights; unverified."""
    card = load_card(ZOO / model_id)
    kinds: dict[str, set[str]] = {}
    for sop_class, paths in found.items():
        for dataset in map(dcmread, paths):
            assert dataset.StudyInstanceUID == source.StudyInstanceUID
            assert dataset.PatientID == source.PatientID
            assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
            assert "DEMONSTRATION, NOT FOR CLINICAL USE" in dataset.SeriesDescription
            said = [(str(one.get("SoftwareVersions")), str(one.get("ContributionDescription")))
                    for one in dataset.ContributingEquipmentSequence]
            assert any(version == card.version and str(card.weights_sha256) in what
                       for version, what in said)
            assert dataset.get("VerificationFlag", "UNVERIFIED") == "UNVERIFIED"
            kinds.setdefault(sop_class, set()).add(dataset.SeriesInstanceUID)
    series = [uid for found in kinds.values() for uid in found]
    assert len(series) == len(set(series))


def check_words(report: Dataset, model_id: str) -> list[str]:
    said = texts(report)
    card = load_card(ZOO / model_id)
    words = " ".join(said)
    assert said[0].startswith("DEMONSTRATION, NOT FOR CLINICAL USE")
    assert card.evidence.validated_on.split(". ")[0] in words
    assert card.not_for[0] in words
    assert "The probabilities are calibrated" in words and "Scores were compared with" in words
    return said


def references(dataset: Dataset) -> list[str]:
    return [
        str(one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for one in items(dataset) if "ReferencedSOPSequence" in one
    ]


def chest(number: int, folder: Path) -> Path:
    with np.load(shared(*REAL)) as content:
        picture = content["val_images"][number] / 255.0
    header = replace(CHEST, imager_spacing_mm=(12.0, 12.0), magnification=0.0)
    return write_radiograph(folder, PhantomStudy(f"chest-{number}", age_y=4), header, picture)


@needs_shared(*REAL)
def test_a_radiograph_gives_a_report_a_picture_and_key_objects(
    place: Site, tmp_path: Path
) -> None:
    with np.load(shared(*REAL)) as content:
        ill, well = (int(np.flatnonzero(content["val_labels"].ravel() == kind)[1])
                     for kind in (1, 0))
    path = chest(ill, tmp_path / "ill")
    source = dcmread(path)
    found = answer(place, [path], tmp_path / "answer")
    assert {kind: len(paths) for kind, paths in found.items()} == {
        classes.COMPREHENSIVE_3D_SR: 1, classes.SECONDARY_CAPTURE: 1, classes.KEY_OBJECTS: 1,
    }
    report, picture, selection = (dcmread(paths[0]) for _, paths in sorted(
        found.items(), key=lambda one: [classes.COMPREHENSIVE_3D_SR, classes.SECONDARY_CAPTURE,
                                        classes.KEY_OBJECTS].index(one[0])))
    check_identity(found, source, "pneumonia-dx")
    said = check_words(report, "pneumonia-dx")
    assert any(one.startswith("Pneumonia: probability") and "present" in one for one in said)
    assert references(selection) == [source.SOPInstanceUID]
    (seen,) = picture.SourceImageSequence
    assert seen.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert {source.SOPInstanceUID, picture.SOPInstanceUID} <= set(references(report))
    assert complaints(found, path, tmp_path) == []

    path = chest(well, tmp_path / "well")
    found = answer(place, [path], tmp_path / "well answer")
    assert classes.KEY_OBJECTS not in found
    report = dcmread(found[classes.COMPREHENSIVE_3D_SR][0])
    assert any("found nothing it looks for (Pneumonia)" in one for one in texts(report))


def test_a_hand_is_declined_by_the_model_of_chests(place: Site, tmp_path: Path) -> None:
    picture = np.linspace(0, 1, 128 * 96).reshape(128, 96)
    path = write_radiograph(tmp_path, PhantomStudy("hand-9", age_y=9), HAND, picture)
    study = str(dcmread(path).StudyInstanceUID)
    place.node.send([path])
    # That it was not analysed is told after the job has ended.
    wait_until(lambda: place.archive.count(study), "the archive has an answer")
    found = answers_of(place, study, tmp_path / "answer")
    assert classes.KEY_OBJECTS not in found
    (report,) = (dcmread(one) for one in found[classes.COMPREHENSIVE_3D_SR])
    assert named(report, "125007") == []
    assert any("not analysed" in one.lower() for one in texts(report))


@pytest.mark.skipif(not BRAIN.is_dir(), reason="the model of brain tumours is not shipped")
def test_a_head_gives_a_report_a_map_and_the_slices_that_decided(
    place: Site, tmp_path: Path
) -> None:
    scanner = HEAD_SCANNERS[0]
    variation = BrainVariation("meningioma", 16.0, 1.0, 1.0, 0.0, (0.1, 0.7), 1.0)
    drawn = brain_phantom(4711, variation, scanner)
    paths = write_brain(tmp_path / "mr", PhantomStudy("head-1", age_y=60), drawn, scanner)
    source = dcmread(paths[0])
    found = answer(place, paths, tmp_path / "answer")
    report = dcmread(found[classes.COMPREHENSIVE_3D_SR][0])
    check_identity(found, source, "brain-tumour-mr")
    said = check_words(report, "brain-tumour-mr")
    assert any(one.startswith("Brain tumour: most probably meningioma") for one in said)
    assert {classes.PARAMETRIC_MAP, classes.SECONDARY_CAPTURE} <= found.keys()
    maps = [dcmread(path) for path in found[classes.PARAMETRIC_MAP]]
    assert {one.FrameOfReferenceUID for one in maps} == {source.FrameOfReferenceUID}
    assert {str(one.SOPInstanceUID) for one in maps} <= set(references(report))
    # Every slice that is selected shows the tumour that was drawn there.
    place_of = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): float(
        dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]) for path in paths}
    tumour = [drawn.affine_lps[2, 0] * index + drawn.affine_lps[2, 3]
              for index in np.flatnonzero(drawn.tumour.any(axis=(1, 2)))]
    chosen = [place_of[uid] for uid in references(dcmread(found[classes.KEY_OBJECTS][0]))]
    assert chosen
    margin = scanner.spacing_mm[0]
    assert all(min(tumour) - margin <= z <= max(tumour) + margin for z in chosen)
    assert complaints(found, paths[0], tmp_path) == []
