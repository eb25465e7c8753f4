"""Every kind of prediction becomes objects that say it: on real headers, through their gates."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.array.labels import overlapping
from ai_models.card import Card, load_card
from ai_models.types import (
    Algorithm,
    ClassificationPrediction,
    Detection,
    DetectionPrediction,
    ModelInput,
    Prediction,
    RegressionPrediction,
    SegmentationPrediction,
    TextPrediction,
    Volume,
)
from dicom_node.errors import GateRefused, ModelFailed
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.pipeline.summary import lines, summary, without_text
from dicom_node.results.equipment import node_equipment
from tests.ai_models.tiny_models import LUNG, STRUCTURE, write_model
from tests.dicom_samples import ct_series, mr_series, radiograph, write_instance, write_series

WRITING = Writing(node_equipment("DICOMNODE", "1"), datetime(2026, 1, 5, 8, 0, tzinfo=UTC))
NODULE = {"value": 1, "name": "Nodule", "category": STRUCTURE, "type": LUNG,
          "color_rgb": [255, 0, 0]}
CHEST_XRAY = {
    "input": {"kind": "image", "ndim": 2, "modality": ["DX"], "intensity": {"unit": "displayed"},
              "size": {"edges": [32, 32]}},
    "runtime": {"backend": "onnx"},
    "report": "chest_radiograph",
}


def card_of(folder: Path, **changes: Any) -> Card:
    return load_card(write_model(folder / "model", b"weights", **changes))


def classifier(folder: Path) -> Card:
    scores = [{"name": "pneumothorax", "channel": 0}, {"name": "pleural_effusion", "channel": 1}]
    return card_of(
        folder, task="classification", **CHEST_XRAY,
        output={"activation": "sigmoid", "channels": 2, "scores": scores},
    )


def algorithm(card: Card) -> Algorithm:
    return card.algorithm(precision="fp32")


def run(paths: list[Path], card: Card, prediction: Prediction) -> Analysis:
    def predict(_card: Card, _input: ModelInput) -> Prediction:
        return prediction

    return analyse(paths, card, predict, WRITING)


def kinds(found: Analysis) -> list[str]:
    return [kind for kind, _ in found.objects]


@pytest.fixture
def image(tmp_path: Path) -> list[Path]:
    return [write_instance(radiograph(), tmp_path / "image.dcm")]


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    return write_series(ct_series((12, 32, 40)), tmp_path / "series")


def test_scores_of_a_radiograph_become_a_report_and_pictures_of_what_was_looked_at(
    tmp_path: Path, image: list[Path]
) -> None:
    card = classifier(tmp_path)
    heat = np.zeros((48, 64), np.float32)
    heat[10:20, 10:20] = 1.0
    found = run(image, card, ClassificationPrediction(
        {"pneumothorax": 0.91, "pleural_effusion": 0.02}, algorithm(card),
        {"pneumothorax": heat}, saliency_method="grad_cam",
    ))
    assert kinds(found) == ["secondary capture", "image report"]
    picture, report = (dataset for _, dataset in found.objects)
    assert str(picture.SOPInstanceUID) in str(report)
    assert summary(found) == {"scores": {"pneumothorax": 0.91, "pleural_effusion": 0.02}}
    assert "0.9100" in lines(found)[0]


def test_a_score_that_the_template_does_not_know_is_refused(
    tmp_path: Path, image: list[Path]
) -> None:
    card = classifier(tmp_path)
    with pytest.raises(GateRefused):
        run(image, card, ClassificationPrediction({"made_up": 0.5}, algorithm(card)))


def test_scores_of_a_volume_are_explained_by_a_parametric_map(tmp_path: Path) -> None:
    paths = write_series(mr_series((12, 32, 40)), tmp_path / "series")
    names = ["glioma", "meningioma", "pituitary", "none"]
    card = card_of(
        tmp_path, task="classification", input__modality=["MR"], report="brain_tumour",
        input__intensity={"unit": "arbitrary"}, input__size={"edges": [16, 16, 16]},
        runtime={"backend": "onnx"},
        output={"channels": 4, "scores": [
            {"name": name, "channel": channel} for channel, name in enumerate(names)]},
    )
    heat = np.zeros((12, 32, 40), np.float32)
    heat[4:6, 8:16, 8:16] = 0.8
    found = run(paths, card, ClassificationPrediction(
        dict(zip(names, (0.7, 0.1, 0.1, 0.1), strict=True)), algorithm(card), {"glioma": heat},
        saliency_method="occlusion",
    ))
    assert kinds(found) == ["parametric map", "image report"]


def test_numbers_become_a_report(tmp_path: Path, image: list[Path]) -> None:
    card = card_of(
        tmp_path, task="regression", **{**CHEST_XRAY, "report": "bone_age"},
        output={"quantities": [{"name": "bone_age_months", "unit": "mo", "minimum": 0,
                                "maximum": 240}]},
    )
    found = run(image, card, RegressionPrediction({"bone_age_months": 126.4}, algorithm(card)))
    assert kinds(found) == ["image report"]
    assert summary(found) == {"values": {"bone_age_months": 126.4}}


def boxed(*centres_mm: tuple[float, float, float]) -> list[Detection]:
    found = []
    for number, centre in enumerate(centres_mm):
        box = np.diag([8.0, 8.0, 8.0, 1.0])
        box[:3, 3] = np.asarray(centre) - 4.0
        found.append(Detection(1, 0.9 - 0.1 * number, box))
    return found


def detector(folder: Path) -> Card:
    return card_of(folder, task="detection", report="lung_nodules", output={"labels": [NODULE]})


def centre_of(paths: list[Path]) -> tuple[float, float, float]:
    from dicom_node.pipeline.loading import load_input

    volume = load_input(paths).model_input
    assert isinstance(volume, Volume)
    index = [*(np.asarray(volume.array.shape) / 2), 1.0]
    x, y, z, _ = (volume.affine_lps @ np.asarray(index)).tolist()
    return (x, y, z)


def test_each_detection_is_a_segment_with_its_probability(
    tmp_path: Path, slices: list[Path]
) -> None:
    card = detector(tmp_path)
    x, y, z = centre_of(slices)
    found = run(slices, card, DetectionPrediction(
        tuple(boxed((x, y, z), (x + 3, y, z))), card.labels, algorithm(card)))
    assert kinds(found)[:2] == ["segmentation", "volumetric report"]
    first, second = summary(found)["labels"]
    assert (first["name"], first["probability"]) == ("Nodule 1", 0.9)
    assert (second["name"], second["probability"]) == ("Nodule 2", pytest.approx(0.8))
    assert len(summary(found)["detections"]) == 2


def test_no_detection_is_a_report_that_says_so(tmp_path: Path, slices: list[Path]) -> None:
    card = detector(tmp_path)
    found = run(slices, card, DetectionPrediction((), card.labels, algorithm(card)))
    assert (found.outcome, kinds(found)) == ("no_finding", ["negative report"])


def test_a_detection_outside_of_the_images_is_refused(
    tmp_path: Path, slices: list[Path]
) -> None:
    card = detector(tmp_path)
    with pytest.raises(ModelFailed, match="outside of the images"):
        run(slices, card, DetectionPrediction(
            tuple(boxed((9000.0, 0.0, 0.0))), card.labels, algorithm(card)))


def test_labels_that_share_voxels_are_segments_that_overlap(
    tmp_path: Path, slices: list[Path]
) -> None:
    other = {**NODULE, "value": 2, "name": "Region", "color_rgb": [0, 255, 0]}
    card = card_of(tmp_path, output={
        "activation": "sigmoid", "overlapping": True, "labels": [NODULE, other]})
    whole = np.zeros((12, 32, 40), bool)
    whole[3:9, 8:24, 8:24] = True
    part = np.zeros_like(whole)
    part[5:7, 10:14, 10:14] = True
    found = run(slices, card, SegmentationPrediction(
        overlapping({1: part, 2: whole}, whole.shape), card.labels, algorithm(card)))
    segmentation = dict(found.objects)["segmentation"]
    assert segmentation.SegmentsOverlap == "YES"
    assert len(segmentation.SegmentSequence) == 2
    small, large = summary(found)["labels"]
    assert 0 < small["volume_ml"] < large["volume_ml"]


def test_a_text_is_a_draft_and_stays_out_of_the_ledger(tmp_path: Path, image: list[Path]) -> None:
    card = card_of(
        tmp_path, task="text", output={"prompt": "Describe."}, trust={"program": True},
        **{**CHEST_XRAY, "runtime": {"backend": "command", "command": {"run": ["program"]}}},
    )
    text = "The lungs are clear.\nNo effusion."
    found = run(image, card, TextPrediction(text, algorithm(card)))
    assert (found.outcome, kinds(found)) == ("result", ["text report"])
    assert "No effusion." in str(found.objects[0][1])
    assert "clear" not in str(without_text(summary(found)))


@pytest.mark.parametrize("changed", [{"fall_back": "half"}, {"served_version": "4"}])
def test_what_changed_the_numbers_beside_the_card_makes_other_objects(
    tmp_path: Path, image: list[Path], changed: dict[str, str]
) -> None:
    card = classifier(tmp_path)
    scores = {"pneumothorax": 0.91}
    plain = run(image, card, ClassificationPrediction(scores, algorithm(card)))
    half = run(image, card, ClassificationPrediction(
        scores, card.algorithm(precision="fp32", **changed)))
    assert plain.objects[0][1].SOPInstanceUID != half.objects[0][1].SOPInstanceUID


def test_regions_of_a_radiograph_are_outlined_and_have_no_volume(
    tmp_path: Path, image: list[Path]
) -> None:
    card = card_of(tmp_path, **{**CHEST_XRAY, "report": "regions"}, output={"labels": [NODULE]})
    label_map = np.zeros((1, 48, 64), np.uint8)
    label_map[0, 10:30, 8:20] = 1
    found = run(image, card, SegmentationPrediction(label_map, card.labels, algorithm(card)))
    assert kinds(found) == ["segmentation", "volumetric report", "planar report"]
    label, = summary(found)["labels"]
    assert label["found"] and label["volume_ml"] is None
    json.dumps(summary(found), allow_nan=False)
    assert "found" in lines(found)[0]
