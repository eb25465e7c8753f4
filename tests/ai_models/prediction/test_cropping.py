"""What is looked at: the rectangle about both lungs, or everything, and the report says which."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from onnx import helper, numpy_helper

from ai_models.card import load_card
from ai_models.card_crop import Crop
from ai_models.prediction.cropping import Cropper, window_about
from ai_models.prediction.preparing import prepare
from ai_models.predictor import Predictor
from ai_models.training.memory_network import predictor_of
from ai_models.trust import Site
from ai_models.types import CardError, ClassificationPrediction, Image, ModelError
from ai_models.weights import file_sha256, verify_weights
from tests.ai_models.backends.tiny_onnx import declared, mean_onnx, model_bytes
from tests.ai_models.tiny_models import LUNG, STRUCTURE, write_model

EDGES = (40, 32)
SHAPE = (80, 96)
# Rows and columns of a right and of a left lung.
RIGHT, LEFT = (slice(20, 60), slice(12, 40)), (slice(16, 56), slice(52, 80))
BOTH = (slice(16, 60), slice(12, 80))


def lungs_onnx() -> bytes:
    """From 0.35 on it is a right lung, from 0.85 on a left one, pixel by pixel."""
    gain = np.array([0.0, 200.0, 400.0], dtype=np.float32)
    weights = gain.reshape(3, 1, 1, 1)
    bias = -np.array([0.0, 70.0, 240.0], dtype=np.float32)
    return model_bytes(
        [helper.make_node("Conv", ["image", "w", "b"], ["logits"])],
        [declared("image", ("batch", 1, *EDGES))], [declared("logits", ("batch", 3, *EDGES))],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )


def always(*logits: float, edges: tuple[int, int] = EDGES) -> bytes:
    """One answer for every pixel, whatever it is shown; of ``edges`` that may be others."""
    weights = np.zeros((len(logits), 1, 1, 1), dtype=np.float32)
    step = [EDGES[0] // edges[0], EDGES[1] // edges[1]]
    return model_bytes(
        [helper.make_node("Conv", ["image", "w", "b"], ["logits"], strides=step)],
        [declared("image", ("batch", 1, *EDGES))],
        [declared("logits", ("batch", len(logits), *edges))],
        [numpy_helper.from_array(weights, "w"),
         numpy_helper.from_array(np.array(logits, dtype=np.float32), "b")],
    )


def with_other_lungs(folder: Path, weights: bytes | None = None, **entry: Any) -> Path:
    """The same, but what outlines has other ``weights``, or an input with ``entry`` besides."""
    write_cropped(folder)
    lungs = folder / "lungs" / "model.yaml"
    before = file_sha256(lungs)
    values = yaml.safe_load(lungs.read_text())
    values["input"] |= entry
    if weights is not None:
        (folder / "lungs" / "weights.onnx").write_bytes(weights)
        values["weights"]["sha256"] = file_sha256(folder / "lungs" / "weights.onnx")
    lungs.write_text(yaml.safe_dump(values))
    card = folder / "model.yaml"
    card.write_text(card.read_text().replace(before, file_sha256(lungs)))
    return folder


def answered(folder: Path) -> ClassificationPrediction:
    predictor = Predictor(load_card(folder))
    predictor.load()
    said = predictor.predict(chest())
    predictor.close()
    assert isinstance(said, ClassificationPrediction)
    return said


def chest(*, mirrored: bool = False, with_left: bool = True) -> Image:
    shown = np.full(SHAPE, 0.1, dtype=np.float32)
    shown[RIGHT] = 0.6
    if with_left:
        shown[LEFT] = 1.0
    return Image(shown[:, ::-1].copy() if mirrored else shown, (4.0, 4.0))


def write_cropped(folder: Path, **changes: Any) -> Path:
    """A card whose answer is the mean of what it is shown, with the model that outlines lungs."""
    image = {"kind": "image", "modality": ["DX"], "intensity": {"unit": "displayed"}}
    write_model(
        folder / "lungs", lungs_onnx(), id="lungs-dx", name="Lungs",
        input={**image, "size": {"edges": list(EDGES), "fit": "stretch"}},
        output={"activation": "softmax", "labels": [
            {"value": value, "name": name, "category": STRUCTURE, "type": LUNG,
             "color_rgb": [value, 0, 0]} for value, name in ((1, "Right"), (2, "Left"))
        ]}, runtime={"backend": "onnx"},
    )
    crop = {"model": "lungs", "sha256": file_sha256(folder / "lungs" / "model.yaml"),
            "labels": [1, 2], **changes.pop("crop", {})}
    return write_model(folder, mean_onnx(EDGES), **{
        "task": "classification", "runtime": {"backend": "onnx"}, "report": "chest_radiograph",
        "input": {**image, "size": {"edges": list(EDGES), "fit": "stretch"}, "crop": crop},
        "output": {"activation": "sigmoid", "channels": 2,
                   "scores": [{"name": "pneumonia", "channel": 0}]}, **changes,
    })


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cropped(tmp_path_factory.mktemp("cropped"))


def found(folder: Path, image: Image) -> Any:
    cropper = Cropper(load_card(folder))
    cropper.load()
    return cropper.find(image)


def near(window: tuple[slice, slice], expected: tuple[slice, slice]) -> bool:
    """To two pixels: the model that outlines sees a coarser picture."""
    return all(abs(a.start - b.start) <= 2 and abs(a.stop - b.stop) <= 2
               for a, b in zip(window, expected, strict=True))


def test_the_rectangle_has_both_lungs(folder: Path) -> None:
    cropped = found(folder, chest())
    assert near(cropped.window, BOTH)
    assert cropped.notes == (
        "looked at: the rectangle about what Lungs 1.0 outlines, 40% of the image",
    )


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_rectangle_lies_in_the_image_and_has_all_that_was_outlined(
    turns: int, mirrored: bool
) -> None:
    rng = np.random.default_rng(turns)
    outlines: npt.NDArray[np.uint8] = np.zeros(SHAPE, dtype=np.uint8)
    outlines[RIGHT], outlines[LEFT] = 1, 2
    outlines = np.rot90(outlines[:, ::-1] if mirrored else outlines, turns)
    entry = Crop(model="x", sha256="0" * 64, labels=[1, 2], margin=float(rng.uniform(0, 0.9)))
    rows, columns = window_about(outlines, entry)
    assert 0 <= rows.start < rows.stop <= outlines.shape[0]
    assert 0 <= columns.start < columns.stop <= outlines.shape[1]
    assert np.count_nonzero(outlines[rows, columns]) == np.count_nonzero(outlines)


def test_with_one_lung_the_whole_image_is_looked_at_and_the_report_says_so(folder: Path) -> None:
    cropped = found(folder, chest(with_left=False))
    assert cropped.window is None
    assert cropped.notes == (
        "the whole image was looked at, which this model is not made for: Lungs 1.0 does not find "
        "Left in it",
    )


def test_the_network_is_shown_what_lies_in_the_rectangle(folder: Path) -> None:
    card = load_card(folder)
    whole = prepare(chest(), card).image.array
    part = prepare(chest(), card, BOTH).image.array
    expected = np.full(SHAPE, 0.1, dtype=np.float32)
    expected[RIGHT], expected[LEFT] = 0.6, 1.0
    assert part.shape == whole.shape == (1, *EDGES)
    assert part.mean() == pytest.approx(expected[BOTH].mean(), abs=0.01)
    assert whole.mean() == pytest.approx(expected.mean(), abs=0.01)


def test_pixels_of_another_spacing_are_cropped_at_the_same_place(tmp_path: Path) -> None:
    card = load_card(write_cropped(tmp_path))
    entry = card.input.model_copy(update={"spacing_mm": (1.0, 2.0, 2.0)})
    finer = card.model_copy(update={"input": entry})
    mean = prepare(chest(), finer, BOTH).image.array.mean()
    assert mean == pytest.approx(prepare(chest(), card, BOTH).image.array.mean(), abs=0.02)


def test_the_answer_is_of_the_rectangle_and_notes_come_with_it(folder: Path) -> None:
    predictor = Predictor(load_card(folder))
    predictor.load()
    said = predictor.predict(chest())
    other = predictor.predict(chest(mirrored=True))
    alone = predictor.predict(chest(with_left=False))
    predictor.close()
    assert isinstance(said, ClassificationPrediction)
    assert isinstance(other, ClassificationPrediction)
    assert isinstance(alone, ClassificationPrediction)
    assert said.scores["pneumonia"] == pytest.approx(other.scores["pneumonia"], abs=0.02)
    assert said.scores["pneumonia"] > alone.scores["pneumonia"] + 0.02
    assert any("rectangle" in note for note in said.notes)
    assert any("whole image" in note for note in alone.notes)


def test_another_card_or_other_weights_of_the_outlining_model_are_refused(tmp_path: Path) -> None:
    card = load_card(write_cropped(tmp_path))
    verify_weights(card)
    weights = tmp_path / "lungs" / "weights.onnx"
    content = weights.read_bytes()
    weights.write_bytes(content + b" ")
    for check in (Cropper(card).load, lambda: verify_weights(card)):
        with pytest.raises(ModelError) as error:
            check()
        assert error.value.reason == "model.hash_mismatch"
    weights.write_bytes(content)
    text = (tmp_path / "lungs" / "model.yaml").read_text()
    (tmp_path / "lungs" / "model.yaml").write_text(text + "\n")
    with pytest.raises(ModelError, match="input.crop.sha256"):
        Cropper(card).load()


def test_a_card_that_is_none_is_told_as_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    write_cropped(tmp_path)
    broken = tmp_path / "lungs" / "model.yaml"
    before = file_sha256(broken)
    broken.write_text("id: [")
    card = tmp_path / "model.yaml"
    card.write_text(card.read_text().replace(before, file_sha256(broken)))
    with pytest.raises(ModelError, match="input.crop.model") as error:
        Cropper(load_card(tmp_path)).load()
    assert error.value.reason == "model.load_failed"


def test_what_the_outlining_model_is_not_for_a_clinical_site_its_user_is_not_either(
    folder: Path
) -> None:
    with pytest.raises(ModelError, match="demonstration") as error:
        Cropper(load_card(folder), site=Site(use="clinical")).load()
    assert error.value.reason == "model.refused"


def test_a_label_that_the_outlining_model_has_not_is_refused(tmp_path: Path) -> None:
    card = load_card(write_cropped(tmp_path, crop={"labels": [1, 7]}))
    with pytest.raises(ModelError, match="no label 7"):
        Cropper(card).load()


@pytest.mark.parametrize(("crop", "said"), [
    ({"model": "../lungs"}, "input.crop.model"), ({"model": "."}, "input.crop.model"),
])
def test_the_outlining_model_lies_beside_the_card(
    crop: dict[str, Any], said: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    path = tmp_path / "model" / "model.yaml"
    path.write_text(path.read_text().replace("model: lungs", f"model: {crop['model']}"))
    with pytest.raises(CardError, match=said):
        load_card(tmp_path / "model")


class Mean(torch.nn.Module):
    """Answers what it is shown, on average."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(dim=(2, 3)).repeat(1, 2)


