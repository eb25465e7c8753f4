"""`run` on files: wrong use, nothing to do, and a series that the model declines."""

from __future__ import annotations

import json

from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.cli.running import Site
from tests.dicom_samples import ct_series, write_series


def test_a_model_that_is_none_is_wrong_use(site: Site) -> None:
    assert site("run", "none", site.folder, "--output", site.folder / "out").code == 2
    assert not (site.folder / "out").exists()


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
    assert good["labels"][0]["volume_ml"] > 0 and good["seconds_by_stage"]
    (short,) = [one for one in document["series"] if one["outcome"] == "declined"]
    assert {path.name for path in out.glob("*.dcm")} == {*good["objects"], *short["objects"]}
    (answered,) = short["objects"]
    assert answered.endswith("not-analysed-report.dcm")
    alone = site("run", "tiny", site.folder / "images" / "short", "--output", out)
    assert alone.code == 1
    assert f"written to {out}: not-analysed-report.dcm, predictions.json" in alone.out
