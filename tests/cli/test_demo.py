"""The demonstration clears up behind itself, and only behind itself."""

from __future__ import annotations

from pathlib import Path

from dicom_node.cli import demo


def test_an_earlier_result_goes_and_what_else_lies_there_stays(tmp_path: Path) -> None:
    # `demo SERIES --output SERIES` once deleted the series.
    for name in ("1-001.dcm", "photo.png", "segmentation.dcm", "overlay_axial.png"):
        (tmp_path / name).write_bytes(b"x")
    demo._forget_earlier(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"1-001.dcm", "photo.png"}
