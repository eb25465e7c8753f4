"""No library below the models tells its makers of a hospital's models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ai_models.backends.recorder import Recorder
from tests.ai_models.tiny_models import threshold_onnx
from tests.source_tree import ROOT

_NAMES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY",
          "DO_NOT_TRACK", "NO_PROXY", "no_proxy", "XDG_CACHE_HOME")
# Longer than a worker waits for work; what is told is told some ten seconds after the start.
_RUN = """
import sys, time
from ai_models.backends.onnx_runtime import import_onnxruntime
import numpy
session = import_onnxruntime().InferenceSession(sys.argv[1])
session.run(None, {"image": numpy.zeros((1, 1, 16, 16, 16), "float32")})
time.sleep(float(sys.argv[2]))
"""


def run(folder: Path, proxy: str, seconds: float) -> None:
    (folder / "model.onnx").write_bytes(threshold_onnx(0.5))
    inherited = {name: value for name, value in os.environ.items() if name not in _NAMES}
    subprocess.run(
        [sys.executable, "-c", _RUN, str(folder / "model.onnx"), str(seconds)],
        env={**inherited, "HOME": str(folder / "home"), "PYTHONPATH": str(ROOT),
             "HTTPS_PROXY": proxy, "https_proxy": proxy},
        check=True, timeout=200, cwd=folder,
    )


def test_onnx_runtime_makes_no_name_for_this_machine(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    run(tmp_path, "http://127.0.0.1:9", 0.0)
    assert list((tmp_path / "home").rglob("*")) == []


@pytest.mark.long
def test_onnx_runtime_connects_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with Recorder() as anybody:
        run(tmp_path, anybody.url, 30.0)
    assert (anybody.connections, bytes(anybody.told)) == (0, b"")
