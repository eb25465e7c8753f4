"""Which series a model takes together when somebody runs it on files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.card_input import InputEntry
from dicom_node.cli.series_roles import Series, found_in, largest_together, together
from dicom_node.errors import ConfigurationError, NodeError
from tests.ai_models.prediction.test_joint import PT
from tests.ai_models.tiny_models import write_model
from tests.cli.running import Site
from tests.dicom_samples import ct_series, mr_series, write_series
from tests.pet_ct import pet_of
from tests.pipeline.test_companions import bright_of

T2 = {"role": "t2", "modality": ["MR"], "intensity": {"unit": "arbitrary"}}


def entry(modality: str, *companions: dict[str, Any]) -> InputEntry:
    return InputEntry(
        modality=[modality], companions=list(companions), intensity={"unit": "arbitrary"},
    )


def study(folder: Path, pets: int = 1) -> Series:
    ct = ct_series((12, 32, 40))
    write_series(ct, folder / "ct")
    for number in range(pets):
        values = np.full((10, 10, 8), 20000.0)
        write_series(pet_of(ct[0], values_bqml=values), folder / f"pt-{number}")
    return found_in([folder])[0]


def uid_of(series: Series, name: str) -> str:
    return next(uid for uid, paths in series.items() if paths[0].parent.name == name)


def test_a_pet_belongs_to_the_ct_in_its_frame_of_reference(tmp_path: Path) -> None:
    series = study(tmp_path)
    (found,) = together(series, entry("CT", PT))
    assert (found.uid, found.uids) == (uid_of(series, "ct"), {"pt": uid_of(series, "pt-0")})
    assert len(found.companions["pt"]) == 10 and not found.missing


def test_series_of_two_patients_are_not_mixed(tmp_path: Path) -> None:
    study(tmp_path / "one")
    write_series(ct_series((5, 32, 40)), tmp_path / "two" / "other")
    series = found_in([tmp_path])[0]
    found = {one.uid: one for one in together(series, entry("CT", PT))}
    assert found[uid_of(series, "ct")].companions.keys() == {"pt"}
    assert found[uid_of(series, "other")].missing == {"pt": "not among the files"}


def test_which_of_two_is_meant_must_be_said(tmp_path: Path) -> None:
    series = study(tmp_path, pets=2)
    with pytest.raises(NodeError) as told:
        together(series, entry("CT", PT))
    assert told.value.reason == "input.several_companions"
    assert "--input pt=PATH" in str(told.value)
    chosen = {"pt": found_in([tmp_path / "pt-1"])[0]}
    found = together(series, entry("CT", PT), chosen)
    assert found[0].uids == {"pt": uid_of(series, "pt-1")}
    # The other one belongs to nothing: it is shown to the model, which refuses it.
    assert [one.uid for one in found[1:]] == [uid_of(series, "pt-0")]


def test_series_of_one_modality_are_told_apart_by_who_gives_them(tmp_path: Path) -> None:
    t1 = mr_series((6, 32, 40))
    t2 = mr_series((6, 32, 40), FrameOfReferenceUID=t1[0].FrameOfReferenceUID)
    write_series(t1, tmp_path / "t1")
    write_series(t2, tmp_path / "t2")
    named = {"t2": found_in([tmp_path / "t2"])[0]}
    series = found_in([tmp_path])[0]
    (found,) = together(series, entry("MR", T2), named)
    assert found.uid == uid_of(series, "t1") and found.uids == {"t2": uid_of(series, "t2")}
    assert len(together(series, entry("MR", T2))) == 2


def test_a_role_that_the_model_does_not_have_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as told:
        together({}, entry("CT", PT), {"flair": {}})
    assert "pt" in str(told.value)


def test_the_largest_is_shown_with_what_belongs_to_it(tmp_path: Path) -> None:
    study(tmp_path / "one")
    write_series(mr_series((20, 32, 40)), tmp_path / "two" / "mr")
    shown = largest_together([tmp_path], entry("CT", PT))
    assert shown is not None and shown.companions.keys() == {"pt"}
    alone = largest_together([tmp_path], entry("CT"))
    assert alone is not None and len(alone.paths) == 20
    assert largest_together([], entry("CT", PT)) is None


def test_run_gives_a_model_its_series_and_says_which(site: Site) -> None:
    write_model(
        site.folder / "models" / "joint", bright_of(2), id="joint", input__role="ct",
        input__companions=[PT],
    )
    site.settings(more=f"models: {{directories: [{site.folder / 'models'}], devices: [cpu]}}\n")
    series = study(site.folder / "images")
    out = site.folder / "out"
    answer = site("run", "joint", site.folder / "images", "--output", out)
    assert answer.code == 0, answer.err
    (one,) = json.loads((out / "predictions.json").read_text())["series"]
    assert one["companions"] == {
        "pt": {"series_instance_uid": uid_of(series, "pt-0"), "instances": 10}
    }
    assert one["missing"] == {}
    assert "ct was analysed together with pt (PT, 10 slices)" in answer.out
    wrong = site("run", "joint", site.folder / "images", "--output", out, "--input", "pt")
    assert wrong.code == 2
