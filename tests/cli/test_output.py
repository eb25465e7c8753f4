"""What several commands print."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.cli.output import tell_skipped


def test_thousands_of_skipped_files_are_not_thousands_of_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell_skipped([(Path(f"{number}.txt"), "the file is not DICOM") for number in range(1000)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "skipped 0.txt: the file is not DICOM"
    assert len(lines) == 11 and lines[-1] == "skipped 990 more"
    tell_skipped([(Path("one.txt"), "the file is not DICOM")])
    assert len(capsys.readouterr().err.splitlines()) == 1
