"""A serving node whose writer is a language model in a folder: it has a process of its own."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_models.weights import folder_sha256
from dicom_node.records import JobState
from tests.acceptance.running_node import RunningNode, wait_until
from tests.ai_models.drafting.test_folder_writer import WORDS, write_model
from tests.ai_models.drafting.writers import writer_folder
from tests.ai_models.tiny_models import threshold_onnx
from tests.ai_models.tiny_models import write_model as write_tiny
from tests.databases import NodeDatabase
from tests.delivery.scripted_peer import peer_at, scripted_peer
from tests.dicom_samples import ct_series, write_series
from tests.test_node import RESULT_CLASSES

pytestmark = [pytest.mark.network, pytest.mark.long, pytest.mark.timeout(900)]
_STARTED = re.compile(r"device=cpu \(writer\) what=started reason=pid (\d+)")


def writing_node(folder: Path, port: int, database: str | None) -> RunningNode:
    write_model(folder / "writer" / "model", WORDS)
    writer_folder(folder / "writer", writer="huggingface", endpoint=None, max_tokens=64, weights={
        "path": "model", "sha256": folder_sha256(folder / "writer" / "model"), "licence": "MIT",
        "source": "test",
    })
    node = RunningNode(folder / "node", peer_at(port), database=database)
    write_tiny(folder / "models" / "tiny", threshold_onnx(0.5), id="tiny")
    told = yaml.safe_load(node.config.read_text())
    told["completeness"] = {"after_release_s": 1, "quiet_period_s": 3, "give_up_after_s": 30}
    told["models"]["directories"] = [str(folder / "models")]
    told["results"] = {"impression": str(folder / "writer")}
    told["rules"] = [
        {"name": "all", "when": {"Modality": "CT"}, "send_to": ["pacs"], "model": "tiny"},
    ]
    node.config.write_text(yaml.safe_dump(told))
    return node


def test_it_writes_for_one_series_after_the_other_and_again_when_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node_database: NodeDatabase
) -> None:
    # Where torchvision is of another build than torch, workers are to see none.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\nsys.modules['torchvision'] = None\n")
    with scripted_peer(sop_classes=RESULT_CLASSES) as archive:
        node = writing_node(tmp_path, archive.port, node_database())
        monkeypatch.setattr(
            "tests.acceptance.running_node.ROOT", f"{Path.cwd()}:{tmp_path / 'site'}")
        checked = node.command("check")
        assert "Radiology Llama 1.0 drafts the impression, by 'all'" in checked.stdout
        with node:
            said = [_analysed(node, tmp_path / "ct0"), _analysed(node, tmp_path / "ct1")]
            (pid,) = map(int, _STARTED.findall(node.log_text()))
            os.kill(pid, signal.SIGKILL)
            said.append(_analysed(node, tmp_path / "ct2"))
            pids = _STARTED.findall(node.log_text())
            assert node.stop() == 0
            wait_until(lambda: not node.living(), "its processes end with the node")
    assert len(pids) == 2
    for one in said:
        # It says of a lump what it learned of a chest, so that the guard passes none of it.
        assert (one["fallback"], one["writer"]["id"]) == ("all_struck", "radiology-llama"), one
        assert len(one["writer"]["sha256"]) == 64


def _analysed(node: RunningNode, folder: Path) -> Any:
    images = ct_series((12, 32, 40))
    node.send(write_series(images, folder))
    (job,) = node.wait_for_series(str(images[0].SeriesInstanceUID))
    assert job.state is JobState.SUCCEEDED, job.reason
    said = node.ledger.predictions.of(job.job_id)
    assert said is not None
    return said["impression"]
