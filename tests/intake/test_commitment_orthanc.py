"""A real archive asks the node whether it keeps what it was sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dicom_node.config import Config
from dicom_node.delivery.sender import Sender
from dicom_node.events import Events
from dicom_node.node import Node
from tests.dicom_samples import ct_series, write_series
from tests.peers import Orthanc, free_port
from tests.test_node import running, until


def test_orthanc_gets_its_report(tmp_path: Path) -> None:
    port = free_port()
    series = ct_series((3, 8, 8))
    paths = write_series(series, tmp_path / "series")
    kept = [str(one.SOPInstanceUID) for one in series]
    with Orthanc(tmp_path, modalities={"node": ("DICOMNODE", "127.0.0.1", port)}) as orthanc:
        assert all(one.stored for one in Sender("CT01").send(orthanc.peer, paths))
        config = Config.model_validate(
            {
                "node": {"ae_title": "DICOMNODE", "host": "127.0.0.1", "port": port,
                         "data_dir": tmp_path / "node"},
                "storage": {"refuse_below_free_bytes": 0},
                "intake": {"listener_processes": 1, "commitment_report_after_s": 0.2},
                "models": {"devices": ["cpu"]},
                "peers": {"pacs": {"ae_title": "ORTHANC", "host": "127.0.0.1",
                                   "port": orthanc.port}},
            }
        )
        with running(Node(config, Events(), roles={"intake"})):
            orthanc.send("node", kept)
            answer = orthanc.post(
                "/modalities/node/storage-commitment",
                {"DicomInstances": [*({"SOPClassUID": series[0].SOPClassUID,
                                       "SOPInstanceUID": uid} for uid in kept),
                                    {"SOPClassUID": series[0].SOPClassUID,
                                     "SOPInstanceUID": "1.2.3.4"}]},
            )  # fmt: skip

            def report() -> dict[str, Any]:
                found: dict[str, Any] = json.loads(orthanc.get(answer["Path"]))
                return found

            until(lambda: report()["Status"] != "Pending", "a report")
            told = report()
    assert told["Status"] == "Failure"
    assert sorted(one["SOPInstanceUID"] for one in told["Success"]) == sorted(kept)
    assert [one["SOPInstanceUID"] for one in told["Failures"]] == ["1.2.3.4"]
    assert told["Failures"][0]["FailureReason"] == 0x0112
