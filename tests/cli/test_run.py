"""`run` on files: wrong use, nothing to do, and a series that the model declines."""

from __future__ import annotations

import json
import re

import pytest

from dicom_node.cli import main
from tests.ai_models.backends.tiny_onnx import mean_onnx
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.cli.running import Site
from tests.dicom_samples import ct_series, radiograph, write_instance, write_series


def test_a_model_that_is_none_is_wrong_use(site: Site) -> None:
    assert site("run", "none", site.folder, "--output", site.folder / "out").code == 2
    assert not (site.folder / "out").exists()


def test_what_is_no_model_is_told_by_where_it_was_looked_for(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--output", site.folder / "out")
    nothere = site("run", site.folder / "models/nothere", site.folder, *out)
    assert f"there is no such folder: {site.folder / 'models/nothere'}" in nothere.err
    assert f"there is no model.yaml in {site.folder}" in site(
        "run", site.folder, site.folder, *out
    ).err
    assert "--config" not in site("run", "soft", site.folder, *out).err
    monkeypatch.delenv("DICOM_NODE_CONFIG", raising=False)
    monkeypatch.setattr(main, "_DEFAULT_FILES", ())
    assert main.run_command(["run", "soft", str(site.folder), "--output", "out"]) == 2
    told = "settings: none found (--config); a folder with a card works too"
    assert told in capsys.readouterr().err


def test_a_folder_without_images_is_exit_1(site: Site) -> None:
    (site.folder / "empty").mkdir()
    answer = site("run", "lungs-ct", site.folder / "empty", "--output", site.folder / "out")
    assert answer.code == 1 and "no DICOM series" in answer.err


def test_each_series_is_written_or_declined_with_its_reason(site: Site) -> None:
    write_model(site.folder / "models" / "tiny", threshold_onnx(0.5), id="tiny",
                input__min_slices=3)
    site.settings(more=f"models: {{directories: [{site.folder / 'models'}], devices: [cpu]}}\n")
    write_series(ct_series((12, 32, 40)), site.folder / "images" / "good")
    write_series(ct_series((1, 32, 40)), site.folder / "images" / "short")
    out = site.folder / "out"
    answer = site("run", "tiny", site.folder / "images", "--output", out)
    assert answer.code == 0, answer.err
    document = json.loads((out / "predictions.json").read_text())
    outcomes = {one["instances"]: one["outcome"] for one in document["series"]}
    assert outcomes == {12: "result", 1: "declined"}
    (good,) = [one for one in document["series"] if one["outcome"] == "result"]
    assert good["labels"][0]["volume_ml"] > 0
    assert {"read", "model", "model.load", "model.infer"} <= set(good["seconds_by_stage"])
    assert "load" not in good["seconds_by_stage"]
    assert re.search(r"seconds: read .*, model .* \(loading it .*, inference .*\)", answer.out)
    (short,) = [one for one in document["series"] if one["outcome"] == "declined"]
    assert {path.name for path in out.glob("*.dcm")} == {*good["objects"], *short["objects"]}
    (answered,) = short["objects"]
    assert answered.endswith("not-analysed-report.dcm")
    alone = site("run", "tiny", site.folder / "images" / "short", "--output", out)
    assert alone.code == 1
    assert f"written to {out}: not-analysed-report.dcm, predictions.json" in alone.out


def test_where_a_classifier_looked_is_a_picture(site: Site) -> None:
    (site.folder / "chest.onnx").write_bytes(mean_onnx([32, 32], answers=2))
    made = site("models", "new", site.folder / "chest.onnx", "--output", site.folder / "chest",
                "--labels", "pneumothorax,pleural effusion")
    assert made.code == 0, made.err
    card = site.folder / "chest" / "model.yaml"
    card.write_text(card.read_text() + "explanation: {method: occlusion, from_score: 0.0}\n")
    write_instance(radiograph(), site.folder / "image.dcm")
    out = site.folder / "out"
    answer = site("run", site.folder / "chest", site.folder / "image.dcm", "--output", out)
    assert answer.code == 0, answer.err
    (entry,) = json.loads((out / "predictions.json").read_text())["series"]
    assert entry["pictures"] and {path.name for path in out.glob("*.png")} == set(entry["pictures"])
    assert "saliency_pneumothorax.png" in entry["pictures"]


def test_a_spacing_in_another_order_than_the_series_is_a_note(site: Site) -> None:
    write_model(site.folder / "tiny", threshold_onnx(0.5), id="tiny",
                input__spacing_mm=[1.0, 1.0, 3.0], runtime__roi=[16, 16, 16])
    write_series(ct_series((12, 32, 40), spacing_mm=(3.0, 1.0, 1.0)), site.folder / "ct")
    answer = site("run", site.folder / "tiny", site.folder / "ct", "--output", site.folder / "out")
    assert answer.code == 0, answer.err
    assert "note: input.spacing_mm is 1 x 1 x 3 in the order of input.axes (S, P, L)" in answer.out
    (entry,) = json.loads((site.folder / "out/predictions.json").read_text())["series"]
    assert any("Is the order right?" in note for note in entry["notes"])
