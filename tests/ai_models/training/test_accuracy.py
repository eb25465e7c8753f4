"""Figures of models of real images, measured once more from the weights that are here."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.training import accuracy
from ai_models.training.accuracy import Row, file_below, lung_tumour, main, table
from ai_models.training.settings import TrainingError
from tests.shared_data import needs_shared, shared

LABELLED = shared("data", "labelled")
FIGURE = {"value": 0.9, "low": 0.8, "high": 0.95}


def row(card: float | None = 0.9, **changed: float | None) -> Row:
    return Row("one", 10, "AUC", {**FIGURE, **changed}, FIGURE, card)


def test_what_differs_by_more_than_rounding_is_told() -> None:
    assert not row().differs and not row(value=0.9004).differs
    assert row(value=0.902).differs and row(low=0.79).differs and row(card=0.91).differs
    assert row(low=None).differs
    page = table([row(), row(value=0.5)])
    assert page.count("**differs**") == 1 and "0.500 (0.800 to 0.950)" in page


def test_the_exit_code_says_whether_a_figure_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("pneumoniamnist.npz", "val_patches.h5"):
        (tmp_path / "deep" / name).touch()
    monkeypatch.setattr(accuracy, "pneumonia", lambda _: [row()])
    monkeypatch.setattr(accuracy, "lung_tumour", lambda _: [row()])
    assert main(["--data", str(tmp_path)]) == 0
    monkeypatch.setattr(accuracy, "lung_tumour", lambda _: [row(value=0.7)])
    assert main(["--data", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "**differs**" in said and "\n0 of 2 figures differ" in said
    assert "\n1 of 2 figures differ" in said


def test_a_folder_without_the_data_is_no_figure_that_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pneumoniamnist.npz").touch()
    assert main(["--data", str(tmp_path)]) == 2
    assert "no val_patches.h5 below" in capsys.readouterr().err


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no val_patches.h5 below"):
        file_below(tmp_path, ("val_patches.h5",))


@needs_shared("data", "labelled")
def test_the_committed_network_of_pieces_has_the_figures_that_are_recorded() -> None:
    rows = lung_tumour(file_below(LABELLED, ("val_patches.h5",)))
    assert len(rows) == 8 and not any(one.differs for one in rows)


@pytest.mark.long
@needs_shared("data", "labelled")
def test_all_figures_are_had_again_by_one_command() -> None:
    assert main(["--data", str(LABELLED)]) == 0
