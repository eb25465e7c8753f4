"""What Prometheus reads of the node, read back with the parser of its own client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.operations.audit_trail import AuditStanding
from dicom_node.operations.metrics import Metrics, reason_code
from dicom_node.operations.metrics_gauges import Surroundings
from dicom_node.records import CircuitState, JobInput, SendOutcome, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    yield opened
    opened.close()


def scrape(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Sample name and sorted labels to value."""
    content, kind = metrics.render()
    assert kind.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return scrape(metrics).get((f"dicom_node_{name}", tuple(sorted(labels.items()))))


def test_what_the_rooms_tell_is_counted(ledger: Ledger, tmp_path: Path) -> None:
    metrics = Metrics(ledger, Surroundings(tmp_path))
    events = Events(metrics.sink)
    events.association_accepted("a", "CT01")
    events.association_refused("CT02", "NODE", "192.0.2.7", "access.unknown_caller")
    events.association_ended("a", "aborted", 3)
    events.instance_stored("1.2.3", 500, "new")
    events.tell("instances_stored", {"count": 9, "size_bytes": 4500, "outcome": "new"})
    events.instance_refused(0xA700, "storage.out_of_space", quarantined=False)
    events.worker_changed("cuda:0", "killed", "worker.no_heartbeat")
    events.impression_drafted("job-1", "llama", "", kept=3, struck={"side": 2, "negation": 1})
    events.impression_drafted("job-2", "llama", "model.wrong_output", kept=0, struck={})
    events.commitment_changed("pacs", "asked", "", 4)
    events.node_changed("started a listener anew", files_indexed_again=0)
    events.events_lost(12)
    events.study_removed("1.2", 30, 4000, "retention.age")
    events.web_sign_in("", "192.0.2.7", succeeded=False)
    for name, labels, expected in (
        ("associations_accepted_total", {}, 1),
        ("associations_refused_total", {"reason": "access.unknown_caller"}, 1),
        ("associations_ended_total", {"how": "aborted"}, 1),
        ("instances_received_total", {"outcome": "new"}, 10),
        ("received_bytes_total", {"outcome": "new"}, 5000),
        ("instances_refused_total", {"status": "0xA700", "reason": "storage.out_of_space"}, 1),
        ("worker_changes_total", {"device": "cuda:0", "what": "killed"}, 1),
        ("drafts_total", {"writer": "llama", "outcome": "drafted", "reason": "none"}, 1),
        ("drafts_total",
         {"writer": "llama", "outcome": "fell_back", "reason": "model.wrong_output"}, 1),
        ("draft_sentences_total", {"writer": "llama", "outcome": "kept", "reason": "none"}, 3),
        ("draft_sentences_total", {"writer": "llama", "outcome": "struck", "reason": "side"}, 2),
        ("commitments_total", {"peer": "pacs", "what": "asked"}, 4),
        ("listener_restarts_total", {}, 1),
        ("events_lost_total", {}, 12),
        ("studies_removed_total", {"reason": "retention.age"}, 1),
        ("removed_bytes_total", {}, 4000),
        ("web_sign_ins_total", {"outcome": "failed"}, 1),
    ):
        assert value(metrics, name, **labels) == expected, name


