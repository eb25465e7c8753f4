"""Hosts of an earlier version beside hosts of this one, on one ledger: an upgrade host by host.

The earlier version is the code of a former commit, one of the first that could share a ledger.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest

from dicom_node.records import JobState
from tests.postgres_server import PostgresServer, database
from tests.several_hosts.site import ROOT, HostProcess, Site, wait_until

pytestmark = [pytest.mark.postgresql, pytest.mark.long, pytest.mark.timeout(1800)]
EARLIER = "8fa673f"
CODE = ("dicom_node", "ai_models", "sr_templates", "config.yaml")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A folder with the code of the earlier version."""
    done = subprocess.run(
        ["git", "archive", EARLIER, *CODE], cwd=ROOT, capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"the history back to {EARLIER} is not here")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(tmp_path / "earlier", filter="data")
    return tmp_path / "earlier"


def make_ledger(code: Path, url: str) -> None:
    """An empty ledger as that version makes it."""
    text = "from dicom_node.ledger.ledger import Ledger; Ledger.open({!r}).close()"
    subprocess.run(
        [sys.executable, "-c", text.format(url)], cwd=code,
        env={**os.environ, "PYTHONPATH": str(code)}, check=True,
    )


def start(site: Site, code: Path, name: str, roles: str) -> HostProcess:
    host = HostProcess(site.folder / name, roles, site.settings())
    site.hosts.append(host)
    host.start(PYTHONPATH=str(code))
    return host


def renew(host: HostProcess) -> None:
    """Stop a host in order, and start it with the code of this version."""
    assert host.stop() == 0, host.log_text()
    host.was_ended = False
    host.start()


def is_back(site: Site, host: HostProcess) -> bool:
    """Whether a host lives again, and its doors, if it has any, are open again."""
    told = host.log_text()
    is_open = host.roles != "intake" or told.count("node listening") == 2
    return told.count("host is here") == 2 and host.name in site.living() and is_open


def test_hosts_are_upgraded_one_after_the_other_and_each_mixture_does_the_whole_way(
    tmp_path: Path, postgres: PostgresServer, earlier: Path
) -> None:
    url = database(postgres.url, "two_versions")
    make_ledger(earlier, url)
    # The site's own ledger, of this version, brings it up to date while nobody else has it.
    with Site(tmp_path / "site", url) as site:
        receiver = start(site, earlier, "receiver", "intake")
        worker = start(site, earlier, "worker", "work")
        deliverer = start(site, earlier, "deliverer", "deliver")
        site.wait_for("receiver", "worker", "deliverer")
        site.send_when_open(receiver, 0)
        site.wait_quiet(1)
        for number, host in enumerate((receiver, worker, deliverer), start=1):
            renew(host)
            wait_until(partial(is_back, site, host), f"{host.name} is back")
            site.send(receiver, number)
            site.wait_quiet(number + 1)
        assert [one.state for one in site.jobs()] == [JobState.SUCCEEDED] * 4
        assert len(site.archive.received) == len(set(site.archive.received))
        for host in (receiver, worker, deliverer):
            assert "unexpected" not in host.log_text(), host.log_text()


def test_a_worker_of_each_version_shares_the_work(
    tmp_path: Path, postgres: PostgresServer, earlier: Path
) -> None:
    url = database(postgres.url, "two_workers")
    with Site(tmp_path / "site", url) as site:
        receiver = site.host("receiver", "intake,deliver")
        old = start(site, earlier, "old", "work")
        new = site.host("new", "work")
        site.wait_for("receiver", "old", "new")
        site.send_when_open(receiver, 0)
        for number in range(1, 8):
            site.send(receiver, number)
        site.wait_quiet(8)
        jobs = site.jobs()
        assert [one.state for one in jobs] == [JobState.SUCCEEDED] * 8
        at = {site.ledger.claims.host_of(one.job_id, one.attempt) for one in jobs}
        assert at <= {"old", "new"}
        assert len(site.archive.received) == len(set(site.archive.received))
        for host in (old, new):
            assert "unexpected" not in host.log_text(), host.log_text()
