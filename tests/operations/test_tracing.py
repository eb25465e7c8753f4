"""Spans as a collector gets them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dicom_node.events import hash_uid
from dicom_node.ledger.ledger import Ledger
from dicom_node.operations.tracing import Tracing
from tests.operations.test_metrics import work

ROOT = Path(__file__).parents[2]


class _Requests(BaseHTTPRequestHandler):
    bodies: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        self.bodies.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    bodies: list[tuple[str, bytes]] = []
    handler = type("Requests", (_Requests,), {"bodies": bodies})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_job_its_stages_and_its_deliveries_are_one_trace_of_hashes(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db")
    with collector() as (endpoint, bodies):
        tracing = Tracing(endpoint, "AINODE", ledger)
        work(ledger)
        tracing.tick()
        tracing.close()
    ledger.close()
    assert {path for path, _ in bodies} == {"/v1/traces"}
    spans = []
    for _, body in bodies:
        request = ExportTraceServiceRequest.FromString(body)
        spans += [
            span for resource in request.resource_spans for scope in resource.scope_spans
            for span in scope.spans
        ]
    names = sorted(span.name for span in spans)
    assert names == [
        "deliver to pacs", "deliver to pacs", "deliver to pacs", "infer", "job lungs-ct",
        "job lungs-ct", "load",
    ]
    assert len({span.trace_id for span in spans}) == 1
    job = next(span for span in spans if span.name == "job lungs-ct" and span.status.code != 2)
    parts = [span for span in spans if span.name in ("load", "infer")]
    assert all(part.parent_span_id == job.span_id for part in parts)
    assert all(part.end_time_unix_nano <= job.end_time_unix_nano for part in parts)
    attributes = {one.key: one.value for one in job.attributes}
    assert attributes["dicom_node.study"].string_value == hash_uid("1.2")
    assert attributes["dicom_node.job"].string_value == hash_uid("job-1")
    failed = [span for span in spans if span.status.code == 2]
    assert {span.status.message for span in failed} >= {"worker.lost", "peer.class_refused"}
    everything = b"".join(body for _, body in bodies)
    assert b"DOE^JOHN" not in everything and b"job-1" not in everything


def test_a_collector_that_is_away_holds_nobody_up(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db")
    tracing = Tracing("http://127.0.0.1:9", "AINODE", ledger)
    work(ledger)
    tracing.tick()
    tracing.close()
    ledger.close()


@pytest.mark.parametrize("module", ["dicom_node.operations.tracing", "dicom_node.node_observation"])
def test_without_an_endpoint_nothing_of_it_is_imported(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "print([one for one in sys.modules if one.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
