"""``models verify``: gates of all models, and the whole suite for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.cli.running import Answer, Site
from tests.dicom_samples import mr_series, write_series


def verify(site: Site, *arguments: str | Path) -> Answer:
    return site("models", "verify", *arguments)


def settings(site: Site, models: str) -> Path:
    folder = site.folder / "models"
    folder.mkdir()
    site.settings(more=f"models: {{directories: [{folder}], {models}}}\n")
    return folder


def names(answer: Answer) -> dict[str, str]:
    return {one["name"]: one["outcome"] for one in answer.json()["checks"]}


@pytest.mark.slow
def test_one_model_goes_through_the_whole_suite(site: Site) -> None:
    folder = settings(site, "site_use: research")
    write_model(folder / "tiny", threshold_onnx(0.5), id="tiny")
    answer = verify(site, "tiny", "--version", "1.0", "--quick", "--json")
    assert answer.code == 0, answer.out
    document = answer.json()
    assert document["ok"] is True
    assert document["model"]["backend"] == "onnx"
    assert "failed" not in names(answer).values()
    assert {"load", "flips", "oblique", "deadline", "lost worker"} <= set(names(answer))


def test_folder_can_be_named_before_it_is_a_model_of_the_node(site: Site) -> None:
    write_model(site.folder / "new", threshold_onnx(0.5))
    (site.folder / "new" / "weights.onnx").write_bytes(b"others")
    answer = verify(site, site.folder / "new", "--json")
    assert answer.code == 1
    assert names(answer) == {
        "card": "passed", "site": "passed", "weights": "failed", "report": "passed",
    }


def test_wrong_card_is_told_with_its_line(site: Site) -> None:
    write_model(site.folder / "new", threshold_onnx(0.5), unknown="key")
    answer = verify(site, site.folder / "new")
    assert answer.code == 2
    assert "model.yaml:" in answer.err
    assert "unknown: unknown key" in answer.err


def test_model_that_cannot_be_loaded_is_not_asked(site: Site) -> None:
    write_model(site.folder / "new", b"no network")
    answer = verify(site, site.folder / "new", "--quick", "--json")
    assert answer.code == 1
    assert names(answer)["load"] == "failed"
    assert "answer" not in names(answer)


def test_what_is_drawn_can_be_kept_to_try_things_with(site: Site) -> None:
    write_model(site.folder / "new", b"no network", input__spacing_mm=[1.0, 1.0, 3.0])
    answer = verify(site, site.folder / "new", "--quick", "--keep", site.folder / "kept")
    assert f"; kept in {site.folder / 'kept/phantom'}" in answer.out
    assert "look at this: input.spacing_mm is 1 x 1 x 3" in answer.out
    one = dcmread(next((site.folder / "kept/phantom").glob("*.dcm")))
    assert (one.Modality, str(one.PatientName)) == ("CT", "PHANTOM^CONFORMANCE")


def test_model_that_this_site_refuses_is_not_loaded(site: Site) -> None:
    folder = settings(site, "site_use: clinical")
    write_model(folder / "tiny", threshold_onnx(0.5), id="tiny")
    answer = verify(site, "tiny", "--quick")
    assert answer.code == 1
    assert "tiny is a demonstration model" in answer.out
    assert "load" not in answer.out
    everything = verify(site, "--json")
    assert everything.code == 1
    (found,) = [one for one in everything.json()["models"] if one["id"] == "tiny"]
    assert found["found"].startswith("model.refused: ")


def test_series_that_the_model_does_not_take_is_told(site: Site) -> None:
    write_model(site.folder / "new", threshold_onnx(0.5))
    write_series(mr_series(), site.folder / "series")
    answer = verify(site, site.folder / "new", "--json", "--on", site.folder / "series")
    assert answer.code == 1
    assert names(answer)["series"] == "failed"
    assert "input.modality" in answer.out
