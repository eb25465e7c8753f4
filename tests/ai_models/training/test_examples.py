from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.card import Card
from ai_models.training.augmentation import NONE
from ai_models.training.cases import nifti_cases, table_cases
from ai_models.training.examples import CaseExamples, boxes_of, together
from ai_models.training.prepared import CaseStore, numbered
from ai_models.training.recipe import read_recipe, recipe_of
from ai_models.training.release import built_network, write_model
from ai_models.training.settings import TrainingError
from tests.ai_models.training.test_cases import card_of
from tests.ai_models.training.tiny_cases import (
    EDGE,
    ball,
    nifti_folder,
    recipe,
    scored_table,
    table,
    write_nifti,
)


def examples_of(folder: Path, card: Card, **more: Any) -> CaseExamples:
    cases = more.pop("cases", None) or nifti_cases(nifti_folder(folder / "data", 3))
    told = {"window": card.runtime.roi, "foreground": 1.0, **more}
    return CaseExamples(cases, card, CaseStore(card, folder / "kept", None), NONE, **told)


def changed_card(folder: Path, task: str, change: Any) -> Card:
    made = read_recipe(recipe(folder / "recipe.yaml", task=task)).model_dump()
    change(made["card"])
    again = recipe_of(made, "here")
    return write_model(again, built_network(again, folder), folder / "model", folder)


def test_a_label_lies_on_the_very_voxels_of_its_picture(tmp_path: Path) -> None:
    # The model's axes run otherwise than those of the files, and its voxels are larger.
    def turned(card: dict[str, Any]) -> None:
        card["input"] |= {"axes": ["P", "I", "R"], "spacing_mm": [3.0, 2.5, 2.0]}

    card = changed_card(tmp_path, "segmentation", turned)
    examples = examples_of(tmp_path, card, window=None)
    for number in range(3):
        example = examples(number)
        assert example["image"].shape[1:] == example["target"].shape
        bright = example["image"][0] > 0.55
        same = float((bright & (example["target"] > 0)).sum()) * 2
        assert same / float(bright.sum() + (example["target"] > 0).sum()) > 0.93


def test_crops_have_the_size_of_windows_and_show_what_is_to_be_learned(tmp_path: Path) -> None:
    examples = examples_of(tmp_path, card_of(tmp_path))
    for number in range(8):
        example = examples(number)
        assert example["image"].shape == (1, 16, 16, 16)
        assert example["target"].any()
        assert torch.equal(example["image"], examples(number)["image"])
    assert not torch.equal(examples(0)["image"], examples(3)["image"])


def test_a_window_larger_than_the_picture_is_padded_with_what_lies_outside(
    tmp_path: Path,
) -> None:
    examples = examples_of(tmp_path, card_of(tmp_path), window=(32, 24, 24))
    example = examples(0)
    assert example["image"].shape == (1, 32, 24, 24)
    # -1024 HU is below the lowest value of the card.
    assert (example["image"][0, EDGE:] == 0).all()
    assert (example["target"][EDGE:] == 0).all()


def test_what_was_prepared_is_not_prepared_again_unless_the_card_asks_for_another_grid(
    tmp_path: Path,
) -> None:
    card = card_of(tmp_path)
    examples = examples_of(tmp_path, card)
    first = examples(0)
    for path in (tmp_path / "data").rglob("*.nii.gz"):
        path.unlink()
    again = CaseExamples(examples.cases, card, CaseStore(card, tmp_path / "kept", None), NONE,
                         window=card.runtime.roi, foreground=1.0)
    assert torch.equal(again(0)["image"], first["image"])

    def coarser(values: dict[str, Any]) -> None:
        values["input"]["spacing_mm"] = [4.0, 4.0, 4.0]

    other = changed_card(tmp_path / "other", "segmentation", coarser)
    with pytest.raises(TrainingError, match="cannot be read"):
        CaseExamples(examples.cases, other, CaseStore(other, tmp_path / "kept", None), NONE,
                     window=card.runtime.roi)(0)


