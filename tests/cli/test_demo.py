"""The demonstration clears up behind itself, and only behind itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.cli import demo, demo_series


def test_an_earlier_result_goes_and_what_else_lies_there_stays(tmp_path: Path) -> None:
    # `demo SERIES --output SERIES` once deleted the series.
    for name in ("1-001.dcm", "photo.png", "segmentation.dcm", "overlay_axial.png"):
        (tmp_path / name).write_bytes(b"x")
    demo._forget_earlier(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"1-001.dcm", "photo.png"}


def test_the_generated_chest_stays_for_viewers_and_for_a_node_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []

    def draw(folder: Path, seed: int) -> list[Path]:
        drawn.append(folder)
        return [folder / "0000.dcm"]

    monkeypatch.setattr(demo_series, "write_phantom_series", draw)
    assert demo._series([], tmp_path) == [tmp_path / "images" / "0000.dcm"]
    assert drawn == [tmp_path / "images"]


def test_the_stand_in_pacs_says_nothing_of_how_the_node_leaves_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    demo._quiet_events().association_ended("1", "aborted", 3)
    assert caplog.records == []
