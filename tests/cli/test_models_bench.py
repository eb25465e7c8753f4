"""``dicom-node models bench``: stages and memory of a model in a worker; times are not judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.cli.running import Site
from tests.dicom_samples import ct_series, write_series


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(
        tmp_path / "tiny", threshold_onnx(0.5, roi=(32, 32, 32)), runtime__roi=[32, 32, 32],
        input__spacing_mm=[4.0, 4.0, 4.0],
    )


def test_stages_memory_and_device_are_told(site: Site, folder: Path) -> None:
    answer = site("models", "bench", folder, "--runs", "2", "--json")
    assert answer.code == 0, answer.err
    told = answer.json()
    assert told["device"] == "cpu"
    assert told["warm_runs"] == len(told["seconds_of_warm_runs"]) == 2
    assert {"load", "prepare", "infer", "restore", "postprocess", "total"} <= set(told["seconds"])
    assert told["seconds"]["load"]["first"] > 0
    assert told["seconds"]["load"]["warm"] == 0
    assert told["memory_mib"]["peak"] >= told["memory_mib"]["model_when_idle"] > 0
    assert told["input"]["voxels_for_the_model"] > 0
    assert "onnxruntime" in told["notes"][0]


def test_the_text_has_a_line_for_each_stage(site: Site, folder: Path) -> None:
    answer = site("models", "bench", folder, "--runs", "1")
    assert answer.code == 0, answer.err
    assert "bright 1.0 (onnx) on cpu" in answer.out
    assert "warm, median of 1" in answer.out
    assert "MiB at most" in answer.out


def test_a_series_may_be_given(site: Site, folder: Path, tmp_path: Path) -> None:
    write_series(ct_series((12, 32, 40)), tmp_path / "ct")
    answer = site("models", "bench", folder, "--runs", "1", "--on", tmp_path / "ct", "--json")
    assert answer.code == 0, answer.err
    told = answer.json()["input"]
    assert told["what"].startswith("the given series of 12 x")
    assert told["seconds_to_read"] > 0


def test_a_model_that_fails_is_told_with_its_reason(site: Site, folder: Path) -> None:
    (folder / "weights.onnx").write_bytes(b"other weights")
    answer = site("models", "bench", folder)
    assert answer.code == 1
    assert "model.hash_mismatch" in answer.err


def test_a_model_that_the_site_refuses_is_not_run(site: Site, folder: Path) -> None:
    site.settings(more="models: {site_use: clinical}\n")
    answer = site("models", "bench", folder)
    assert answer.code == 2
    assert "not for clinical use" in answer.err


def test_a_model_that_is_not_there_is_told(site: Site) -> None:
    answer = site("models", "bench", "nothing")
    assert answer.code == 2
    assert "there are: " in answer.err and "lungs-ct" in answer.err


@pytest.mark.parametrize("runs", ["0", "-1", "many"])
def test_a_number_of_runs_that_is_none_is_refused(site: Site, folder: Path, runs: str) -> None:
    assert site("models", "bench", folder, "--runs", runs).code == 2
