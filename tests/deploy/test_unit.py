"""The shipped unit, as systemd reads it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "deploy/systemd"
UNIT = SYSTEMD / "dicom-node.service"
# In tenths; `systemd-analyze security` calls up to 4.0 OK.
MOST_EXPOSED = 20


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


def value(key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", UNIT.read_text())


def test_systemd_knows_every_line_of_it(tmp_path: Path) -> None:
    # The program is not installed here, and one that is stands in for it.
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/dicom-node/bin/dicom-node", "/bin/true"))
    found = analyze("verify", "--man=no", str(copy))
    assert found.returncode == 0 and found.stderr == "", found.stderr


def test_it_exposes_no_more_than_was_stated() -> None:
    found = analyze(
        "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(UNIT)
    )
    assert found.returncode == 0, found.stdout[-3000:]


def test_it_stops_and_watches_in_times_that_fit_each_other() -> None:
    from dicom_node import node_health
    from dicom_node.operations import systemd

    assert value("WatchdogSec") == ["3min"] and node_health._LONGEST_ROUND_S < 180
    assert float(value("TimeoutStopSec")[0]) >= systemd._LONGEST_END_S


def test_images_go_to_no_dump_of_memory_and_to_no_other_user() -> None:
    assert value("LimitCORE") == ["0"] and value("UMask") == ["0027"]
    assert value("StateDirectoryMode") == ["0750"] and value("NotifyAccess") == ["main"]
