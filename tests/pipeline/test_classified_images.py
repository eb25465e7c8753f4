"""What a classified radiograph and a classified head become, from files to objects and forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from ai_models.card import Card, load_card
from ai_models.types import (
    ClassificationPrediction,
    FloatArray,
    ModelInput,
    Prediction,
    RegressionPrediction,
)
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.results.equipment import node_equipment
from dicom_node.results.forms import prepare
from dicom_node.results.profile import Wanted
from tests.ai_models.tiny_models import write_model
from tests.dicom_samples import mr_series, radiograph, write_instance, write_series
from tests.results.samples import items, named
from tests.results.test_report import texts

WRITING = Writing(node_equipment("DICOMNODE", "1"), datetime(2026, 1, 5, 8, 0, tzinfo=UTC))
CHEST: dict[str, Any] = {
    "input": {"kind": "image", "ndim": 2, "modality": ["DX"], "intensity": {"unit": "displayed"},
              "size": {"edges": [32, 32]}, "views": ["PA", "AP"]},
    "runtime": {"backend": "onnx"}, "report": "chest_radiograph",
    "explanation": {"method": "occlusion"},
    "evidence": {"validated_on": "not validated. Pictures of children of one hospital."},
    "not_for": ["diagnosis"],
}
HEAD: dict[str, Any] = {
    "input": {"ndim": 2, "modality": ["MR"], "intensity": {"unit": "arbitrary"}, "min_slices": 4,
              "axes": ["S", "P", "L"], "size": {"edges": [32, 32]}},
    "runtime": {"backend": "onnx"}, "report": "brain_tumour",
    "explanation": {"method": "occlusion"},
}
CLASSES = ("none", "glioma", "meningioma", "pituitary")


def chest_card(folder: Path) -> Card:
    scores = [{"name": "pneumonia", "channel": 0, "calibration": {"temperature": 0.7}}]
    return load_card(write_model(
        folder / "model", b"weights", task="classification", **CHEST,
        output={"activation": "sigmoid", "channels": 1, "scores": scores},
    ))


def head_card(folder: Path) -> Card:
    scores = [{"name": name, "channel": channel} for channel, name in enumerate(CLASSES)]
    return load_card(write_model(
        folder / "model", b"weights", task="classification", **HEAD,
        output={"activation": "softmax", "channels": 4, "scores": scores, "per": "slice",
                "aggregate": "decisive", "absence": "none"},
    ))


def run(paths: Sequence[Path], card: Card, prediction: Prediction) -> Analysis:
    def predict(_card: Card, _input: ModelInput) -> Prediction:
        return prediction

    return analyse(paths, card, predict, WRITING)


def of_chest(card: Card, score: float, shape: tuple[int, int] = (48, 64)) -> Prediction:
    saliency = np.zeros(shape, np.float32)
    saliency[10:20, 30:40] = 1.0
    return ClassificationPrediction(
        {"pneumonia": score}, card.algorithm(precision="fp32"), {"pneumonia": saliency},
        saliency_method="occlusion",
    )


def sent(found: Analysis) -> dict[str, list[Dataset]]:
    """What a destination gets that wants key objects, by kind."""
    prepared = prepare(
        {"pacs": (None, Wanted(key_objects=True))}, found.objects, found.source()
    )
    assert prepared.failed == {}
    objects: dict[str, list[Dataset]] = {}
    for sending, dataset in prepared.objects_for("pacs", found.objects):
        objects.setdefault(sending.kind, []).append(dataset)
    return objects


def cited(document: Dataset) -> list[str]:
    return [
        str(one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for one in items(document) if "ReferencedSOPSequence" in one
    ]


def grey_of(picture: Dataset) -> FloatArray:
    pixels = np.frombuffer(picture.PixelData, np.uint8, picture.Rows * picture.Columns * 3)
    return pixels.reshape(picture.Rows, picture.Columns, 3)[:48, :64].astype(np.float32)


def test_of_two_views_the_answer_is_on_one_and_says_first_that_the_other_was_not_looked_at(
    tmp_path: Path
) -> None:
    series: Mapping[str, str] = {"SeriesInstanceUID": "2.25.7", "StudyInstanceUID": "2.25.6"}
    images = {view: radiograph(ViewPosition=view, **series) for view in ("PA", "LL")}
    paths = [write_instance(one, tmp_path / f"{view}.dcm") for view, one in images.items()]
    card = chest_card(tmp_path)
    objects = sent(run(paths, card, of_chest(card, 0.9)))
    assert set(objects) == {"secondary capture", "image report", "key objects"}
    (report,), (selection,) = objects["image report"], objects["key objects"]
    said = texts(report)
    lateral = next(n for n, one in enumerate(said) if "without 1 of 2 images" in one)
    assert "their view is not PA, AP" in said[lateral]
    assert lateral < next(n for n, one in enumerate(said) if one.startswith("Pneumonia:"))
    assert cited(selection) == [images["PA"].SOPInstanceUID]
    assert images["LL"].SOPInstanceUID not in cited(report)
    assert any("Pictures of children of one hospital." in one for one in said)
    assert any("are calibrated" in one for one in said)


def test_pictures_of_a_radiograph_are_the_same_however_its_pixels_are_stored(
    tmp_path: Path
) -> None:
    card = chest_card(tmp_path)
    stored = radiograph(ViewPosition="PA").pixel_array
    shown = []
    for way, pixels in (("MONOCHROME2", stored), ("MONOCHROME1", 4095 - stored)):
        image = radiograph(pixels, photometric_interpretation=way, ViewPosition="PA")
        found = run([write_instance(image, tmp_path / f"{way}.dcm")], card, of_chest(card, 0.9))
        shown.append(grey_of(dict(found.objects)["secondary capture"]))
    assert np.abs(shown[0] - shown[1]).max() <= 1
    # White is high where the source shows white: its bright corner.
    assert shown[0][:4, :3].min() > 200 > 60 > shown[0][8:12, :3].max()


def test_a_head_gets_a_report_a_map_pictures_and_the_slices_that_decided(tmp_path: Path) -> None:
    datasets = mr_series(orientation=(1, 0, 0, 0, 1, 0), StudyDescription="MR head")
    paths = write_series(datasets, tmp_path / "mr")
    card = head_card(tmp_path)
    tumour = np.array([0.0, 0.1, 0.6, 0.9, 0.1, 0.0, 0.0, 0.0], np.float32)
    by_slice = {"none": (1 - tumour) * 0.9, "glioma": tumour * 0.95,
                "meningioma": np.full(8, 0.02, np.float32),
                "pituitary": np.full(8, 0.03, np.float32)}
    saliency = np.zeros((8, 32, 40), np.float32)
    saliency[3, 10:14, 12:20] = 1.0
    found = run(paths, card, ClassificationPrediction(
        {name: float(scores[3]) for name, scores in by_slice.items()},
        card.algorithm(precision="fp32"), {"glioma": saliency}, by_slice=by_slice,
        saliency_method="occlusion",
    ))
    objects = sent(found)
    assert set(objects) == {"parametric map", "secondary capture", "image report", "key objects"}
    sources = found.loaded.source_images
    (report,), (selection,) = objects["image report"], objects["key objects"]
    assert cited(selection) == [str(sources[index].SOPInstanceUID) for index in (2, 3)]
    number = int(sources[3].InstanceNumber)
    assert f"Brain tumour: the score is highest in image number {number}." in texts(report)
    assert str(objects["parametric map"][0].SOPInstanceUID) in cited(report)
    assert any("are not calibrated" in one for one in texts(report))
    (picture,) = objects["secondary capture"]
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == sources[3].SOPInstanceUID


def test_which_sex_entered_a_bone_age_is_said_and_also_that_it_is_not_known(
    tmp_path: Path
) -> None:
    quantity = {"name": "bone_age_months", "channel": 0, "unit": "mo", "offset": 100.0,
                "minimum": 0.0, "maximum": 300.0}
    card = load_card(write_model(
        tmp_path / "model", b"weights", task="regression", report="bone_age",
        runtime={"backend": "onnx"}, output={"channels": 1, "quantities": [quantity]},
        input={**CHEST["input"], "views": [], "clinical": [
            {"name": "sex", "keyword": "PatientSex", "values": {"F": -1.0, "M": 1.0}}]},
    ))
    for number, (sex, words) in enumerate((
        ("F", "sex as the images state it entered the answer: F"), ("M", "the answer: M"),
        ("O", "without sex: the images state no value of it that can be used"),
    )):
        image = radiograph(PatientSex=sex, BodyPartExamined="HAND", ImageLaterality="L")
        path = write_instance(image, tmp_path / f"{number}.dcm")
        prediction = RegressionPrediction({"bone_age_months": 120.0}, card.algorithm())
        report = dict(run([path], card, prediction).objects)["image report"]
        assert sum(words in one for one in texts(report)) == 1
        (side,) = named(report, "272741003")
        assert side.ConceptCodeSequence[0].CodeMeaning == "Left"
