"""``dicom-node models new``: a folder that the node takes, and what a person must check in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.card import load_card
from sr_templates.template import load_template
from tests.ai_models.backends.fake_open_inference import FakeOpenInference
from tests.ai_models.backends.tiny_onnx import mean_onnx
from tests.ai_models.tiny_models import threshold_onnx
from tests.cli.running import Site
from tests.dicom_samples import ct_series, write_series


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "Lungs_V2.onnx"
    path.write_bytes(threshold_onnx(0.5))
    return path


def test_the_folder_is_taken_by_the_node_as_it_is(site: Site, source: Path) -> None:
    answer = site("models", "new", source, "--output", site.folder / "models/lungs")
    assert answer.code == 0, answer.err
    site.settings(more=f"models: {{directories: [{site.folder / 'models'}]}}\n")
    listed = site("models", "list", "--json").json()
    assert "lungs" in {one["id"] for one in listed["models"]}
    assert "id: lungs (the name in rules; change it with --id)" in answer.out
    assert listed["problems"] == []
    assert "lungs 0.1.0: weights as the card says" in site("models", "verify").out


def test_the_folder_is_run_on_files_before_any_setting_names_it(
    site: Site, source: Path, tmp_path: Path
) -> None:
    site("models", "new", source, "--output", site.folder / "lungs")
    write_series(ct_series((12, 32, 40)), tmp_path / "ct")
    answer = site("run", site.folder / "lungs", tmp_path / "ct", "--output", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert (tmp_path / "out/predictions.json").is_file()


def test_every_marked_line_is_told_with_its_number(site: Site, source: Path) -> None:
    folder = site.folder / "lungs"
    told = site("models", "new", source, "--output", folder, "--json").json()
    lines = (folder / "model.yaml").read_text().splitlines()
    marked = [number for number, line in enumerate(lines, start=1) if "# check:" in line]
    assert [one["line"] for one in told["check"]] == marked
    keys = {one["key_path"] for one in told["check"]}
    assert {"intended_use", "licence", "weights.licence", "input.spacing_mm"} <= keys
    assert "" not in keys
    assert told["folder"] == str(folder)
    assert told["backend"] == "onnx"


def test_the_text_says_what_was_found_and_what_comes_next(site: Site, source: Path) -> None:
    answer = site("models", "new", source, "--output", site.folder / "lungs")
    assert "ONNX file: takes image [batch, 1, 16, 16, 16]" in answer.out
    assert "input.modality: assumed from the number of axes" in answer.out
    assert answer.out.splitlines()[-1].endswith(f"models verify {site.folder / 'lungs'}")


def test_a_card_without_evidence_says_so(site: Site, source: Path) -> None:
    site("models", "new", source, "--output", site.folder / "lungs")
    card = load_card(site.folder / "lungs")
    assert card.demonstration
    assert card.licence == card.weights.licence == ""
    assert card.intended_use == "Nobody has stated yet what this model is for."


def test_nothing_is_written_over(site: Site, source: Path) -> None:
    (site.folder / "lungs").mkdir()
    (site.folder / "lungs/mine.txt").write_text("mine")
    answer = site("models", "new", source, "--output", site.folder / "lungs")
    assert answer.code == 1
    assert "is there already" in answer.err
    assert [one.name for one in (site.folder / "lungs").iterdir()] == ["mine.txt"]


def test_names_of_a_report_of_the_node_choose_it(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "chest.onnx"
    path.write_bytes(mean_onnx([32, 32], answers=2))
    answer = site("models", "new", path, "--output", site.folder / "chest",
                  "--labels", "pneumothorax,pleural effusion")
    assert answer.code == 0, answer.err
    assert load_card(site.folder / "chest").report == "chest_radiograph"
    thresholds = "and its thresholds: present from 0.7, undetermined from 0.3, absent below 0.3"
    assert thresholds in answer.out
    card = (site.folder / "chest" / "model.yaml").read_text()
    assert "its thresholds" in card and "# check:" in card


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_other_numbers_get_a_report_of_their_own(site: Site, tmp_path: Path, task: str) -> None:
    path = tmp_path / "chest.onnx"
    path.write_bytes(mean_onnx([32, 32], answers=3))
    folder = site.folder / "models/chest"
    answer = site("models", "new", path, "--output", folder, "--task", task,
                  "--labels", "pneumothorax,yes,on the left")
    assert answer.code == 0, answer.err
    template = load_template("report", folder)
    assert [group.group for group in template.image] == ["pneumothorax", "yes", "on_the_left"]
    assert template.image[0].finding.value == "36118008"
    site.settings(more=f"models: {{directories: [{site.folder / 'models'}]}}\n")
    assert site("models", "verify").code == 0


def test_a_host_of_the_settings_describes_its_model(site: Site) -> None:
    with FakeOpenInference() as host:
        site.settings(more=f"models: {{endpoints: {{farm: {{url: '{host.url}'}}}}}}\n")
        answer = site("models", "new", "--endpoint", "farm", "--model", "bright",
                      "--output", site.folder / "served")
    assert answer.code == 0, answer.err
    assert "a segmentation by open_inference" in answer.out
    assert load_card(site.folder / "served").weights.path is None


def test_a_host_that_the_settings_do_not_have_is_not_asked(site: Site) -> None:
    answer = site("models", "new", "--endpoint", "farm", "--model", "bright")
    assert answer.code == 1
    assert "not in models.endpoints" in answer.err


@pytest.mark.parametrize("arguments", [
    (), ("--endpoint", "farm"), ("a.onnx", "--model", "bright"), ("a.onnx", "--id", "No Id"),
    ("a.onnx", "--arguments", "no json"), ("a.onnx", "--arguments", "[1]"),
    ("a.onnx", "--task", "guessing"),
])
def test_wrong_use_is_told_as_such(site: Site, arguments: tuple[str, ...]) -> None:
    assert site("models", "new", *arguments).code == 2


def test_a_source_that_is_not_there_is_told(site: Site, tmp_path: Path) -> None:
    answer = site("models", "new", tmp_path / "gone.onnx")
    assert answer.code == 1
    assert "there is no" in answer.err
