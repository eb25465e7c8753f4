"""A card is refused with file, line, key path and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.card import load_card
from ai_models.types import CardError, Code
from tests.ai_models.tiny_models import card_text, card_values, write_model

LABEL = card_values()["output"]["labels"][0]


def written(folder: Path, values: object) -> Path:
    (folder / "model.yaml").write_text(card_text(values))
    return folder


def line_of(folder: Path, words: str) -> int:
    lines = (folder / "model.yaml").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if words in line)


def test_card_gives_labels_modality_and_algorithm(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path / "bright", b"weights"))
    assert card.modality == ("CT",)
    assert card.labels[0].type == Code("39607008", "SCT", "Lung")
    assert card.algorithm(device="cpu").parameters == {"device": "cpu"}
    assert card.algorithm().family == Code("123110", "DCM", "Artificial Intelligence")
    assert card.weights_path == tmp_path / "bright" / "weights.onnx"


def test_fingerprint_changes_with_the_card(tmp_path: Path) -> None:
    one = load_card(write_model(tmp_path / "one", b"weights"))
    two = load_card(write_model(tmp_path / "two", b"weights", version="1.1"))
    assert one.fingerprint != two.fingerprint


BAD = [
    ({"inputs": {}}, "inputs", "inputs:", "unknown key"),
    ({"runtime__rio": [1, 1, 1]}, "runtime.rio", "rio:", "unknown key"),
    ({"id": "Lungs CT"}, "id", "id:", "should match pattern"),
    ({"version": 1.0}, "version", "version:", "text expected"),
    ({"task": "diagnosis"}, "task", "task:", "Input should be 'segmentation'"),
    ({"demonstration": "perhaps"}, "demonstration", "demonstration:", "valid boolean"),
    ({"input__modality": []}, "input.modality", "modality:", "at least 1 item"),
    ({"input__spacing_mm": [1.0, 2.0]}, "input.spacing_mm[2]", "spacing_mm:", "required"),
    ({"input__spacing_mm": [1.0, 0.0, 2.0]}, "input.spacing_mm[1]", "- 0.0", "greater than 0"),
    ({"input__spacing_mm": [1.0, float("inf"), 2.0]}, "input.spacing_mm[1]", "- .inf", "finite"),
    ({"input__axes": ["S", "I", "L"]}, "input.axes", "axes:", "one of S or I"),
    ({"input__axes": ["S", "P", "X"]}, "input.axes[2]", "- X", "'L', 'R', 'P'"),
    ({"input__intensity": {"unit": "HU", "clip": [400, -1000], "scale_to": [0, 1]}},
     "input.intensity.clip", "clip:", "not below"),
    ({"output__labels": []}, "output.labels", "labels:", "at least 1 item"),
    ({"output__labels": [{**LABEL, "value": 3}]}, "output.labels[0].value", "value: 3",
     "1 expected, found 3"),
    ({"output__labels": [LABEL, {**LABEL, "value": 2, "name": "Other"}]},
     "output.labels[1].color_rgb", "", "same colour as 'Bright'"),
    ({"output__labels": [LABEL, {**LABEL, "value": 2}]}, "output.labels[1].name", "",
     "already a label"),
    ({"output__labels": [{**LABEL, "color_rgb": [0, 0, 256]}]}, "output.labels[0].color_rgb[2]",
     "- 256", "less than or equal to 255"),
    ({"weights__sha256": "abc"}, "weights.sha256", "sha256:", "64 lower-case hexadecimal"),
    ({"weights__path": "../weights.onnx"}, "weights.path", "path:", "in the folder of the card"),
    ({"weights__path": "/etc/weights.onnx"}, "weights.path", "path:", "in the folder of the card"),
    ({"weights__path": "weights.pkl"}, "weights.path", "path:", "ends in .onnx"),
    ({"runtime__backend": "pickle"}, "runtime.backend", "backend:", "'onnx', 'torchscript'"),
    ({"runtime__backend": "state_dict", "weights__path": "w.pt"}, "runtime.network",
     "runtime:", "needs the architecture"),
    ({"runtime__network": {"name": "monai.UNet"}}, "runtime.network", "network:",
     "brings its own architecture"),
    ({"runtime__precision": "fp16"}, "runtime.precision", "precision:", "fp32 expected"),
    ({"runtime__overlap": 1.0}, "runtime.overlap", "overlap:", "less than or equal to 0.9"),
    ({"trust": {"remote_code": True}}, "trust.remote_code", "remote_code:", "should be False"),
    ({"trust": {"pickle": True}}, "trust.pickle", "pickle:", "should be False"),
]


@pytest.mark.parametrize(("changes", "key_path", "where", "message"), BAD)
def test_bad_card_is_refused_with_its_line_and_key(
    tmp_path: Path, changes: dict[str, object], key_path: str, where: str, message: str
) -> None:
    folder = written(tmp_path, card_values(**changes))
    with pytest.raises(CardError) as caught:
        load_card(folder)
    error = caught.value
    assert error.key_path == key_path
    assert message in str(error)
    assert str(error).startswith(f"{folder / 'model.yaml'}:{error.line}: {key_path}: ")
    if where:
        assert error.line == line_of(folder, where)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("- a\n- b\n", "a card is a mapping"),
        ("id: a\nid: b\n", ":2: id: written twice"),
        ("id: &x a\nname: *x\n", ":2: aliases"),
        ("id: !!python/object/apply:os.system [ls]\n", ":1: "),
        ("id: !!python/name:os.system\n", "could not determine a constructor"),
        ("1: a\n", "a key must be text"),
        ("id: [a\n", ":2: "),
        ("a: " + "[" * 40 + "]" * 40, "nested too deeply"),
        ("#" * 300_000, "longer than"),
    ],
)
def test_file_that_is_not_plain_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(CardError, match="model.yaml") as caught:
        load_card(tmp_path)
    assert message in str(caught.value)


def test_missing_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="cannot be read"):
        load_card(tmp_path)


def test_required_key_that_is_absent_is_named(tmp_path: Path) -> None:
    values = card_values()
    del values["intended_use"]
    with pytest.raises(CardError, match="intended_use: required and absent"):
        load_card(written(tmp_path, values))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "demonstration"),
        ({"demonstration": False, "licence": "CC-BY-NC-4.0", "weights__licence": "MIT"}, "code"),
        ({"demonstration": False, "weights__licence": "CC BY-NC-SA 4.0"}, "weights"),
        ({"demonstration": False, "weights__licence": "none"}, "weights"),
    ],
)
def test_clinical_site_refuses_demonstrations_and_research_licences(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    card = load_card(write_model(tmp_path / "m", b"weights", **changes))
    assert words in (card.why_refused("clinical") or "")
    assert card.why_refused("research") is None


def test_clinical_site_takes_an_open_model(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "m", b"weights", demonstration=False, weights__licence="Apache-2.0"
    )
    assert load_card(folder).why_refused("clinical") is None
