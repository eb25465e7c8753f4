"""Networks on backbones, from the header of a radiograph to the answer."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends.architectures import build
from ai_models.card import Card, load_card
from ai_models.prediction.preparing import prepare
from ai_models.predictor import Predictor
from ai_models.types import Image, ModelInput, Prediction, RegressionPrediction
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.pipeline.exchange import read_source, write_source
from dicom_node.pipeline.loading import load_input
from dicom_node.results.equipment import node_equipment
from tests.ai_models.prediction.cards import IMAGE
from tests.ai_models.prediction.test_joint import SEX
from tests.ai_models.tiny_models import write_model
from tests.dicom_samples import radiograph, write_series

pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))

WRITING = Writing(node_equipment("DICOMNODE", "1"), datetime(2026, 1, 5, 8, 0, tzinfo=UTC))
SMALL = "mobilenet_v3_small"
EDGE = 64


@cache
def weights_of(name: str, **arguments: Any) -> bytes:
    from safetensors.torch import save

    torch.manual_seed(0)
    return save(build(name, arguments).state_dict())


def card_of(folder: Path, name: str, arguments: dict[str, Any], **changes: Any) -> Card:
    content = weights_of(name, **arguments)
    entry = {**IMAGE, "size": {"edges": [EDGE, EDGE], "fit": "pad"}, "repeat": 3}
    return load_card(write_model(
        folder, content, weights__path="weights.safetensors",
        weights__sha256=hashlib.sha256(content).hexdigest(),
        runtime={"backend": "state_dict", "network": {"name": name, "arguments": arguments}},
        **{"input": {**entry, **changes.pop("entry", {})}, **changes},
    ))


def bone_age(folder: Path) -> Card:
    quantity = {"name": "bone_age_months", "channel": 0, "unit": "mo", "offset": 100.0,
                "minimum": 0.0, "maximum": 300.0}
    return card_of(
        folder, "BoneAge", {"backbone": SMALL, "edge": EDGE}, task="regression",
        report="bone_age", output={"channels": 1, "quantities": [quantity]},
        entry={"clinical": [SEX]},
    )


class Kept:
    """The predictor, and what it was given last."""

    source: ModelInput

    def __init__(self, card: Card) -> None:
        self.predictor = Predictor(card)
        self.predictor.load()

    def __call__(self, card: Card, source: ModelInput) -> Prediction:
        self.source = source
        return self.predictor.predict(source)


def months(found: Analysis) -> float:
    assert isinstance(found.prediction, RegressionPrediction)
    return found.prediction.values["bone_age_months"]


def test_the_sex_in_the_header_of_a_radiograph_reaches_the_network(tmp_path: Path) -> None:
    card = bone_age(tmp_path / "model")
    model, found = Kept(card), {}
    for sex in ("F", "M", "O"):
        paths = write_series([radiograph(PatientSex=sex)], tmp_path / f"hand-{sex}")
        found[sex] = analyse(paths, card, model, WRITING)
        assert isinstance(model.source, Image)
        assert model.source.clinical == {"sex": {"F": -1.0, "M": 1.0}.get(sex)}
    assert months(found["F"]) != months(found["M"])
    # What is not known is not a girl, and is said in the report.
    assert months(found["O"]) not in (months(found["F"]), months(found["M"]))
    for sex, one in found.items():
        said = " ".join(
            str(element.value) for kind, data in one.objects if kind.endswith("report")
            for element in data.iterall() if element.keyword == "TextValue"
        )
        assert ("without sex: " in said) is (sex == "O")


def test_what_is_known_of_the_patient_travels_to_a_worker_with_the_image(tmp_path: Path) -> None:
    image = Image(np.zeros((4, 5), dtype=np.float32), (0.1, 0.2), {"sex": 1.0, "age": None})
    read = read_source(write_source(tmp_path, image))
    assert isinstance(read, Image)
    assert read.clinical == image.clinical
    assert read.pixel_spacing_mm == image.pixel_spacing_mm


def seen(folder: Path, card: Card, **attributes: Any) -> np.ndarray:
    """What the network is given of a radiograph of square pixels, ``(channels, rows, columns)``."""
    paths = write_series([radiograph(PixelSpacing=["0.2", "0.2"], **attributes)], folder)
    array: np.ndarray = prepare(load_input(paths, card.input).model_input, card).image.array
    return array


def classifier(folder: Path, backbone: str = SMALL, **entry: Any) -> Card:
    return card_of(
        folder, "Backbone", {"backbone": backbone, "out_channels": 2}, task="classification",
        report="chest_radiograph", entry=entry,
        output={"activation": "softmax", "channels": 2,
                "scores": [{"name": "pneumonia", "channel": 1}]},
    )


def test_the_longest_side_fits_and_the_rest_is_black_on_both_sides(tmp_path: Path) -> None:
    card = classifier(tmp_path / "model")
    white = np.full((48, 96), 4095, dtype=np.uint16)
    wide = seen(tmp_path / "wide", card, pixels=white)
    assert wide.shape == (3, EDGE, EDGE)
    assert wide.max() == pytest.approx(1.0, abs=1e-3)
    assert np.array_equal(wide[0], wide[1]) and np.array_equal(wide[0], wide[2])
    filled = wide[0] > 0.5
    assert filled[16:48].all() and not filled[:16].any() and not filled[48:].any()
    tall = seen(tmp_path / "tall", card, pixels=white.T.copy())
    assert np.array_equal(tall, wide.transpose(0, 2, 1))
    # In black as a normalised network knows it, not in grey.
    normal = seen(tmp_path / "normal", classifier(tmp_path / "n", normalisation="imagenet"),
                  pixels=white)
    assert normal[:, 0, 0] == pytest.approx([-2.118, -2.036, -1.804], abs=1e-3)
    assert normal[:, 32, 32] == pytest.approx([2.249, 2.429, 2.640], abs=1e-3)


def test_window_and_monochrome1_are_applied_before(tmp_path: Path) -> None:
    card = classifier(tmp_path / "model")
    pixels = np.full((64, 64), 1024, dtype=np.uint16)
    plain = seen(tmp_path / "plain", card, pixels=pixels)
    assert plain.mean() == pytest.approx(0.25, abs=1e-3)
    turned = seen(
        tmp_path / "turned", card, pixels=pixels, photometric_interpretation="MONOCHROME1"
    )
    assert turned == pytest.approx(1.0 - plain, abs=1e-3)
    narrow = seen(tmp_path / "narrow", card, pixels=pixels, WindowCenter="1024", WindowWidth="16")
    assert narrow.mean() == pytest.approx(0.5, abs=0.05)


def test_the_answer_is_another_one_where_the_normalisation_is(tmp_path: Path) -> None:
    paths = write_series([radiograph()], tmp_path / "chest")
    answers = []
    for normalisation in ("none", "imagenet"):
        # Of random weights one that hands on what it sees.
        card = classifier(tmp_path / normalisation, "resnet18", normalisation=normalisation)
        predictor = Predictor(card)
        predictor.load()
        answers.append(predictor.predict(load_input(paths, card.input).model_input))
    scores = [one.scores["pneumonia"] for one in answers]  # type: ignore[union-attr]
    assert abs(scores[0] - scores[1]) > 1e-6
    assert all(0.0 < one < 1.0 for one in scores)
