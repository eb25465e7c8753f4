"""What Prometheus reads of the node: counters of what happened, gauges of how things stand.

    Metrics.sink     counts what the rooms tell (associations, instances, workers)
    Metrics.tick     counts what the ledger's history says since the last look (jobs, deliveries),
                     whichever process of the node did it
    Metrics.render   everything, with gauges read at that moment (`operations.metrics_gauges`)

Labels are words of the settings and of this program: peers, models, states, reason codes. No UID,
no patient, no AE title that a stranger chose; a label that takes more values than expected ends in
``other``. Counters begin at zero with the process, as Prometheus expects.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dicom_node.errors import LedgerUnavailable
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.measures import Change
from dicom_node.operations.metrics_gauges import Gauges, Surroundings

_REASON = re.compile(r"[a-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")
_LONGEST_REASON = 64
_MOST_VALUES = 100
_CHANGES_AT_ONCE = 2000
_STAGE_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
_DELAY_S = (5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200)
_ENDS = {
    "job": frozenset({"succeeded", "failed", "dead", "cancelled"}),
    "delivery": frozenset({"sent", "committed", "failed", "dead", "replaced"}),
}
_SHIFT = {
    "alarm": "Whether the images of a scanner look unlike what a model knows.",
    "mmd": "Squared maximum mean discrepancy of a scanner and the reference of a model.",
    "silhouette": "Silhouette of a scanner and the reference of a model, -1 to 1.",
    "inputs": "Inputs of a scanner that are kept for a model.",
}
_WORKER = frozenset({"started", "killed", "ended", "model loaded", "model evicted"})


class _Known:
    """The values that labels have taken; beyond `_MOST_VALUES` of one it is ``other``."""

    def __init__(self) -> None:
        self._values: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def __call__(self, label: str, value: object) -> str:
        text = str(value)
        with self._lock:
            values = self._values.setdefault(label, set())
            if text not in values:
                if len(values) >= _MOST_VALUES:
                    return "other"
                values.add(text)
        return text


def reason_code(reason: object) -> str:
    """The code at the beginning of a reason, such as ``input.too_few_slices``; else ``other``."""
    code = str(reason).partition(":")[0].partition(",")[0].strip()
    if not code:
        return "none"
    return code if _REASON.fullmatch(code) and len(code) <= _LONGEST_REASON else "other"


class Metrics:
    """The metrics of one process of the node.

    Parameters
    ----------
    ledger
        Read at each scrape and tick.
    around
        What else is asked at each scrape.
    """

    def __init__(self, ledger: Ledger, around: Surroundings) -> None:
        # A second series beside each counter, which says only when this process began.
        disable_created_metrics()
        self._ledger = ledger
        self._known = _Known()
        self._registry = registry = CollectorRegistry()
        self._looking = threading.Lock()
        # What happened before this process is no news to its counters.
        self._last_change: int | None = None
        with contextlib.suppress(LedgerUnavailable):
            self._last_change = ledger.measures.last_change()
        self._make_intake_counters(registry)
        self._make_work_counters(registry)
        registry.register(Gauges(ledger, around))
        self._counts: dict[str, Callable[[Mapping[str, object]], None]] = {
            "association_accepted": lambda _: self._accepted.inc(),
            "association_refused": lambda told: self._refused.labels(
                self._reason("association", told)
            ).inc(),
            "association_ended": lambda told: self._ended.labels(
                self._known("how", told["how"])
            ).inc(),
            "instance_stored": lambda told: self._stored(told, 1),
            "instances_stored": lambda told: self._stored(told, int(str(told["count"]))),
            "instance_refused": lambda told: self._instances_refused.labels(
                f"0x{int(str(told['status'])):04X}", self._reason("instance", told)
            ).inc(),
            "service_refused": lambda told: self._services_refused.labels(
                self._reason("service", told)
            ).inc(),
            "events_lost": lambda told: self._lost.inc(int(str(told["count"]))),
            "worker_changed": self._worker,
            "impression_drafted": self._drafted,
            "unexpected": lambda _: self._unexpected.inc(),
            "commitment_changed": lambda told: self._commitments.labels(
                self._known("peer", told["destination"]), self._known("commitment", told["what"])
            ).inc(int(str(told["count"]))),
            "node_changed": self._node,
            "study_removed": self._study_removed,
            "web_sign_in": lambda told: self._sign_ins.labels(
                "succeeded" if told["succeeded"] else "failed"
            ).inc(),
            "selftest_passed": lambda told: self._selftest(told, passed=True),
            "selftest_failed": lambda told: self._selftest(told, passed=False),
            "shift_measured": self._shift,
        }

    def _make_intake_counters(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"dicom_node_{name}", text, labels, registry=registry)

        self._accepted = counter("associations_accepted", "Associations that were accepted.")
        self._refused = counter(
            "associations_refused", "Associations that were refused, by reason.", "reason"
        )
        self._ended = counter(
            "associations_ended", "Associations that ended: released, aborted or lost.", "how"
        )
        self._instances = counter(
            "instances_received", "Instances answered with success, by what became of them.",
            "outcome",
        )
        self._bytes = counter(
            "received_bytes", "Bytes of instances answered with success.", "outcome"
        )
        self._instances_refused = counter(
            "instances_refused", "Instances that were not taken, by C-STORE status and reason.",
            "status", "reason",
        )
        self._services_refused = counter(
            "services_refused", "Requests other than C-STORE that were refused.", "reason"
        )
        self._lost = counter(
            "events_lost", "Events of listener processes that could not be counted."
        )
        self._listeners = counter(
            "listener_restarts", "Listener processes that ended and were started anew."
        )

    def _make_work_counters(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"dicom_node_{name}", text, labels, registry=registry)

        self._series = counter("series_changes", "Series that came into a state.", "state",
                               "reason")
        self._jobs = counter(
            "job_attempts_ended", "Attempts at jobs that ended, by model, outcome and reason.",
            "model", "outcome", "reason",
        )
        self._deliveries = counter(
            "delivery_outcomes", "What became of objects on their way to a peer, each attempt.",
            "peer", "outcome", "reason",
        )
        self._commitments = counter(
            "commitments", "Objects in storage commitment, by peer and what happened.",
            "peer", "what",
        )
        self._workers = counter(
            "worker_changes", "Inference workers: started, killed, ended, models loaded, evicted.",
            "device", "what",
        )
        self._drafts = counter(
            "drafts", "Impressions that a writer was asked for: drafted, or fell back, and why.",
            "writer", "outcome", "reason",
        )
        self._sentences = counter(
            "draft_sentences", "Sentences of drafts: kept, or struck by the guard, and why.",
            "writer", "outcome", "reason",
        )
        self._removed = counter(
            "studies_removed", "Studies that were removed when their time was over.", "reason"
        )
        self._removed_bytes = counter("removed_bytes", "Bytes of studies that were removed.")
        self._sign_ins = counter(
            "web_sign_ins", "Sign-ins at the web page, by outcome.", "outcome"
        )
        self._selftests = Gauge(
            "dicom_node_selftest_passed", "Whether the last self-test of a model was passed.",
            ("model",), registry=registry,
        )
        self._shifts = {
            name: Gauge(
                f"dicom_node_shift_{name}", text, ("model", "version", "scanner"),
                registry=registry,
            )
            for name, text in _SHIFT.items()
        }
        self._unexpected = counter(
            "unexpected_errors", "Errors that no type foresaw; each is in the log."
        )
        self._stage_s = Histogram(
            "dicom_node_job_stage_seconds", "How long each stage of a successful job took.",
            ("model", "stage"), buckets=_STAGE_S, registry=registry,
        )
        self._delay_s = Histogram(
            "dicom_node_result_delay_seconds",
            "From the last image of a series to its results.", ("model",), buckets=_DELAY_S,
            registry=registry,
        )

    def sink(self, event: str, arguments: Mapping[str, object]) -> None:
        """Count one event (`dicom_node.events.Sink`)."""
        count = self._counts.get(event)
        if count is not None:
            count(arguments)

    def tick(self) -> None:
        """Count what the history says since the last look.

        Raises
        ------
        LedgerUnavailable
            Nothing is counted twice or left out: the next look makes up for it.
        """
        measures = self._ledger.measures
        # Scrapes look too, each in a thread of its own.
        with self._looking:
            if self._last_change is None:
                self._last_change = measures.last_change()
            while changes := measures.changes_after(self._last_change, _CHANGES_AT_ONCE):
                for change in changes:
                    self._count_change(change)
                    self._last_change = change.id

    def render(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text format, and its content type.

        A ledger that does not answer is a metric too (``dicom_node_ledger_up`` is 0).
        """
        # The gauges say so; what happened meanwhile is counted at the next look.
        with contextlib.suppress(LedgerUnavailable):
            self.tick()
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _count_change(self, change: Change) -> None:
        reason = self._known(f"{change.kind} reason", reason_code(change.reason))
        if change.kind == "series":
            self._series.labels(change.to_state, reason).inc()
        elif change.to_state not in _ENDS.get(change.kind, ()):
            return
        elif change.kind == "delivery":
            peer = self._known("peer", change.destination)
            self._deliveries.labels(peer, change.to_state, reason).inc()
        else:
            self._count_job(change, reason)

    def _count_job(self, change: Change, reason: str) -> None:
        model = self._known("model", change.model_id)
        if change.to_state != "succeeded":
            self._jobs.labels(model, change.to_state, reason).inc()
            return
        self._jobs.labels(model, "succeeded", "none").inc()
        for stage, seconds in change.seconds_by_stage.items():
            self._stage_s.labels(model, self._known("stage", stage)).observe(seconds)
        if change.since_last_image_s is not None:
            self._delay_s.labels(model).observe(change.since_last_image_s)

    def _reason(self, label: str, told: Mapping[str, object]) -> str:
        return self._known(f"{label} reason", reason_code(told["reason"]))

    def _stored(self, told: Mapping[str, object], count: int) -> None:
        outcome = self._known("outcome", told["outcome"])
        self._instances.labels(outcome).inc(count)
        self._bytes.labels(outcome).inc(int(str(told["size_bytes"])))

    def _worker(self, told: Mapping[str, object]) -> None:
        what = str(told["what"]) if told["what"] in _WORKER else "other"
        self._workers.labels(self._known("device", told["device"]), what).inc()

    def _drafted(self, told: Mapping[str, object]) -> None:
        writer = self._known("writer", told["writer"])
        reason = self._known("draft reason", reason_code(told["fallback"]))
        self._drafts.labels(writer, "fell_back" if told["fallback"] else "drafted", reason).inc()
        self._sentences.labels(writer, "kept", "none").inc(int(str(told["kept"])))
        struck = told["struck"]
        for why, count in struck.items() if isinstance(struck, Mapping) else ():
            code = self._known("strike reason", reason_code(why))
            self._sentences.labels(writer, "struck", code).inc(int(count))

    def _study_removed(self, told: Mapping[str, object]) -> None:
        self._removed.labels(self._reason("removal", told)).inc()
        self._removed_bytes.inc(int(str(told["size_bytes"])))

    def _selftest(self, told: Mapping[str, object], *, passed: bool) -> None:
        self._selftests.labels(self._known("model", told["model_id"])).set(float(passed))

    def _shift(self, told: Mapping[str, object]) -> None:
        labels = (
            self._known("model", told["model_id"]), self._known("version", told["version"]),
            self._known("scanner", told["scanner"]),
        )
        for name, gauge in self._shifts.items():
            value = told[name]
            gauge.labels(*labels).set(float(value) if isinstance(value, int | float) else 0.0)

    def _node(self, told: Mapping[str, object]) -> None:
        if told["what"] == "started a listener anew":
            self._listeners.inc()
