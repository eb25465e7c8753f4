from __future__ import annotations

import csv
from pathlib import Path

from ai_models.training.phantoms.case_table import add_rows
from ai_models.training.phantoms.examination_files import row_of


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_studies_that_are_drawn_later_are_added_and_those_drawn_again_are_listed_once(
    tmp_path: Path,
) -> None:
    table = tmp_path / "studies" / "nodules.csv"
    add_rows(table, [{"image": "a/ct", "nodules": 1}])
    add_rows(table, [{"image": "b/ct", "nodules": 2}])
    add_rows(table, [{"image": "a/ct", "nodules": 3}])
    assert rows_of(table) == [{"image": "a/ct", "nodules": "3"}, {"image": "b/ct", "nodules": "2"}]


def test_a_table_of_other_columns_is_written_anew(tmp_path: Path) -> None:
    table = tmp_path / "nodules.csv"
    add_rows(table, [{"image": "a/ct"}])
    add_rows(table, [{"image": "b/ct", "nodules": 2}])
    assert rows_of(table) == [{"image": "b/ct", "nodules": "2"}]


def test_a_row_names_the_companion_and_what_is_true() -> None:
    row = row_of("pet-ct", "pet-ct-1", {"malignant": True, "highest_suv": 10.0})
    assert row == {"image": "pet-ct-1/ct", "label": "pet-ct-1/truth.nii.gz", "pt": "pet-ct-1/pt",
                   "malignant": 1, "highest_suv": 10.0}
    assert row_of("dynamic", "dynamic-1", {"kind": "none"}) == {
        "image": "dynamic-1/mr", "label": "dynamic-1/truth.nii.gz", "lesion": 0, "wash_out": 0}
