"""Settings that cannot be trained with are refused before anything is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ai_models.training.language.__main__ import main
from ai_models.training.language.tuning_settings import (
    TuningSettings,
    read_deepspeed,
    zero3_configuration,
)
from ai_models.training.settings import TrainingError


@pytest.mark.parametrize("changes", [
    {"batch": 0}, {"batch": 6, "at_once": 4}, {"held_back": 0.0}, {"epochs": 0.0}, {"rank": 0},
    {"dropout": 1.0},
])
def test_numbers_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TrainingError):
        TuningSettings(**changes)


def test_rate_is_that_of_the_method_unless_it_is_said() -> None:
    assert TuningSettings("full").learning_rate == 1e-5
    assert TuningSettings("qlora").learning_rate == 2e-4
    assert TuningSettings(rate=1e-3).document()["rate"] == 1e-3
    assert TuningSettings(seed=1).digest("a") != TuningSettings(seed=2).digest("a")


@pytest.mark.parametrize("more", [[], ["--offload"]])
def test_configuration_of_deepspeed_that_is_written_is_taken(
    tmp_path: Path, more: list[str],
) -> None:
    assert main(["--write-deepspeed", str(tmp_path / "zero3.json"), *more]) == 0
    values = read_deepspeed(tmp_path / "zero3.json", "full")
    assert values == zero3_configuration(offload=bool(more))
    assert ("offload_param" in values["zero_optimization"]) is bool(more)


@pytest.mark.parametrize(("values", "method", "message"), [
    ([], "full", "stage 3"),
    ({"zero_optimization": {"stage": 2}}, "full", "stage 3"),
    ({"zero_optimization": {"stage": 3}}, "qlora", "4 bit"),
    ({"zero_optimization": {"stage": 3}}, "full", "no weights"),
])
def test_configuration_that_would_not_do_is_refused(
    tmp_path: Path, values: object, method: Any, message: str,
) -> None:
    (tmp_path / "zero3.json").write_text(json.dumps(values))
    with pytest.raises(TrainingError, match=message):
        read_deepspeed(tmp_path / "zero3.json", method)


def test_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "--data is needed" in capsys.readouterr().err