def work(ledger: Ledger) -> None:
    """A series from its first image to one object delivered and one given up."""
    now = datetime.now(UTC)
    ledger.index([instance(1, at=now)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.3", [job(), job("job-2")], "rules", seen=now)
    ledger.jobs.start("job-1", 1)
    ledger.jobs.fail("job-1", "worker.lost: it died of DOE^JOHN", retry_at=START, attempt=1)
    ledger.jobs.start("job-1", 2)
    ledger.jobs.succeed(
        "job-1", [result(1), result(2)], [delivery(1), delivery(2)], "1 segmentation",
        {"load": 0.7, "infer": 12.0}, attempt=2,
    )
    for number, outcome in (
        (1, SendOutcome("2.25.1", 0, stored=True, transient=False)),
        (2, SendOutcome("2.25.2", 0xA700, False, True, "peer.out_of_resources")),
        (2, SendOutcome("2.25.2", 0x0122, False, False, "peer.class_refused")),
    ):
        ledger.deliveries.record(
            delivery(number).delivery_id, outcome, retry_at=now if outcome.transient else None
        )


def test_jobs_and_deliveries_are_counted_from_the_history_whoever_did_them(
    ledger: Ledger, tmp_path: Path
) -> None:
    metrics = Metrics(ledger, Surroundings(tmp_path, peers=("pacs", "archive")))
    work(ledger)
    for name, labels, expected in (
        ("series_changes_total", {"state": "complete", "reason": "quiet_period"}, 1),
        ("series", {"state": "routed"}, 1),
        ("jobs", {"state": "succeeded"}, 1),
        ("job_attempts_ended_total",
         {"model": "lungs-ct", "outcome": "failed", "reason": "worker.lost"}, 1),
        ("job_attempts_ended_total",
         {"model": "lungs-ct", "outcome": "succeeded", "reason": "none"}, 1),
        ("job_stage_seconds_sum", {"model": "lungs-ct", "stage": "infer"}, 12.0),
        ("job_stage_seconds_count", {"model": "lungs-ct", "stage": "load"}, 1),
        ("result_delay_seconds_count", {"model": "lungs-ct"}, 1),
        ("delivery_outcomes_total", {"peer": "pacs", "outcome": "sent", "reason": "none"}, 1),
        ("delivery_outcomes_total",
         {"peer": "pacs", "outcome": "failed", "reason": "peer.out_of_resources"}, 1),
        ("delivery_outcomes_total",
         {"peer": "pacs", "outcome": "dead", "reason": "peer.class_refused"}, 1),
        ("deliveries_dead", {"peer": "pacs"}, 1),
        ("deliveries_dead", {"peer": "archive"}, 0),
        ("queue_jobs", {"priority": "routine", "state": "queued"}, 1),
        ("queue_jobs", {"priority": "stat", "state": "queued"}, 0),
    ):
        assert value(metrics, name, **labels) == expected, (name, labels)
    age = value(metrics, "queue_oldest_seconds", priority="routine", state="queued")
    assert age is not None and 0 <= age < 300
    # A second look counts nothing twice, and a new process begins at nothing.
    assert value(metrics, "series_changes_total", state="complete", reason="quiet_period") == 1
    anew = Metrics(ledger, Surroundings(tmp_path))
    assert value(anew, "series_changes_total", state="complete", reason="quiet_period") is None


def test_a_job_that_waits_for_a_series_does_not_count_as_one_that_nobody_does(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    asked = replace(job(), not_before=datetime.now(UTC) + timedelta(hours=3))
    ledger.jobs.route("1.2.3", [asked], "rules", seen=START, inputs={
        asked.job_id: [JobInput("pt", "", "", "not there", waits=True)]
    })
    metrics = Metrics(ledger, Surroundings(tmp_path))

    def counted(state: str) -> float | None:
        return value(metrics, "queue_jobs", priority="routine", state=state)

    assert (counted("waiting"), counted("queued")) == (1, 0)
    ledger.decisions.hurry(asked.job_id)
    assert (counted("waiting"), counted("queued")) == (0, 1)


def test_gauges_are_those_of_the_moment(ledger: Ledger, tmp_path: Path) -> None:
    metrics = Metrics(ledger, Surroundings(
        tmp_path, 5 << 30, lambda: 7, lambda: False, lambda: {"cuda:0": 512.0},
        lambda: {"listener": [1, 99_999_999]}, lambda: {"dicom": 1.9e9},
        lambda: AuditStanding(4096, is_written=True, collector_up=False), ("pacs",),
    ))
    ledger.circuits.change(
        "pacs", lambda found: found.__class__(**{**vars(found), "state": CircuitState.OPEN})
    )
    for name, labels, expected in (
        ("associations_open", {}, 7), ("ready", {}, 0), ("disk_refuse_below_bytes", {}, 5 << 30),
        ("device_memory_bytes", {"device": "cuda:0"}, 512 << 20), ("audit_backlog_bytes", {}, 4096),
        ("audit_written", {}, 1), ("audit_collector_up", {}, 0),
        ("circuit_open", {"peer": "pacs"}, 1),
        ("certificate_expiry_timestamp_seconds", {"use": "dicom"}, 1.9e9), ("ledger_up", {}, 1),
    ):
        assert value(metrics, name, **labels) == expected, name
    assert (value(metrics, "children_resident_bytes", process="listener") or 0) > 0
    assert (value(metrics, "disk_total_bytes") or 0) > (value(metrics, "disk_free_bytes") or 0) > 0
    assert (value(metrics, "ledger_bytes") or 0) > 0
    samples = {name for name, _ in scrape(metrics)}
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total"} <= samples


def test_a_ledger_that_does_not_answer_is_a_metric(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics(ledger, Surroundings(tmp_path))

    def locked(*_: object, **__: object) -> None:
        raise sa.exc.OperationalError("select", {}, OSError("database is locked"))

    monkeypatch.setattr(ledger._database._reading, "connect", locked)
    assert value(metrics, "ledger_up") == 0
    monkeypatch.undo()
    assert value(metrics, "ledger_up") == 1


def test_no_label_takes_more_values_than_can_be_watched(ledger: Ledger, tmp_path: Path) -> None:
    metrics = Metrics(ledger, Surroundings(tmp_path))
    for number in range(300):
        metrics.sink("association_refused", {"reason": f"made.up_{number}"})
    refused = [key for key in scrape(metrics) if key[0] == "dicom_node_associations_refused_total"]
    assert len(refused) == 101
    assert value(metrics, "associations_refused_total", reason="other") == 200


@pytest.mark.parametrize(("reason", "code"), [
    ("input.too_few_slices: 3 of 12", "input.too_few_slices"),
    ("unexpected.ValueError", "unexpected.ValueError"),
    ("", "none"),
    ("DOE^JOHN", "other"),
    ("study 1.2.840.113619.2.55", "other"),
    ("x.1.2.840.113619", "other"),
    ("19570312", "other"),
])
def test_a_reason_is_a_code_or_nothing(reason: str, code: str) -> None:
    assert reason_code(reason) == code


def test_deliveries_that_wait_have_their_age(ledger: Ledger, tmp_path: Path) -> None:
    metrics = Metrics(ledger, Surroundings(tmp_path))
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.3", [job()], "rules", seen=START)
    ledger.jobs.start("job-1", 1)
    ledger.jobs.succeed("job-1", [result(1)], [delivery(1)], "result", {}, attempt=1)
    asked = datetime.now(UTC) - timedelta(hours=2)
    with ledger._database.write() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET created_at = ?", (asked.timestamp(),))
    age = value(metrics, "deliveries_oldest_seconds", peer="pacs")
    assert age is not None and 7100 < age < 7500
    assert value(metrics, "deliveries_waiting", peer="pacs") == 1


def test_how_a_scanner_looks_to_a_model_can_be_watched(ledger: Ledger, tmp_path: Path) -> None:
    metrics = Metrics(ledger, Surroundings(tmp_path))
    events = Events(metrics.sink)
    for alarm in (False, True):
        events.shift_measured(
            "balls", "1", "ACME, B", inputs=30, mmd=0.5, threshold=0.1, silhouette=0.25,
            alarm=alarm, is_new=True,
        )
    labels = (("model", "balls"), ("scanner", "ACME, B"), ("version", "1"))
    found = scrape(metrics)
    assert found["dicom_node_shift_alarm", labels] == 1.0
    assert found["dicom_node_shift_mmd", labels] == 0.5
    assert found["dicom_node_shift_silhouette", labels] == 0.25
    assert found["dicom_node_shift_inputs", labels] == 30.0
