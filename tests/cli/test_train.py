from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_models.card import load_card
from ai_models.training.cases import table_cases
from ai_models.training.recipe import read_recipe
from ai_models.training.release import built_network, write_model
from ai_models.training.settings import TrainingError
from dicom_node.cli.main import run_command
from dicom_node.pipeline.training_cases import NodeReader
from tests.ai_models.training.tiny_cases import (
    EDGE,
    ball,
    nifti_folder,
    recipe,
    scored_table,
    table,
)
from tests.dicom_samples import ct_series, write_series
from tests.results.samples import LABELS, headers, segmentation_of


def dicom_folder(folder: Path, count: int) -> Path:
    """CT series, each of a patient of its own, with the node's own Segmentation of a ball."""
    for seed in range(count):
        hu, mask, _ = ball(seed)
        datasets = ct_series((EDGE,) * 3, (2.0, 2.0, 2.0), values_hu=hu,
                             PatientID=f"patient {seed // 2}", PatientSex="FM"[seed % 2],
                             PatientAge="067Y", ConvolutionKernel="B30f")
        write_series(datasets, folder / f"study{seed}" / "ct")
        segmentation = segmentation_of(headers(datasets), mask, labels=LABELS[:1])
        segmentation.save_as(folder / f"study{seed}" / "seg.dcm", enforce_file_format=True)
    return folder


def trained(*arguments: object) -> int:
    return run_command(["train", *map(str, arguments)])


def test_a_folder_of_dicom_becomes_a_recipe_and_then_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = dicom_folder(tmp_path / "dicom", 8), tmp_path / "balls"
    assert trained("--task", "segment", "--data", data, "--output", output) == 0
    drafted = yaml.safe_load((output / "recipe.yaml").read_text())
    assert drafted["card"]["id"] == "balls"
    assert [one["name"] for one in drafted["card"]["output"]["labels"]] == [LABELS[0].name]
    assert "lines to check" in capsys.readouterr().out

    own = recipe(tmp_path / "own.yaml", steps=4, validate_every=2)
    values = yaml.safe_load(own.read_text())
    values["card"]["output"]["labels"] = drafted["card"]["output"]["labels"]
    own.write_text(yaml.safe_dump(values))
    assert trained(own, "--data", data, "--output", output, "--device", "cpu") == 0
    told = capsys.readouterr().out
    assert "held-back cases of 1 patients" in told
    record = json.loads((output / "model" / "training.json").read_text())
    assert len(record["losses"]) == record["steps"] == 4
    assert record["data"]["training"]["patients"] == 2
    assert set(record["test"]["subgroups"]["by"]) == {"age", "kernel", "manufacturer", "sex"}
    written = (output / "model" / "training.json").read_text()
    assert "patient 0" not in written and str(tmp_path) not in written
    card = load_card(output / "model")
    assert "2 cases of 1 patients held back" in card.evidence.validated_on
    assert not (output / "kept").exists()


def test_of_a_table_of_dicom_no_patient_is_in_two_parts_and_the_headers_say_the_rest(
    tmp_path: Path,
) -> None:
    dicom_folder(tmp_path, 4)
    rows = [{"image": f"study{seed}/ct", "label": f"study{seed}/seg.dcm"} for seed in range(4)]
    card = read_recipe(recipe(tmp_path / "recipe.yaml"))
    made = write_model(card, built_network(card, tmp_path), tmp_path / "model", tmp_path)
    cases = table_cases(table(tmp_path, rows), made, NodeReader())
    assert len({case.patient for case in cases}) == 2
    assert cases[0].patient == cases[1].patient
    assert cases[0].attributes["kernel"] == "B30f"


def test_an_image_of_a_table_that_is_two_series_is_refused(tmp_path: Path) -> None:
    dicom_folder(tmp_path, 1)
    made = read_recipe(recipe(tmp_path / "recipe.yaml"))
    card = write_model(made, built_network(made, tmp_path), tmp_path / "model", tmp_path)
    rows = table(tmp_path, [{"image": "study0", "label": "study0/seg.dcm"}])
    with pytest.raises(TrainingError, match=r"cases.csv:2: one DICOM series expected in study0"):
        table_cases(rows, card, NodeReader())


@pytest.mark.parametrize(("task", "learned"), [("classify", "there"), ("regress", "radius")])
def test_a_first_recipe_learns_the_columns_that_fit_its_task(
    tmp_path: Path, task: str, learned: str
) -> None:
    dicom_folder(tmp_path, 2)
    rows = table(tmp_path, [
        {"image": f"study{seed}/ct", "pt": "elsewhere/pt", "there": seed, "radius": 4.5 + seed,
         "weight": "", "remark": "none"} for seed in range(2)])
    assert trained("--task", task, "--data", rows, "--output", tmp_path / "first") == 0
    card = yaml.safe_load((tmp_path / "first" / "recipe.yaml").read_text())["card"]
    assert card["input"]["modality"] == ["CT"]
    names = [one["name"] for one in card["output"].get("scores") or card["output"]["quantities"]]
    assert names == [learned]
    report = (tmp_path / "first" / "report.yaml").read_text()
    assert report.startswith("# Written by `dicom-node train`: what the model gives")