def test_boxes_reach_from_edge_to_edge_and_leave_out_what_is_mostly_elsewhere() -> None:
    target = np.zeros((12, 12, 12), np.uint8)
    target[2:5, 3:8, 4:6] = 2
    target[9:11, 0:2, 0:2] = 1
    things, classes = numbered(target)
    assert classes.tolist() == [1, 2]
    found = boxes_of(things[:10], classes, np.bincount(things.ravel()))
    assert found["boxes"].tolist() == [[9, 0, 0, 10, 2, 2], [2, 3, 4, 5, 8, 6]]
    assert found["labels"].tolist() == [0, 1]
    less = boxes_of(things[:, :, 5:], classes, np.bincount(things.ravel()))
    assert less["labels"].tolist() == [1]
    none = boxes_of(things[:, :, 6:], classes, np.bincount(things.ravel()))
    assert none["boxes"].shape == (0, 6)


def test_a_detection_is_given_boxes_of_each_example(tmp_path: Path) -> None:
    card = card_of(tmp_path, "detection")
    examples = examples_of(tmp_path, card)
    batch = together([examples(0), examples(1)])
    assert batch["image"].shape == (2, 1, 24, 24, 24)
    assert [set(one) for one in batch["boxes"]] == [{"boxes", "labels"}] * 2
    _, mask, _ = ball(int(examples.cases[examples.order(0)].name[4:]))
    places = np.argwhere(mask)
    expected = [*places.min(axis=0), *(places.max(axis=0) + 1)]
    assert batch["boxes"][0]["boxes"][0].tolist() == expected


def test_scores_and_quantities_come_from_the_table(tmp_path: Path) -> None:
    card = card_of(tmp_path, "classification")
    cases = table_cases(scored_table(tmp_path, 4), card, None)
    examples = examples_of(tmp_path, card, cases=cases, window=None)
    for number in range(4):
        example = examples(number)
        assert example["image"].shape == (1, 24, 24, 24)
        assert example["values"].item() == cases[examples.order(number)].values["there"]


def test_a_case_that_does_not_say_what_is_to_be_learned_is_refused(tmp_path: Path) -> None:
    card = card_of(tmp_path, "classification")
    write_nifti(tmp_path / "a.nii.gz", ball(0)[0])
    cases = table_cases(table(tmp_path, [{"image": "a.nii.gz", "there": ""}]), card, None)
    with pytest.raises(TrainingError, match=r"a.nii.gz does not say its there"):
        examples_of(tmp_path, card, cases=cases)


def test_slices_of_a_sequence_are_told_by_their_labels(tmp_path: Path) -> None:
    def sequence(card: dict[str, Any]) -> None:
        card["output"] |= {"per": "sequence"}
        card["runtime"]["network"] = {"name": "CnnLstm", "arguments": {}}

    card = changed_card(tmp_path, "classification", sequence)
    examples = examples_of(tmp_path, card, window=None)
    example = examples(0)
    _, mask, _ = ball(int(examples.cases[examples.order(0)].name[4:]))
    assert example["slices"][:, 0].tolist() == mask.any(axis=(1, 2)).astype(float).tolist()
    assert example["values"].tolist() == [1.0]


def test_a_second_series_is_a_channel_and_none_is_said_to_be_none(tmp_path: Path) -> None:
    def joint(card: dict[str, Any]) -> None:
        card["input"] |= {
            "role": "ct", "presence": True,
            "companions": [{"role": "pt", "modality": ["PT"], "required": False,
                            "intensity": {"unit": "SUVbw", "clip": [0, 10], "scale_to": [0, 1]}}],
            "clinical": [{"name": "weight", "keyword": "PatientWeight", "center": 70,
                          "scale": 10}],
        }

    card = changed_card(tmp_path, "classification", joint)
    write_nifti(tmp_path / "ct.nii.gz", ball(0)[0])
    write_nifti(tmp_path / "pt.nii.gz", np.full((EDGE,) * 3, 5.0, np.float32))
    path = table(tmp_path, [
        {"image": "ct.nii.gz", "pt": "pt.nii.gz", "weight": 80, "there": 1, "patient": "a"},
        {"image": "ct.nii.gz", "pt": "", "weight": "", "there": 0, "patient": "b"},
    ])
    examples = examples_of(tmp_path, card, cases=table_cases(path, card, None), window=None)
    both = sorted((examples(number) for number in range(2)), key=lambda one: -one["values"].item())
    middles = [one["image"][1:, 12, 12, 12].tolist() for one in both]
    assert middles[0] == pytest.approx([0.5, 1.0, 1.0, 1.0])
    assert middles[1] == pytest.approx([0.0, 0.0, 0.0, 0.0])
