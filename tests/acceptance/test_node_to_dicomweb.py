"""A CT through the node into an archive that takes results by STOW-RS only."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests import peers
from tests.acceptance import series
from tests.acceptance.running_node import RunningNode, wait_until

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]


def send_to_the_service(node: RunningNode, orthanc: peers.Orthanc) -> None:
    """Make the archive's DICOMweb service the peer that the rules send to."""
    settings = yaml.safe_load(node.config.read_text())
    settings["peers"]["pacs"] = {"dicomweb": {"url": f"{orthanc.url}/dicom-web"}}
    node.config.write_text(yaml.safe_dump(settings))


def test_results_wait_for_a_service_that_is_away_and_arrive_once_when_it_is_back(
    tmp_path: Path,
) -> None:
    orthanc = peers.Orthanc(tmp_path)
    node = RunningNode(tmp_path / "node", orthanc.peer, database=None)
    send_to_the_service(node, orthanc)
    sent = series.thin_phantom(tmp_path / "ct", seed=57)
    with node:
        node.send(sent.paths)
        wait_until(
            lambda: node.ledger.circuits.find("pacs").state == "open",
            "a delivery finds that nobody is there",
        )
        with orthanc:
            (job,) = node.wait_for_series(sent.series_instance_uid)
            made = {result.sop_instance_uid for result in node.ledger.jobs.results(job.job_id)}
            assert {d.state for d in node.deliveries(sent.series_instance_uid)} == {"sent"}
            assert sorted(orthanc.find_instances(sent.study_instance_uid)) == sorted(made)
            assert set(node.times_sent(sent.series_instance_uid).values()) == {1}
