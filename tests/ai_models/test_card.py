"""A card is refused with file, line, key path and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.card import load_card
from ai_models.types import CardError, Code
from tests.ai_models.tiny_models import card_text, card_values, write_model
from tests.source_tree import ROOT

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


SCORES = [{"name": "nodule", "channel": 0}, {"name": "effusion", "channel": 2}]
AGE = {"name": "bone_age", "unit": "mo", "minimum": 0, "maximum": 240}
TEXT: dict[str, object] = {
    "task": "text", "output": {"prompt": "Describe it."}, "trust": {"program": True},
    "runtime": {"backend": "command", "command": {"run": ["program"]}},
}
TASKS: dict[str, dict[str, object]] = {
    "segmentation": {},
    "classification": {
        "task": "classification", "output": {"channels": 3, "scores": SCORES},
        "runtime": {"backend": "onnx"},
    },
    "regression": {
        "task": "regression", "output": {"quantities": [AGE]}, "runtime": {"backend": "onnx"},
    },
    "detection": {"task": "detection", "output": {"labels": [LABEL]}},
    "text": TEXT,
}


@pytest.mark.parametrize("value", ["1\\2", " 12", "12 ", "1\n2", " "])
def test_a_code_that_dicom_cannot_hold_is_refused_before_any_job_meets_it(
    tmp_path: Path, value: str
) -> None:
    label = {**LABEL, "type": {"value": value, "scheme": "SCT", "meaning": "Lung"}}
    with pytest.raises(CardError, match=r"output.labels\[0\].type.value"):
        load_card(write_model(tmp_path, b"weights", output__labels=[label]))


@pytest.mark.parametrize("task", sorted(TASKS))
def test_card_of_each_task_says_what_it_answers(tmp_path: Path, task: str) -> None:
    card = load_card(write_model(tmp_path, b"weights", **TASKS[task]))
    assert card.task == task
    assert [label.name for label in card.labels] == (
        ["Bright"] if task in ("segmentation", "detection") else []
    )
    names = {"classification": ("nodule", "effusion"), "regression": ("bone_age",)}
    assert card.output_names == names.get(task, ())


def test_image_has_two_axes_unless_the_card_errs(tmp_path: Path) -> None:
    image = {"kind": "image", "modality": ["DX"], "intensity": {"unit": "displayed"}}
    card = load_card(write_model(tmp_path, b"", **{**TASKS["regression"], "input": image}))
    assert card.input.ndim == 2
    assert load_card(write_model(tmp_path, b"")).input.ndim == 3


def test_weights_may_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "trained").mkdir()
    values = card_values(
        weights__path="trained", input__intensity={"unit": "HU"},
        runtime={"backend": "nnunet", "nnunet": {"folds": [0, "all"]}},
    )
    card = load_card(written(tmp_path, values))
    assert card.weights_path == tmp_path / "trained"


def test_ensemble_is_identified_by_all_of_its_members(tmp_path: Path) -> None:
    members = [{"path": "fold_1.onnx", "sha256": "1" * 64}]
    alone = load_card(written(tmp_path, card_values()))
    both = load_card(written(tmp_path, card_values(weights__ensemble=members)))
    members[0]["sha256"] = "2" * 64
    other = load_card(written(tmp_path, card_values(weights__ensemble=members)))
    assert alone.weights_sha256 == "0" * 64
    assert len({one.weights_sha256 for one in (alone, both, other)}) == 3


def test_card_of_another_host_has_no_weights_here(tmp_path: Path) -> None:
    values = card_values(
        weights={"licence": "MIT", "source": "another host"},
        runtime={
            "backend": "open_inference", "roi": [16, 16, 16],
            "endpoint": {"name": "farm", "model": "bright"},
        },
    )
    card = load_card(written(tmp_path, values))
    assert card.weights.path is None
    assert card.weights_sha256 == ""


def test_trust_is_asked_for_by_true_and_false(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path, b"", **TEXT))
    assert card.trust.program
    assert not (card.trust.pickle or card.trust.remote_code or card.trust.config_exec)


def test_card_is_read_from_bytes_in_the_place_of_its_file(tmp_path: Path) -> None:
    folder = write_model(tmp_path, b"")
    before = (folder / "model.yaml").read_bytes()
    write_model(tmp_path, b"", version="2.0")
    assert load_card(folder, before).version == "1.0"
    assert load_card(folder, before).content == before
    assert load_card(folder).version == "2.0"


def test_fingerprint_changes_with_the_card(tmp_path: Path) -> None:
    one = load_card(write_model(tmp_path / "one", b"weights"))
    two = load_card(write_model(tmp_path / "two", b"weights", version="1.1"))
    assert one.fingerprint != two.fingerprint


BAD = [
    ({"inputs": {}}, "inputs", "inputs:", "unknown key"),
    ({"runtime__rio": [1, 1, 1]}, "runtime.rio", "rio:", "unknown key; did you mean roi?"),
    ({"input__spacing": [1, 1, 1]}, "input.spacing", "spacing:", "did you mean spacing_mm?"),
    ({"weights__ensemble": [{"path": "a.onnx", "sha256": "1" * 64, "paht": "b"}]},
     "weights.ensemble[0].paht", "paht:", "did you mean path?"),
    ({"id": "Lungs CT"}, "id", "id:", "should match pattern"),
    ({"version": 1.0}, "version", "version:", "text expected"),
    ({"task": "diagnosis"}, "task", "task:", "one of segmentation, classification"),
    ({"demonstration": "perhaps"}, "demonstration", "demonstration:", "valid boolean"),
    ({"input__modality": []}, "input.modality", "modality:", "at least 1 item"),
    ({"input__spacing_mm": [1.0, 2.0]}, "input.spacing_mm[2]", "spacing_mm:", "required"),
    ({"input__spacing_mm": [1.0, 0.0, 2.0]}, "input.spacing_mm[1]", "- 0.0", "greater than 0"),
    ({"input__spacing_mm": [1.0, float("inf"), 2.0]}, "input.spacing_mm[1]", "- .inf", "finite"),
    ({"input__axes": ["S", "P", "X"]}, "input.axes[2]", "- X", "'L', 'R', 'P'"),
    ({"output__labels": []}, "output.labels", "labels:", "at least 1 item"),
    ({"output__labels": [{**LABEL, "value": 0}]}, "output.labels[0].value", "value: 0",
     "greater than or equal to 1"),
    ({"output__labels": [{**LABEL, "color_rgb": [0, 0, 256]}]}, "output.labels[0].color_rgb[2]",
     "- 256", "less than or equal to 255"),
    ({"weights__sha256": "abc"}, "weights.sha256", "sha256:", "64 lower-case hexadecimal"),
    ({"weights__ensemble": [{"path": "a.onnx", "sha256": "ABC"}]}, "weights.ensemble[0].sha256",
     "sha256: ABC", "64 lower-case hexadecimal"),
    ({"runtime__backend": "pickle"}, "runtime.backend", "backend:", "'onnx', 'torchscript'"),
    ({"runtime__overlap": 1.0}, "runtime.overlap", "overlap:", "less than or equal to 0.9"),
    ({"runtime__fallbacks": ["pray"]}, "runtime.fallbacks[0]", "- pray", "'batch', 'offload'"),
    ({"trust": {"remote_code": "perhaps"}}, "trust.remote_code", "remote_code:", "valid boolean"),
    ({"trust": {"network": True}}, "trust.network", "network:", "should be False"),
    ({"output__calibration": {"temperature": 2.0}}, "output.calibration", "calibration:",
     "unknown key"),
    ({**TASKS["classification"], "output": {"channels": 3, "scores": [
        {"name": "Nodule!", "channel": 0}]}}, "output.scores[0].name", "name: Nodule!", "pattern"),
    ({**TASKS["detection"], "output": {"labels": [LABEL], "max_findings": 65}},
     "output.max_findings", "max_findings:", "less than or equal to 64"),
    ({**TEXT, "output": {"prompt": ""}}, "output.prompt", "prompt:", "at least 1 character"),
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


@pytest.mark.parametrize(
    "key_path",
    ["intended_use", "demonstration", "manufacturer", "licence", "evidence", "report",
     "evidence.validated_on", "weights.licence", "weights.source", "input.modality",
     "input.intensity", "output.labels", "runtime.backend"],
)
def test_required_key_that_is_absent_is_named(tmp_path: Path, key_path: str) -> None:
    values = card_values()
    *parents, key = key_path.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    del place[key]
    with pytest.raises(CardError) as caught:
        load_card(written(tmp_path, values))
    assert caught.value.key_path == key_path
    assert "required and absent" in str(caught.value)


def test_evidence_must_say_something(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"evidence\.validated_on"):
        load_card(written(tmp_path, card_values(evidence={"validated_on": ""})))


def test_empty_licence_is_a_card_for_research(tmp_path: Path) -> None:
    assert load_card(written(tmp_path, card_values(licence="", weights__licence=""))).licence == ""


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"id": "Lungs CT", "version": 1.0, "inputs": {}}, 2),
        ({"input__axes": ["S", "I", "L"], "output__mirror": [0, 0], "runtime__roi": [1, 1]}, 2),
        ({"id": "Lungs CT"}, 0),
    ],
)
def test_how_many_further_problems_there_are_is_told(
    tmp_path: Path, changes: dict[str, object], more: int
) -> None:
    with pytest.raises(CardError) as caught:
        load_card(written(tmp_path, card_values(**changes)))
    assert str(caught.value).endswith(f"(and {more} more)" if more else "]{0,63}$'")


def test_every_card_that_is_shipped_loads(tmp_path: Path) -> None:
    folders = [path.parent for path in (ROOT / "ai_models" / "zoo").rglob("model.yaml")]
    assert folders
    for folder in folders:
        assert load_card(folder).intended_use
