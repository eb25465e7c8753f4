"""A job whose worker dies every time, and an operator who stops one: the others flow."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config import Config, PeerSettings
from dicom_node.delivery.sender import Sender
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.versions import NOT_ANALYSED
from dicom_node.node import Node
from dicom_node.pipeline.dispatch import JobDispatch
from dicom_node.pipeline.retry import Cause, cause_of
from dicom_node.records import Job, JobState
from tests.databases import NodeDatabase
from tests.delivery.scripted_peer import ScriptedPeer, scripted_peer
from tests.dicom_samples import ct_series, write_series
from tests.pipeline.odd_models import Endless, write_torchscript
from tests.test_node import RESULT_CLASSES, running, settings, until

pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.long_on_postgresql,
]
KILLS = 2
OPEN = (JobState.QUEUED, JobState.RUNNING, JobState.HELD)


class Seen(Events):
    """Keeps why workers were killed."""

    def __init__(self) -> None:
        self.killed: list[str] = []

    def worker_changed(self, device: str, what: str, reason: str = "") -> None:
        if what == "killed":
            self.killed.append(reason)


class Site:
    """A node in this process with a quick model and one that takes days, and a scanner."""

    def __init__(self, folder: Path, archive: ScriptedPeer, url: str | None) -> None:
        self.folder, self.archive, self.seen = folder, archive, Seen()
        document = settings(folder, archive.port).model_dump()
        document["database"] = {"url": url}
        write_torchscript(folder / "models" / "slow", Endless())
        rule = {**document["rules"][0], "send_to": ["pacs"]}
        document["rules"] = [
            {**rule, "name": name, "model": model, "when": {"SeriesDescription": name.upper()}}
            for name, model in (("quick", "bright"), ("slow", "slow"))
        ]
        # A model that never ends would hold its device already when it is loaded ahead.
        document["jobs"] = {"max_attempts": 10, "read_ahead_mib": 0}
        self.node = Node(Config.model_validate(document), self.seen)
        self.ledger: Ledger = self.node.ledger
        self._sent = 0

    def send(self, kind: str) -> str:
        """Send a new series for the ``quick`` or the ``slow`` model; returns its UID."""
        self._sent += 1
        series = ct_series((12, 32, 40), SeriesDescription=kind.upper())
        paths = write_series(series, self.folder / f"series-{self._sent}")
        peer = PeerSettings(name="node", ae_title="DICOMNODE", host="127.0.0.1",
                            port=self.node.port)
        assert all(outcome.stored for outcome in Sender("SCANNER").send(peer, paths))
        return str(series[0].SeriesInstanceUID)

    def job(self, series_instance_uid: str) -> Job:
        until(lambda: bool(self.ledger.jobs.of_series(series_instance_uid)), "the series is routed")
        (job,) = self.ledger.jobs.of_series(series_instance_uid)
        return job

    def wait_for(self, series_instance_uid: str, *states: JobState) -> Job:
        until(lambda: self.job(series_instance_uid).state in states, f"the job is in {states}")
        return self.job(series_instance_uid)

    def wait_for_computing(self, series_instance_uid: str) -> None:
        self.wait_for(series_instance_uid, JobState.RUNNING)
        until(lambda: self.worker_pid() is not None, "a worker runs")

    def kinds(self, job_id: str) -> list[str]:
        return [one.kind for one in self.ledger.jobs.results(job_id)]

    def worker_pid(self) -> int | None:
        assert self.node.work.pool is not None
        live = self.node.work.pool._workers[0]._live
        return live.process.pid if live is not None else None

    def is_delivered(self, series_instance_uid: str) -> None:
        done = self.wait_for(series_instance_uid, JobState.SUCCEEDED, JobState.DEAD)
        assert done.state is JobState.SUCCEEDED, done.reason
        uids = [one.sop_instance_uid for one in self.ledger.jobs.results(done.job_id)]
        assert uids
        until(lambda: set(uids) <= set(self.archive.received), "the results are delivered")
        assert [self.archive.received.count(uid) for uid in uids] == [1] * len(uids)


@pytest.fixture
def site(tmp_path: Path, node_database: NodeDatabase) -> Iterator[Site]:
    with scripted_peer(sop_classes=RESULT_CLASSES) as archive:
        made = Site(tmp_path, archive, node_database())
        with running(made.node):
            yield made


def kill_whatever_computes(site: Site, uid: str, attempt: int, killed: set[int]) -> None:
    """Kill each worker while this attempt of the job runs, until the attempt is over."""

    def is_over() -> bool:
        job = site.job(uid)
        if job.attempt != attempt or job.state not in OPEN:
            return True
        pid = site.worker_pid()
        if job.state is JobState.RUNNING and pid is not None and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        return False

    until(is_over, f"attempt {attempt} ends")


def test_a_job_whose_worker_is_killed_again_is_a_dead_letter_and_the_others_flow(
    site: Site,
) -> None:
    poison = site.send("slow")
    site.wait_for_computing(poison)
    # Before the first kill: what comes only after it may find the device taken again.
    other = site.send("quick")
    site.job(other)
    killed: set[int] = set()
    while (job := site.wait_for(poison, *OPEN, JobState.DEAD)).state is not JobState.DEAD:
        site.ledger.decisions.hurry(job.job_id)
        kill_whatever_computes(site, poison, job.attempt, killed)
        if len(killed) == 1:
            site.is_delivered(other)
            assert site.job(poison).state is not JobState.DEAD
    reasons = site.ledger.jobs.failures(job.job_id)
    assert [cause_of(reason) for reason in reasons] == [Cause.ELSEWHERE] * KILLS
    assert job.reason.startswith("worker.lost") and "before that: worker.lost" in job.reason
    until(lambda: site.kinds(job.job_id) == [NOT_ANALYSED], "the dead job is answered for")
    site.is_delivered(site.send("quick"))


@pytest.mark.parametrize("decision", ["cancel", "hold"])
def test_a_running_job_that_an_operator_stops_gives_its_device_to_the_next(
    site: Site, decision: str
) -> None:
    stopped = site.send("slow")
    site.wait_for_computing(stopped)
    # As the command line does it: another process on the same ledger.
    beside = Ledger.open(site.ledger.url)
    getattr(beside.decisions, decision)(site.job(stopped).job_id)
    beside.close()
    until(lambda: "cancelled" in site.seen.killed, "the worker is killed")
    site.is_delivered(site.send("quick"))
    expected = {"cancel": JobState.CANCELLED, "hold": JobState.HELD}[decision]
    assert site.job(stopped).state is expected
    made = {"cancel": [NOT_ANALYSED], "hold": []}[decision]
    until(lambda: site.kinds(site.job(stopped).job_id) == made, f"{made} of the stopped job")
    if decision == "hold":
        site.ledger.decisions.release(site.job(stopped).job_id)
        site.wait_for(stopped, JobState.RUNNING)
        site.ledger.decisions.cancel(site.job(stopped).job_id)
        site.is_delivered(site.send("quick"))


def test_stat_goes_before_the_routine_jobs_that_wait(site: Site) -> None:
    computing = site.send("slow")
    site.wait_for_computing(computing)
    waiting = [site.send("quick") for _ in range(3)]
    for uid in waiting:
        site.wait_for(uid, JobState.QUEUED)
    series = ct_series((12, 32, 40), SeriesDescription="QUICK", RequestedProcedurePriority="STAT")
    paths = write_series(series, site.folder / "emergency")
    peer = PeerSettings(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=site.node.port)
    assert all(outcome.stored for outcome in Sender("SCANNER").send(peer, paths))
    emergency = str(series[0].SeriesInstanceUID)
    asked = (site.wait_for(emergency, JobState.QUEUED).job_id, 1)
    # Where hosts share the ledger, none claims a job before it has a place for it.
    told = [one for one in site.node._dispatches if isinstance(one, JobDispatch)]
    until(
        lambda: all(asked in one._submitted for one in told),
        "the engine has it beside the routine job",
    )
    site.ledger.decisions.cancel(site.job(computing).job_id)
    began = {uid: site.wait_for(uid, JobState.SUCCEEDED) for uid in (emergency, *waiting)}

    def start_of(uid: str) -> float:
        history = site.ledger.history("job", began[uid].job_id)
        return next(t.at.timestamp() for t in history if t.to_state == "running")

    assert min(began, key=start_of) == emergency
