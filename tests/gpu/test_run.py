"""``dicom-node run`` on a series: the objects of the GPU are those of the processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml

from dicom_node.cli.demo_series import write_phantom_series
from tests.acceptance import masks
from tests.gpu.device import DEVICE, dice, needs_device
from tests.gpu.lungs import write_lungs

pytestmark = [pytest.mark.gpu, needs_device, pytest.mark.timeout(600)]


def run(folder: Path, device: str, series: Path) -> tuple[Path, dict[str, Any]]:
    """The objects of one run, and what it says of its one series."""
    config = folder / f"{device.replace(':', '')}.yaml"
    config.write_text(yaml.safe_dump({
        "node": {"data_dir": str(folder / f"data-{config.stem}")},
        "models": {"directories": [str(folder / "models")], "devices": [device]},
    }))
    output = folder / f"out-{config.stem}"
    done = subprocess.run(
        [sys.executable, "-m", "dicom_node", "--config", str(config), "run",
         str(folder / "models" / "lungs"), str(series), "--output", str(output)],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)},
    )
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((output / "predictions.json").read_text())["series"]
    return output, entry


def test_objects_of_the_device_are_those_of_the_processor(tmp_path: Path) -> None:
    write_lungs(tmp_path / "models" / "lungs", precision="bf16")
    paths = write_phantom_series(tmp_path / "series", 7)
    images = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    with ThreadPoolExecutor() as both:
        (here, _), (there, told) = both.map(
            lambda device: run(tmp_path, device, tmp_path / "series"), ("cpu", DEVICE)
        )
    print(f"RUN {json.dumps(told)[:3000]}")
    names = {path.name for path in there.glob("*.dcm")}
    assert names == {path.name for path in here.glob("*.dcm")}
    (name,) = [one for one in names if "segmentation" in one]
    assert any("report" in one for one in names)
    agreed = dice(*(masks.by_highdicom(folder / name, images) for folder in (there, here)))
    print(f"RUN Dice of the SEG on {DEVICE} and on the processor: {agreed:.6f}")
    assert agreed >= 0.99
    assert f"{DEVICE}, bf16" in json.dumps(told)
    for name in names:
        content = (there / name).read_bytes()
        assert b"precision=bf16" in content, name
        # A Segmentation has no place for sentences.
        assert f"{DEVICE}, bf16".encode() in content or "report" not in name, name
