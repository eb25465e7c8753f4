"""``dicom-node models quality``: the gate of one's own model, learned from one's own pictures."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ai_models.card import load_card
from ai_models.catalog import ZOO
from ai_models.prediction.preparing import prepare
from ai_models.predictor import Predictor
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.radiograph_files import CHEST, write_radiograph
from ai_models.trust import Site as ModelSite
from ai_models.types import Image, ModelError
from dicom_node.cli.models_quality import _inputs
from tests.ai_models.monitoring.test_likeness import picture
from tests.ai_models.prediction.test_cropping import chest, write_cropped
from tests.cli.running import Site

COUNT = 80


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The model of chests without what it learned from, as somebody else's model is."""
    folder = tmp_path / "mine"
    shutil.copytree(ZOO / "pneumonia-dx", folder)
    path = folder / "model.yaml"
    values = yaml.safe_load(path.read_text())
    del values["input"]["quality"]["likeness"], values["explanation"]
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    return folder


def written(folder: Path, count: int) -> Path:
    for number in range(count):
        write_radiograph(
            folder, PhantomStudy(f"taken-{number}", age_y=6),
            replace(CHEST, imager_spacing_mm=(5.0, 5.0)), picture(number), number=number + 1,
        )
    return folder


@pytest.mark.long
def test_the_line_that_is_printed_makes_the_gate_refuse_what_is_unlike(
    site: Site, folder: Path, tmp_path: Path
) -> None:
    answer = site("models", "quality", folder, written(tmp_path / "taken", COUNT),
                  "--output", folder / "quality.npy")
    assert answer.code == 0, answer.err
    assert "64 inputs learned from, limits chosen by 16" in answer.out
    path = folder / "model.yaml"
    values = yaml.safe_load(path.read_text())
    values["input"]["quality"] |= yaml.safe_load(answer.out.splitlines()[-1])
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    predictor = Predictor(load_card(folder))
    predictor.load()
    predictor.predict(Image(np.clip(picture(1000), 0, 1), None))
    noise = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    for shown in (noise, np.ascontiguousarray(np.clip(picture(1001), 0, 1)[::-1])):
        with pytest.raises(ModelError, match=r"learned from"):
            predictor.predict(Image(shown, None))


def test_too_few_pictures_and_a_model_of_volumes_are_told(
    site: Site, folder: Path, tmp_path: Path
) -> None:
    answer = site("models", "quality", folder, written(tmp_path / "taken", 6))
    assert answer.code == 1 and "too few to say what is usual" in answer.err
    answer = site("models", "quality", ZOO / "lungs-ct", tmp_path / "taken")
    assert answer.code == 2 and "has no input.size" in answer.err


def test_of_a_cropped_model_what_it_looks_at_is_learned_from(tmp_path: Path) -> None:
    """The gate is shown the rectangle: whole images were unlike all that it was to take."""
    card = load_card(write_cropped(tmp_path / "mine"))
    write_radiograph(
        tmp_path / "taken", PhantomStudy("taken", age_y=60),
        replace(CHEST, imager_spacing_mm=(4.0, 4.0)), chest().array,
    )
    learned, choosing = _inputs(card, tmp_path / "taken", ModelSite())
    assert len(learned) == 1 and not choosing
    whole = prepare(chest(), card).image.array
    assert abs(float(learned[0].mean()) - float(whole.mean())) > 0.15
