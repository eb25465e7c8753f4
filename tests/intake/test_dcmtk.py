"""DCMTK's clients against our listener."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.raw_scu import bare_data_set
from tests.dicom_samples import ct_series, write_series
from tests.intake.conftest import Node

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK is not installed"),
]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_echoscu_is_answered(both: Callable[..., Node]) -> None:
    node = both()
    done = run("echoscu", "-aec", "DICOMNODE", "127.0.0.1", str(node.port))
    assert done.returncode == 0, done.stderr


def test_storescu_stores_every_slice_byte_for_byte(
    both: Callable[..., Node], tmp_path: Path
) -> None:
    node = both()
    paths = write_series(ct_series(), tmp_path / "sent")
    done = run(
        "storescu", "-aec", "DICOMNODE", "127.0.0.1", str(node.port), *map(str, paths)
    )
    assert done.returncode == 0, done.stderr
    kept = {bare_data_set(node.spool.resolve(path))[3] for path in node.kept()}
    assert kept == {bare_data_set(path)[3] for path in paths}


def test_echoscu_with_a_wrong_title_is_told_why(both: Callable[..., Node]) -> None:
    node = both()
    done = run("echoscu", "-aec", "OTHER", "127.0.0.1", str(node.port))
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stderr
