"""A CT through the node into Orthanc, with an impression that a host drafted, lies included."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest
import yaml

from tests import peers
from tests.acceptance import series
from tests.acceptance.running_node import RunningNode, settings
from tests.ai_models.backends.fake_openai import FakeOpenAi
from tests.ai_models.backends.loopback import Asked, Given
from tests.ai_models.drafting.writers import writer_folder
from tests.results.samples import named

pytestmark = [
    pytest.mark.network, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600),
]


class HalfLiar(FakeOpenAi):
    """Writes of the first volume what is true, and that it is of the other side."""

    def answer(self, asked: Asked) -> Given:
        if asked.method == "POST":
            told = json.loads(json.loads(asked.body)["messages"][1]["content"])["evidence"]
            one = next(item for item in told if item.get("quantity") == "Volume" and "side" in item)
            other = {"left": "right", "right": "left"}[one["side"]]
            self.text = json.dumps({"impression": [
                {"text": f"The {side} lung has a volume of {one['value']} ml.",
                 "evidence": [one["id"]]}
                for side in (one["side"], other)
            ]})
        return super().answer(asked)


def test_archive_has_the_draft_without_its_lie(tmp_path: Path, orthanc: peers.Orthanc) -> None:
    sent = series.thin_phantom(tmp_path / "ct", seed=31)
    header = pydicom.dcmread(sent.paths[0], stop_before_pixels=True)
    writer_folder(tmp_path / "writer")
    node = RunningNode(tmp_path / "node", orthanc.peer, database=None)
    with HalfLiar() as host:
        document = settings(node.data_dir, orthanc.peer, node.port, None)
        document["models"]["endpoints"] = {"language": {"url": host.url}}
        document["results"] = {"impression": str(tmp_path / "writer")}
        node.config.write_text(yaml.safe_dump(document))
        with node:
            node.send(sent.paths)
            (job,) = node.wait_for_series(sent.series_instance_uid)
            kept = {one.kind: one for one in node.ledger.jobs.results(job.job_id)}
            said = node.ledger.predictions.of(job.job_id)
        asked = "".join(one.body.decode() for one in host.asked)
    path = tmp_path / "report.dcm"
    path.write_bytes(orthanc.download(kept["volumetric report"].sop_instance_uid))
    report = pydicom.dcmread(path)
    told = [str(one.TextValue) for one in named(report, "121073")]
    true, lie = (one["text"] for one in json.loads(host.text)["impression"])
    assert told[0] == true
    assert lie not in told
    groups = {str(one.UID) for group in named(report, "125007") for one in named(group, "112040")}
    references = {str(one.UID) for item in named(report, "121073") for one in item.ContentSequence}
    assert references <= groups
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert said is not None and said["impression"]["struck"] == {"side": 1}
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert str(header.get(keyword)) not in asked
