"""The models of angiography, dynamic MR and PET-CT, from DICOM files to reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ai_models.card import load_card
from ai_models.catalog import ZOO
from ai_models.predictor import Predictor
from ai_models.training.phantoms.angiography import (
    MAIN,
    AngiographyPhantom,
    AngiographyVariation,
    angiography_phantom,
)
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.dynamic import MR_SCANNERS, dynamic_phantom, random_dynamic
from ai_models.training.phantoms.examination_files import (
    write_angiography,
    write_dynamic,
    write_petct,
)
from ai_models.training.phantoms.pet import PET_SCANNERS, Patient, PetCtVariation, petct_phantom
from ai_models.training.phantoms.scanners import SCANNERS
from ai_models.types import ClassificationPrediction
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.pipeline.summary import lines, summary
from dicom_node.results.equipment import node_equipment

WRITING = Writing(node_equipment("DICOMNODE", "1"), datetime(2026, 1, 5, 8, 0, tzinfo=UTC))
POSITIVE, NEGATIVE = 90_101, 90_102


def analysed(model_id: str, folder: Path, missing: str = "") -> Analysis:
    card = load_card(ZOO / model_id)
    predictor = Predictor(card)
    predictor.load()
    series = "mr" if (folder / "mr").is_dir() else "ct"
    pet = sorted((folder / "pt").glob("*.dcm"))
    try:
        return analyse(
            sorted((folder / series).glob("*.dcm")), card,
            lambda _card, source: predictor.predict(source), WRITING,
            companions={"pt": pet} if pet and not missing else {},
            missing={"pt": missing} if missing else {},
        )
    finally:
        predictor.close()


def prediction_of(analysis: Analysis) -> ClassificationPrediction:
    assert isinstance(analysis.prediction, ClassificationPrediction)
    return analysis.prediction


def said(analysis: Analysis) -> str:
    report = next(data for kind, data in analysis.objects if kind.endswith("report"))

    def texts(item: Dataset) -> Iterator[str]:
        yield str(item.get("TextValue", ""))
        for part in item.get("ContentSequence", []):
            yield from texts(part)

    return " ".join(texts(report))


def codes(analysis: Analysis) -> set[str]:
    """Values of all coded concepts of the report."""
    report = next(data for kind, data in analysis.objects if kind.endswith("report"))
    return {str(one.value) for one in report.iterall() if one.keyword == "CodeValue"}


def angiography(folder: Path, seed: int) -> AngiographyPhantom:
    scanner = replace(SCANNERS[0], spacing_mm=(4.0, 1.8, 1.8))
    variation = AngiographyVariation(clots=3 if seed == POSITIVE else 0, level=MAIN)
    phantom = angiography_phantom(seed, (66, 136, 192), scanner.spacing_mm, variation, scanner)
    write_angiography(folder, PhantomStudy(f"angiography-{seed}"), phantom, scanner)
    return phantom


def test_clots_are_told_of_in_the_slices_in_which_they_lie(tmp_path: Path) -> None:
    phantom = angiography(tmp_path / "ill", POSITIVE)
    angiography(tmp_path / "well", NEGATIVE)
    ill, well = (analysed("embolism-ct", tmp_path / name) for name in ("ill", "well"))
    scores = [prediction_of(one).scores["pulmonary_embolism"] for one in (ill, well)]
    assert scores[0] > scores[1]
    by_slice = prediction_of(ill).by_slice["pulmonary_embolism"]
    assert by_slice.shape == (66,)
    clots = phantom.slices_with_clot
    assert by_slice[clots].mean() > 1.5 * by_slice[~clots].mean()
    assert "DEMONSTRATION" in said(ill).upper()
    # Viewers show the Instance Number.
    headers = ill.request.source_images
    number = int(headers[int(by_slice.argmax())].InstanceNumber)
    assert f"the score is highest in image number {number}." in said(ill)
    assert clots[int(by_slice.argmax())]
    is_absent = prediction_of(well).scores["pulmonary_embolism"] < 0.3
    assert ("highest in image" in said(well)) is not is_absent


def dynamic(folder: Path, kind: str) -> None:
    scanner = MR_SCANNERS[0]
    variation = replace(random_dynamic(np.random.default_rng(5), kind), radius_mm=11.0)
    phantom = dynamic_phantom(POSITIVE, (36, 84, 152), (3.2, 2.3, 2.3), variation, scanner)
    write_dynamic(folder, PhantomStudy(f"dynamic-{kind}", sex="F"), phantom, scanner)


def test_a_lesion_is_told_by_how_it_enhances_from_phase_to_phase(tmp_path: Path) -> None:
    scores = {}
    for kind in ("wash-out", "persistent"):
        dynamic(tmp_path / kind, kind)
        scores[kind] = prediction_of(analysed("lesion-dce-mr", tmp_path / kind)).scores
    assert all(one["enhancing_lesion"] > 0.5 for one in scores.values())
    assert scores["wash-out"]["washout_lesion"] > scores["persistent"]["washout_lesion"] + 0.15


def petct(folder: Path, variation: PetCtVariation) -> None:
    scanner = replace(SCANNERS[0], spacing_mm=(4.0, 3.0, 3.0))
    phantom = petct_phantom(POSITIVE, (72, 96, 120), scanner.spacing_mm, variation, scanner)
    write_petct(folder, PhantomStudy("pet-ct"), phantom, scanner, PET_SCANNERS[0])


def test_a_pet_changes_what_is_said_of_a_lesion_and_its_lack_is_told(tmp_path: Path) -> None:
    patient = Patient(70.0, "M", True)
    hot = PetCtVariation(radius_mm=13.0, lesion_suv=11.0, patient=patient)
    petct(tmp_path / "hot", hot)
    petct(tmp_path / "cold", replace(hot, lesion_suv=0.8, malignant=False))
    hot_found, cold = (analysed("fdg-pet-ct", tmp_path / name) for name in ("hot", "cold"))
    scores = [prediction_of(one).scores["malignant_lesion"] for one in (hot_found, cold)]
    assert scores[0] > 0.7 and scores[0] > scores[1] + 0.2
    assert "together with pt" in said(hot_found)
    alone = analysed("fdg-pet-ct", tmp_path / "hot", missing="not there within 15 minutes")
    assert "without pt (not there within 15 minutes): from ct alone" in said(alone)
    again = analysed("fdg-pet-ct", tmp_path / "cold", missing="not there within 15 minutes")
    # Without PET the CT tells too little: neither present nor absent, and no number.
    for one in (alone, again):
        assert prediction_of(one).scores == {}
        assert prediction_of(one).undetermined == {"malignant_lesion": ("pt",)}
        assert "373068000" in codes(one)
        assert not {"52101004", "272519000", "111241", "122157"} & codes(one)
        assert "undetermined" in said(one) and "not answered without PT" in said(one)
        assert summary(one)["undetermined"] == {"malignant_lesion": "not told without pt"}
        assert any("undetermined: not told without pt" in line for line in lines(one))


def test_of_a_chest_without_a_lesion_the_report_is_an_explicit_negative(tmp_path: Path) -> None:
    petct(tmp_path, PetCtVariation(
        lesion=False, malignant=False, patient=Patient(45.0, "F", False)
    ))
    found = analysed("fdg-pet-ct", tmp_path)
    assert prediction_of(found).scores["malignant_lesion"] < 0.3
    # All algorithms succeeded; without findings (PS3.16 CID 6042).
    assert "111241" in codes(found)
