"""The node as a whole: one at a time, the whole way, and what it outlives."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import Config, PeerSettings
from dicom_node.delivery.sender import Sender
from dicom_node.errors import ConfigurationError, LedgerDamaged, LedgerUnavailable
from dicom_node.events import Events, configure_logging
from dicom_node.ledger.engine import QueueLimits, Standing
from dicom_node.ledger.inline_engine import InlineEngine
from dicom_node.ledger.ledger import Ledger
from dicom_node.node import Node
from dicom_node.pipeline.dispatch import JobDispatch
from dicom_node.records import Association, Job, JobState, SeriesState
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.delivery.scripted_peer import ScriptedPeer, scripted_peer
from tests.dicom_samples import ct_series, write_series
from tests.ledger.conftest import START, instance, job

PATIENCE_S = 120.0
RESULT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.34",
)


def settings(folder: Path, port: int = 1, *, model: str = "bright") -> Config:
    write_model(folder / "models" / "bright", threshold_onnx(0.5), id="bright")
    return Config.model_validate(
        {
            "node": {"ae_title": "DICOMNODE", "host": "127.0.0.1", "port": 0,
                     "data_dir": folder / "node"},
            "peers": {"pacs": {"ae_title": "SCRIPTED", "host": "127.0.0.1", "port": port},
                      "scanner": {"ae_title": "SCANNER", "host": "127.0.0.1", "port": 1}},
            "completeness": {"after_release_s": 0.2, "quiet_period_s": 5, "give_up_after_s": 10},
            "storage": {"refuse_below_free_bytes": 0},
            "intake": {"listener_processes": 1},
            "models": {"directories": [folder / "models"], "devices": ["cpu"]},
            "web": {"enabled": False},
            "rules": [{"name": "all CT", "when": {"Modality": "CT"}, "model": model,
                       "send_to": ["pacs"]}],
        }
    )


def until(condition: Callable[[], bool], what: str) -> None:
    waiting = threading.Event()
    deadline = datetime.now(UTC) + timedelta(seconds=PATIENCE_S)
    while not condition():
        assert datetime.now(UTC) < deadline, what
        waiting.wait(0.05)


@contextmanager
def running(node: Node) -> Iterator[Node]:
    stop = threading.Event()
    loop = threading.Thread(target=node.run, args=(stop,))
    try:
        node.start()
        loop.start()
        yield node
    finally:
        stop.set()
        if loop.is_alive():
            loop.join(PATIENCE_S)
        node.close()


@pytest.fixture
def archive() -> Iterator[ScriptedPeer]:
    with scripted_peer(sop_classes=RESULT_CLASSES) as peer:
        yield peer


def test_the_whole_way_and_no_patient_in_the_log(
    tmp_path: Path, archive: ScriptedPeer, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    configure_logging("debug", "json")
    series = ct_series(
        (12, 32, 40), PatientName="DOE^JOHN", PatientID="SECRET-ID", PatientBirthDate="19601231",
        AccessionNumber="SECRET-ACC", StudyDate="20251224",
    )
    paths = write_series(series, tmp_path / "series")
    with running(Node(settings(tmp_path, archive.port), Events())) as node:
        peer = PeerSettings(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=node.port)
        assert all(outcome.stored for outcome in Sender("SCANNER").send(peer, paths))
        jobs = node.ledger.jobs
        until(lambda: bool(jobs.latest(JobState.SUCCEEDED) or jobs.latest(JobState.DEAD)), "job")
        (done,) = jobs.latest()
        assert done.state is JobState.SUCCEEDED, done.reason
        until(lambda: not node.ledger.deliveries.open_shipments(), "delivery")
        assert node.ledger.deliveries.count_by_state() == {"sent": len(archive.received)}
        assert archive.received == [r.sop_instance_uid for r in jobs.results(done.job_id)]
    said = "".join(capfd.readouterr())
    assert "succeeded" in said
    uids = {str(series[0][name].value) for name in
            ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")}
    for secret in {"DOE", "SECRET", "19601231", "20251224", *uids, *archive.received}:
        assert secret not in said


def test_what_a_listener_kept_and_died_over_is_indexed_without_a_restart(tmp_path: Path) -> None:
    dataset = ct_series((1, 32, 40))[0]
    with running(Node(settings(tmp_path), Events())) as node:
        assert node.intake is not None and node.intake.listeners is not None
        (pid,) = node.intake.listeners.pids
        # As a listener leaves it between its answer and its next batch for the ledger.
        name = f"instances/1.2/{dataset.SeriesInstanceUID}/1.dcm"
        (node.spool.root / name).parent.mkdir(parents=True)
        write_series([dataset], tmp_path / "kept")[0].rename(node.spool.root / name)
        opened = Association("cut off", "CT01", "the listener that dies", START)
        node.ledger.index([instance(1)], [opened])
        os.kill(pid, signal.SIGKILL)
        until(lambda: node.ledger.paths_known([name]) == {name}, "the kept file is indexed")
        lost = node.ledger.receipts.associations_of
        until(lambda: lost("1.2.3").open == 0, "the association of the dead listener ends")


def test_a_second_node_on_the_same_data_is_refused(tmp_path: Path) -> None:
    config = settings(tmp_path)
    first = Node(config, Events())
    with pytest.raises(ConfigurationError, match="another node"):
        Node(config, Events())
    with pytest.raises(ConfigurationError, match="another node"):
        Node(config, Events(), ["work"])
    first.close()
    Node(config, Events()).close()


def test_processes_that_share_the_roles_share_the_data(tmp_path: Path) -> None:
    config = settings(tmp_path)
    receiving = Node(config, Events(), ["intake"])
    working = Node(config, Events(), ["work", "deliver"])
    working.close()
    receiving.close()


def test_a_data_directory_that_cannot_be_made_is_a_setting(tmp_path: Path) -> None:
    (tmp_path / "node").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"node\.data_dir"):
        Node(settings(tmp_path), Events())


def test_a_node_whose_rule_names_no_model_does_not_start_and_can_be_closed(tmp_path: Path) -> None:
    node = Node(settings(tmp_path, model="none"), Events())
    with pytest.raises(ConfigurationError, match=r"rules\[0\]\.model"):
        node.start()
    node.close()


def test_a_node_that_has_run_before_receives_whatever_became_of_its_models(
    tmp_path: Path,
) -> None:
    config = settings(tmp_path)
    with running(Node(config, Events(), ["intake"])):
        pass
    misspelt = settings(tmp_path, model="none")
    for changed, reason in ((misspelt, "model.unknown"), (config, "model.directory_missing")):
        with running(Node(changed, Events(), ["intake"])) as node:
            assert node.port > 0
            (without,) = node.ledger.stages.rules_without_model()
            assert (without.rule, without.reason) == ("all CT", reason)
        shutil.rmtree(tmp_path / "models", ignore_errors=True)


def test_a_node_that_starts_on_a_full_disk_is_not_ready_and_says_so_before_a_caller_comes(
    tmp_path: Path,
) -> None:
    told: list[tuple[str, object]] = []
    config = settings(tmp_path)
    storage = config.storage.model_copy(update={"refuse_below_free_bytes": 1 << 60})
    config = config.model_copy(update={"storage": storage})
    events = Events(lambda name, fields: told.append((name, fields.get("refusing"))))
    with running(Node(config, events, {"intake"})) as node:
        until(lambda: ("space_changed", True) in told, "the log says it")
        assert not node._operations.health.is_ready()


def test_a_node_that_does_not_listen_has_no_port(tmp_path: Path) -> None:
    node = Node(settings(tmp_path), Events(), ["deliver"])
    with pytest.raises(ConfigurationError):
        _ = node.port
    node.close()


def test_jobs_that_a_stopped_node_left_are_taken_up(tmp_path: Path) -> None:
    config = settings(tmp_path)
    node = Node(config, Events(), ["work"])
    for number, name in enumerate(("queued", "running"), start=1):
        series = f"1.2.{number}"
        node.ledger.index([instance(1, series=series)])
        node.ledger.receipts.change(series, SeriesState.COMPLETE, "quiet_period")
        node.ledger.jobs.route(series, [job(name, series=series)], "rule", seen=START)
    node.ledger.jobs.start("running", 1)
    node.close()
    with running(Node(config, Events(), ["work"])) as node:
        # Their files are not there, so that they end at once.
        until(lambda: len(node.ledger.jobs.latest(JobState.DEAD)) == 2, "both jobs")
        history = node.ledger.history("job", "running")
        assert "resumed_after_restart" in [t.reason for t in history]


@pytest.mark.parametrize("error", [ZeroDivisionError("odd"), LedgerUnavailable("locked")])
def test_a_round_that_fails_does_not_end_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rounds: list[int] = []
    stop = threading.Event()

    class Impatient(threading.Event):
        """Waits for nothing, so that the rounds follow each other at once."""

        def wait(self, timeout: float | None = None) -> bool:
            return stop.is_set()

    def failing() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            stop.set()
        raise error

    node = Node(settings(tmp_path), Events(), ["work"])
    monkeypatch.setattr(node, "tick", failing)
    node.run(Impatient())
    assert len(rounds) == 3
    node.close()


def test_what_comes_next_is_looked_for_as_soon_as_a_job_has_ended(tmp_path: Path) -> None:
    node, stop = Node(settings(tmp_path), Events(), ["work"]), threading.Event()

    def failing(key: str, attempt: int) -> None:
        raise ZeroDivisionError(f"{key} {attempt}")

    node._next_submit = math.inf
    with pytest.raises(ZeroDivisionError, match="job-1 1"):
        node._noticed(failing)("job-1", 1)
    assert not node._pause(stop)
    assert node._next_submit == 0.0
    assert not node._work_ended.is_set()
    stop.set()
    assert node._pause(stop)
    node.close()


class Books:
    """A node's reconciling on an engine that a test holds in its hand."""

    def __init__(self, folder: Path) -> None:
        self.node = Node(settings(folder), Events(), ["work"])
        self.engine = InlineEngine()
        self.node._engine = self.engine
        self.node._dispatches = [JobDispatch(self.node.ledger, self.engine)]
        self.submitted: list[tuple[str, int]] = []
        self.standing = Standing.OPEN
        self.ledger: Ledger = self.node.ledger
        self.ledger.index([instance(1)])
        self.ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
        self.ledger.jobs.route("1.2.3", [job()], "rule", seen=START)

    def job(self) -> Job:
        found = self.ledger.jobs.find("job-1")
        assert found is not None
        return found

    def age(self, seconds: float) -> None:
        at = (datetime.now(UTC) - timedelta(seconds=seconds)).timestamp()
        with self.ledger._database.write() as connection:
            connection.exec_driver_sql("UPDATE jobs SET changed_at = ?", (at,))


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    made = Books(tmp_path)

    def submit(kind: str, key: str, attempt: int, **_: Any) -> None:
        made.submitted.append((key, attempt))

    monkeypatch.setattr(made.engine, "submit", submit)
    monkeypatch.setattr(made.engine, "standing", lambda *_: made.standing)
    yield made
    made.node.close()


