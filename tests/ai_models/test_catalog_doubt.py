"""A model that is damaged, or whose directory is away: told, waited for, not replaced."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ai_models import catalog_folder
from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.catalog_folder import What
from ai_models.types import ModelError
from ai_models.weights import verify_weights
from tests.ai_models.backends.command_models import write_command
from tests.ai_models.tiny_models import write_model


def quick(*directories: Path, **given: object) -> Catalog:
    return Catalog(
        directories, quiet_s=0.02, admit=verify_weights, **given  # type: ignore[arg-type]
    )


def until(catalog: Catalog, condition: Callable[[], bool]) -> list[What]:
    told: list[What] = []
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, catalog.problems()
        told += [one.what for one in catalog.refresh()]
        time.sleep(0.01)
    return told


def why_not(catalog: Catalog, model_id: str = "one") -> str:
    with pytest.raises(ModelError) as caught:
        catalog.get(model_id)
    return caught.value.reason


def damaged(tmp_path: Path, catalog: Catalog) -> Path:
    folder = tmp_path / "one"
    (folder / "weights.onnx").write_bytes(b"damaged")
    catalog.doubt(catalog.get("one"))
    until(catalog, lambda: bool(catalog.problems()))
    return folder


def test_a_doubted_model_that_is_sound_stays_and_nothing_is_told(tmp_path: Path) -> None:
    write_model(tmp_path / "one", b"weights", id="one")
    asked: list[Card] = []
    catalog = Catalog([tmp_path], quiet_s=0.02, admit=asked.append)
    catalog.doubt(catalog.get("one"))
    assert until(catalog, lambda: bool(asked)) == []
    for _ in range(5):
        assert catalog.refresh() == []
    assert catalog.get("one") and len(asked) == 1


def test_a_doubted_model_whose_weights_are_others_is_not_used_until_they_are_right(
    tmp_path: Path,
) -> None:
    write_model(tmp_path / "one", b"weights", id="one")
    catalog = quick(tmp_path)
    folder = damaged(tmp_path, catalog)
    assert why_not(catalog) == "model.hash_mismatch"
    (problem,) = catalog.problems()
    assert (problem.model_id, problem.reason) == ("one", "model.hash_mismatch")
    assert catalog.knows("one") and not catalog.knows("oen")
    (folder / "weights.onnx").write_bytes(b"weights")
    told = until(catalog, lambda: bool(catalog.versions("one")))
    assert told == [What.ADDED, What.SOLVED] and catalog.problems() == []


def test_a_damaged_live_version_is_not_gone_and_no_other_takes_its_place(tmp_path: Path) -> None:
    write_model(tmp_path / "one", b"weights", id="one", version="1")
    write_model(tmp_path / "two", b"others", id="one", version="2")
    catalog = quick(tmp_path)
    catalog.prefer({"one": "1"})
    damaged(tmp_path, catalog)
    assert [card.version for card in catalog.versions("one")] == ["2"]
    assert why_not(catalog) == "model.hash_mismatch"


def test_a_version_that_is_left_while_the_live_ones_card_is_broken_does_not_become_live(
    tmp_path: Path,
) -> None:
    write_model(tmp_path / "one", b"weights", id="one", version="1")
    write_model(tmp_path / "two", b"others", id="one", version="2")
    (tmp_path / "one" / "model.yaml").write_text("id: one\nsurprise: 1\n")
    catalog = quick(tmp_path)
    catalog.prefer({"one": "1"})
    assert why_not(catalog) == "model.unknown"
    shutil.rmtree(tmp_path / "one")
    until(catalog, lambda: not catalog.problems())
    assert why_not(catalog) == "model.no_live_version"


@pytest.mark.parametrize("in_a_folder", [False, True])
def test_weights_that_change_under_a_live_card_are_looked_through_without_a_job(
    tmp_path: Path, in_a_folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_folder, "_FOLDERS_EVERY_S", 0.05)
    if in_a_folder:
        folder = write_command(tmp_path / "one", Path(sys.executable), "", id="one")
        weights = folder / "weights" / "program.py"
    else:
        folder = write_model(tmp_path / "one", b"weights", id="one")
        weights = folder / "weights.onnx"
    os.utime(folder / "model.yaml", (1e9, 1e9))
    catalog = quick(tmp_path)
    assert catalog.refresh() == catalog.problems() == []
    before = datetime.now(UTC) - timedelta(seconds=5)
    with weights.open("ab") as file:
        file.write(b"x")
    assert until(catalog, lambda: bool(catalog.problems())) == [What.PROBLEM]
    (problem,) = catalog.problems()
    assert problem.reason == why_not(catalog) == "model.hash_mismatch"
    assert problem.since >= before


def test_weights_that_were_only_touched_change_nothing(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one", b"weights", id="one")
    asked: list[Card] = []
    catalog = Catalog([tmp_path], quiet_s=0.02, admit=asked.append)
    os.utime(folder / "weights.onnx", (1e9, 1e9))
    assert until(catalog, lambda: bool(asked)) == []
    for _ in range(5):
        assert catalog.refresh() == []
    assert catalog.get("one") and len(asked) == 1


def test_a_card_that_becomes_bad_while_its_weights_are_looked_through_leaves_the_last_good_one(
    tmp_path: Path,
) -> None:
    folder = write_model(tmp_path / "one", b"weights", id="one")
    catalog = quick(tmp_path)
    catalog.doubt(catalog.get("one"))
    (folder / "model.yaml").write_text("id: one\nsurprise: 1\n")
    until(catalog, lambda: bool(catalog.problems()))
    assert catalog.get("one")


def test_weights_that_can_be_read_again_are_found_though_nothing_in_the_folder_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_folder, "_AGAIN_S", 0.05)
    away = [True]

    def admit(_card: Card) -> None:
        if away[0]:
            raise ModelError("cannot be read", reason="model.weights_missing")

    write_model(tmp_path / "one", b"weights", id="one")
    catalog = Catalog([tmp_path], quiet_s=0.02, admit=admit)
    catalog.doubt(catalog.get("one"))
    until(catalog, lambda: bool(catalog.problems()))
    away[0] = False
    until(catalog, lambda: bool(catalog.versions("one")))


def test_a_directory_that_is_away_at_the_beginning_may_be_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "share"
    catalog = quick(folder, missing_ok=True)
    (problem,) = catalog.problems()
    assert (problem.folder, problem.reason) == (folder, "model.directory_missing")
    assert why_not(catalog) == "model.directory_missing" and catalog.knows("one")
    assert catalog.get("lungs-ct")
    write_model(folder / "one", b"weights", id="one")
    until(catalog, lambda: bool(catalog.versions("one")))
    assert catalog.problems() == [] and not catalog.knows("other")
