"""A node on several hosts on one PostgreSQL and one folder of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.records import JobState
from tests.several_hosts.site import Site

pytestmark = [pytest.mark.postgresql, pytest.mark.long, pytest.mark.timeout(900)]


def test_a_receiver_a_worker_and_a_deliverer_on_hosts_of_their_own_do_the_whole_way(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        receiver = site.host("receiver", "intake")
        site.host("worker", "work")
        site.host("deliverer", "deliver")
        site.wait_for("receiver", "worker", "deliverer")
        site.send_when_open(receiver)
        site.wait_quiet(1)
        (job,) = site.jobs()
        assert job.state is JobState.SUCCEEDED, job.reason
        assert site.ledger.claims.host_of(job.job_id, job.attempt) == "worker"
        assert site.archive.received == [
            one.sop_instance_uid for one in site.ledger.jobs.results(job.job_id)
        ]