def test_a_network_that_is_being_trained_looks_at_the_rectangle_as_the_node_will(
    folder: Path,
) -> None:
    card = load_card(folder)
    predictor = predictor_of(Mean(), card)
    said = predictor.predict(chest())
    predictor.close()
    seen = prepare(chest(), card, BOTH).image.array
    whole = prepare(chest(), card).image.array
    assert isinstance(said, ClassificationPrediction)
    score = said.scores["pneumonia"]
    assert score == pytest.approx(float(1 / (1 + np.exp(-seen.mean()))), abs=0.01)
    assert abs(seen.mean() - whole.mean()) > 0.1


def test_predictors_of_one_training_share_what_outlines(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = load_card(folder)
    cropper = Cropper(card)
    cropper.load()
    monkeypatch.setattr(Cropper, "load", lambda _: pytest.fail("loaded anew"))
    notes = []
    for _ in range(2):
        predictor = predictor_of(Mean(), card, cropper=cropper)
        notes.append(predictor.predict(chest()).notes)
        predictor.close()
    cropper.close()
    assert notes[0] == notes[1]
    assert any("looked at: the rectangle" in one for one in notes[0])


@pytest.mark.parametrize(("weights", "reason"), [
    (always(np.nan, np.nan, np.nan), "model.not_finite"),
    (always(0, np.nan, 0), "model.not_finite"),
    (always(0, np.inf, -np.inf), "model.not_finite"),
    (always(0, 0, 0, edges=(20, 16)), "model.wrong_output"),
    (always(0, 0, 0, 0), "model.wrong_output"),
], ids=["nothing but NaN", "a label of NaN", "infinity", "other edges", "a label too many"])
def test_what_is_no_outline_is_refused(weights: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        answered(with_other_lungs(tmp_path, weights))
    assert error.value.reason == reason


@pytest.mark.parametrize(("weights", "said"), [
    (always(9, 0, 0), "does not find Right and Left in it"),
    (always(0, 9, 0), "does not find Left in it"),
], ids=["nothing", "everything is one lung"])
def test_outlines_of_nothing_and_of_everything_are_no_rectangle(
    weights: bytes, said: str, tmp_path: Path
) -> None:
    found = answered(with_other_lungs(tmp_path, weights))
    assert any("whole image" in note and said in note for note in found.notes)


def test_where_the_gate_of_the_outlining_model_declines_the_whole_image_is_looked_at(
    tmp_path: Path,
) -> None:
    found = answered(with_other_lungs(tmp_path, quality={"min_edge_pixels": 500}))
    assert any("whole image" in note and "500 each way" in note for note in found.notes)


def test_an_outlining_model_that_is_not_there_or_is_cropped_itself_is_not_loaded(
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelError) as error:
        answered(with_other_lungs(
            tmp_path / "own", crop={"model": "lungs", "sha256": "0" * 64, "labels": [1]}))
    assert error.value.reason == "model.load_failed"
    shutil.rmtree(write_cropped(tmp_path / "gone") / "lungs")
    with pytest.raises(ModelError) as error:
        answered(tmp_path / "gone")
    assert error.value.reason == "model.weights_missing"


def test_files_that_change_while_the_node_runs_change_no_answer_and_are_refused_at_the_next_load(
    tmp_path: Path,
) -> None:
    predictor = Predictor(load_card(write_cropped(tmp_path)))
    predictor.load()
    before = predictor.predict(chest())
    (tmp_path / "lungs" / "weights.onnx").write_bytes(always(9, 0, 0))
    after = predictor.predict(chest())
    assert isinstance(before, ClassificationPrediction)
    assert isinstance(after, ClassificationPrediction)
    assert (after.scores, after.notes) == (before.scores, before.notes)
    with pytest.raises(ModelError) as error:
        predictor.load()
    assert error.value.reason == "model.hash_mismatch"
    # What was not verified does not answer.
    with pytest.raises(ModelError) as error:
        predictor.predict(chest())
    assert error.value.reason == "model.not_loaded"