def test_an_open_row_is_handed_to_the_engine_once_while_the_engine_has_it(books: Books) -> None:
    for _ in range(3):
        books.node._submit_open()
    books.node._reconcile()
    books.node._submit_open()
    assert books.submitted == [("job-1", 1)]


def test_what_the_engine_forgot_is_submitted_again_under_the_same_attempt(books: Books) -> None:
    books.node._submit_open()
    books.standing = Standing.UNKNOWN
    books.age(3600)
    books.node._reconcile()
    books.node._submit_open()
    assert books.submitted == [("job-1", 1)] * 2


def test_what_the_engine_gave_up_on_gets_a_new_attempt_after_a_minute(books: Books) -> None:
    books.ledger.jobs.start("job-1", 1)
    books.standing = Standing.FINISHED
    books.node._reconcile()
    assert books.job().attempt == 1, "its handler may just be writing"
    books.age(61)
    books.node._reconcile()
    assert (books.job().state, books.job().attempt) == (JobState.QUEUED, 2)
    books.node._submit_open()
    assert books.submitted[-1] == ("job-1", 2)


def test_a_job_that_ended_while_it_was_looked_at_is_not_run_again(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.ledger.jobs.start("job-1", 1)
    books.age(3600)

    def ends(*_: object) -> Standing:
        books.ledger.jobs.succeed("job-1", [], [], "no_finding", {}, attempt=1)
        return Standing.FINISHED

    monkeypatch.setattr(books.engine, "standing", ends)
    books.node._reconcile()
    assert (books.job().state, books.job().attempt) == (JobState.SUCCEEDED, 1)


def test_the_inline_engine_can_stand_in_for_the_durable_one() -> None:
    engine, ran = InlineEngine(), threading.Event()
    engine.start({"infer": lambda _key, _attempt: ran.set()}, {"infer": QueueLimits(1)})
    engine.submit("infer", "a", 1)
    assert ran.wait(PATIENCE_S)
    engine.stop()


def test_a_node_ends_on_a_damaged_ledger_and_its_next_start_rebuilds_it(tmp_path: Path) -> None:
    config = settings(tmp_path)
    node = Node(config, Events())
    try:
        node.start()
        peer = PeerSettings(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=node.port)
        paths = write_series(ct_series((4, 32, 40)), tmp_path / "series")
        assert all(outcome.stored for outcome in Sender("SCANNER").send(peer, paths))
        # As any process of the node that meets a malformed page.
        node.ledger.condemn("database disk image is malformed")
        with pytest.raises(LedgerDamaged):
            node.run(threading.Event())
    finally:
        node.close()
    ledger = config.node.data_dir / "ledger.db"
    ledger.write_bytes(b"\x5a" * 8192)
    ledger.with_name("ledger.db-wal").unlink(missing_ok=True)
    with running(Node(config, Events())) as node:
        assert ledger.with_name("ledger.db.damaged-1").stat().st_size == 8192
        (told,) = node.ledger.history("node", "ledger")
        assert told.to_state == "rebuilt"
        receipts = node.ledger.receipts
        assert sum(one.instance_count for one in receipts.recent_series(9)) == 4