def test_a_series_is_read_as_for_a_patient_and_described_without_one(tmp_path: Path) -> None:
    folder = dicom_folder(tmp_path, 1)
    found = NodeReader().series(folder)
    ct = next(one for one in found if one.modality == "CT")
    seg = next(one for one in found if one.modality == "SEG")
    assert seg.sources == {ct.uid}
    assert ct.attributes["sex"] == "F"
    assert ct.attributes["age"] == "60-69"
    assert ct.attributes["kernel"] == "B30f"
    assert "patient" not in str(ct.attributes)
    assert len(ct.paths) == EDGE


def test_a_finished_model_is_not_trained_over_and_another_recipe_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = nifti_folder(tmp_path / "data", 4)
    made = recipe(tmp_path / "recipe.yaml", steps=1, serve="state_dict")
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "model" / "training.json").write_text("{}")
    assert trained(made, "--data", data, "--output", tmp_path / "out") == 2
    assert "has been trained to its end" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "message"), [
    ("training.stepps=3", "training.stepps: unknown key"),
    ("training.loss=hinge", "of a segmentation one of dice_ce, dice_focal, ce"),
    ("card.input.modality=[]", "card.input.modality"),
    ("card.runtime.network.name=ResUnet", "no architecture 'ResUnet'"),
    ("card.runtime.network.arguments.channels=4", "card.runtime.network.arguments"),
    ("training.steps", "KEY=VALUE expected"),
    ("card.output.labels.1.name=Two", "labels is a list of 1, from 0 on"),
    ("card.output.labels.name=Two", "labels is a list of 1, from 0 on"),
    ("card.id.name=Two", "id has no keys"),
    ("training.workers=1000000000", "training.workers: Input should be less than or equal to 256"),
    ("training.rate=.inf", "training.rate: Input should be less than or equal to 1"),
    ("training.crop=[0, 32, 32]", "training.crop.0: Input should be greater than or equal to 1"),
    ("training.augmentation.gamma=[1.4, 0.7]", "gamma: Value error, the lower number first"),
    ("training.augmentation.smooth=[0.5, .inf]", "training.augmentation.smooth.1: Input should be"),
])
def test_what_is_wrong_in_a_recipe_is_said_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    data = nifti_folder(tmp_path / "data", 3)
    made = recipe(tmp_path / "recipe.yaml")
    code = trained(made, "--data", data, "--output", tmp_path / "out", "--set", change)
    assert code in (1, 2)
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_a_rate_is_found_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = nifti_folder(tmp_path / "data", 3)
    made = recipe(tmp_path / "recipe.yaml")
    assert trained(made, "--data", data, "--output", tmp_path / "out", "--find-rate",
                   "--device", "cpu") == 0
    assert "it fell fastest at" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize(("task", "leading", "least"), [
    ("segmentation", "Dice", 0.6), ("detection", "FROC score", 0.8),
    ("classification", "AUC of there", 0.7), ("regression", "mean absolute error of radius", 0.0),
])
def test_every_task_is_learned_tested_and_served(
    tmp_path: Path, task: str, leading: str, least: float
) -> None:
    from ai_models.predictor import Predictor
    from ai_models.training.nifti_files import read_volume

    on_table = task in ("classification", "regression")
    data = (scored_table if on_table else nifti_folder)(tmp_path, 16)
    made = recipe(tmp_path / "recipe.yaml", task=task, steps=60,
                  serve="state_dict" if task == "detection" else "onnx",
                  split={"validation": 0.2, "test": 0.4})
    assert trained(made, "--data", data, "--output", tmp_path / "out", "--device", "cpu") == 0
    record: dict[str, Any] = json.loads((tmp_path / "out/model/training.json").read_text())
    value = record["test"]["figures"][leading]["value"]
    assert value >= least if task != "regression" else value < 4.0
    if task != "detection":
        assert record["onnx"]["largest_logit_difference"] < 1e-4
    predictor = Predictor(load_card(tmp_path / "out/model"))
    predictor.load()
    image = next(tmp_path.rglob("case0.nii.gz"))
    prediction = predictor.predict(read_volume(image, "HU"))
    assert prediction.algorithm.model_id == "ball"


@pytest.mark.long
def test_torchrun_trains_on_two_processes_what_one_process_trains(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    from tests.ports import free_port
    from tests.source_tree import ROOT

    data = nifti_folder(tmp_path / "data", 5)
    # Dice is taken over the examples of one process; the cross-entropy is a mean over all.
    made = recipe(tmp_path / "recipe.yaml", steps=6, validate_every=3, loss="ce")
    assert trained(made, "--data", data, "--output", tmp_path / "one", "--device", "cpu") == 0
    answer = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
         "--master-addr", "127.0.0.1", "--master-port", str(free_port()), "-m", "dicom_node",
         "train", made, "--data", data, "--output", tmp_path / "two", "--device", "cpu"],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"})
    assert answer.returncode == 0, answer.stderr
    one, two = (json.loads((tmp_path / name / "model/training.json").read_text())
                for name in ("one", "two"))
    assert two["environment"]["processes"] == 2
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-3)
