"""Spans by OpenTelemetry: where the time of a job and of a delivery went.

Only where ``tracing.otlp_endpoint`` is set is anything of OpenTelemetry imported. Spans are made
of the ledger's history, behind the work and whichever process of the node did it: a trace a job,
with a span for each attempt and its stages, and for each delivery of what it made. Their names are
those of models and peers; studies and jobs appear by their hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from typing import TYPE_CHECKING, Any

from dicom_node.errors import ConfigurationError, LedgerUnavailable
from dicom_node.events import hash_uid
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.measures import Change
from dicom_node.operations.metrics import reason_code

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_CHANGES_AT_ONCE = 500
_NS = 1_000_000_000
_MOST_STARTED = 10_000
_SENT_WITHIN_S = 5.0
_END_PATIENCE_S = 2.0
# What is given up has failed the moment before.
_ENDS = {"job": ("succeeded", "failed"), "delivery": ("sent", "failed")}


class Tracing:
    """Sends spans of what ended since the last look; `tick` is called now and then.

    Parameters
    ----------
    endpoint
        The collector, such as ``http://127.0.0.1:4318`` (OTLP over HTTP).
    node_name
        ``service.instance.id`` of the spans.
    ledger
        Whose history is told.

    Raises
    ------
    ConfigurationError
        The packages of the extra ``tracing`` are not installed.
    """

    def __init__(self, endpoint: str, node_name: str, ledger: Ledger) -> None:
        self._ledger = ledger
        self._provider = _provider(endpoint, node_name)
        self._tracer = self._provider.get_tracer("dicom_node")
        self._started: dict[tuple[str, str], float] = {}
        self._last_change: int | None = None
        with contextlib.suppress(LedgerUnavailable):
            self._last_change = ledger.measures.last_change()

    def tick(self) -> None:
        """Make spans of what ended since the last look; they are sent by a thread of the library.

        Raises
        ------
        LedgerUnavailable
            The next look makes up for it.
        """
        measures = self._ledger.measures
        if self._last_change is None:
            self._last_change = measures.last_change()
        while changes := measures.changes_after(self._last_change, _CHANGES_AT_ONCE):
            for change in changes:
                self._last_change = change.id
                self._tell(change)

    def close(self) -> None:
        """Send what waits, for a moment: a collector that is away is not waited for."""
        ending = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        ending.start()
        ending.join(_END_PATIENCE_S)

    def _tell(self, change: Change) -> None:
        ends = _ENDS.get(change.kind, ())
        key = (change.kind, change.key)
        if change.to_state not in ends:
            # A job runs from here; a delivery waits for its turn from here.
            if len(self._started) < _MOST_STARTED:
                self._started[key] = change.at
            return
        began = self._started.pop(key, change.at)
        if change.kind == "job":
            self._tell_job(change, began)
        else:
            self._span(
                f"deliver to {change.destination}", began, change.at, change, change.key
            ).end(int(change.at * _NS))

    def _tell_job(self, change: Change, began: float) -> None:
        from opentelemetry import trace

        span = self._span(f"job {change.model_id}", began, change.at, change, change.key)
        context = trace.set_span_in_context(span)
        # The history knows how long each stage took, in their order; they end where the job ends.
        stages = change.seconds_by_stage if change.to_state == "succeeded" else {}
        at = max(began, change.at - sum(stages.values()))
        for stage, seconds in stages.items():
            part = self._tracer.start_span(stage, context, start_time=int(at * _NS))
            at += seconds
            part.end(int(min(at, change.at) * _NS))
        span.end(int(change.at * _NS))

    def _span(
        self, name: str, began: float, ended: float, change: Change, key: str
    ) -> Span:  # fmt: skip
        from opentelemetry.trace import Status, StatusCode

        job = key.partition(":")[0]
        span = self._tracer.start_span(
            name, _trace_of(job), start_time=int(min(began, ended) * _NS)
        )
        attributes: dict[str, Any] = {
            "dicom_node.job": hash_uid(job),
            "dicom_node.attempt": change.attempt,
            "dicom_node.outcome": change.to_state,
        }
        if change.study_instance_uid:
            attributes["dicom_node.study"] = hash_uid(change.study_instance_uid)
        span.set_attributes(attributes)
        if change.to_state == "failed":
            span.set_status(Status(StatusCode.ERROR, reason_code(change.reason)))
        return span


def _trace_of(job: str) -> Context:
    """The trace of a job, the same whenever and wherever something of it is told."""
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    digest = hashlib.sha256(job.encode()).digest()
    return set_span_in_context(NonRecordingSpan(SpanContext(
        int.from_bytes(digest[:16]), int.from_bytes(digest[16:24]), is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )))


def _provider(endpoint: str, node_name: str) -> TracerProvider:
    import dicom_node

    try:
        import requests
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            "found an endpoint, expected also its packages: pip install dicom-node[tracing]",
            key_path="tracing.otlp_endpoint",
        ) from error
    provider = TracerProvider(resource=Resource.create({
        "service.name": "dicom-node", "service.version": dicom_node.__version__,
        "service.instance.id": node_name,
    }))
    session = requests.Session()
    # The settings say where spans go: no proxy of the environment, and nowhere else from there.
    session.trust_env = False
    session.max_redirects = 0
    exporter = OTLPSpanExporter(
        f"{endpoint}/v1/traces", timeout=_SENT_WITHIN_S, session=session
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
