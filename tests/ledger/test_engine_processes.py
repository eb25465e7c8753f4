"""The durable engine over the end of its process, and begun by two at once."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.postgres_server import PostgresServer
from tests.postgres_server import database as new_database

PATIENCE_S = 60.0

_CHILD = """
import sys, threading
from dicom_node.ledger.engine import DbosEngine, QueueLimits
ran = threading.Event()
def handle(key, attempt):
    print("run", key, attempt, flush=True)
    if sys.argv[2] == "first":
        threading.Event().wait()
    ran.set()
engine = DbosEngine(sys.argv[1], executor_id="host")
engine.start({"infer": handle}, {"infer": QueueLimits(per_host=1)})
if sys.argv[2] == "first":
    engine.submit("infer", "a", 7)
    engine.submit("infer", "b", 1)
ran.wait(60)
if sys.argv[2] == "second":
    sys.stdin.readline()
engine.stop()
"""


def _child(url: str, which: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, url, which],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )


def test_a_job_that_was_killed_with_its_process_is_resumed_by_the_next_one(
    database_url: str
) -> None:
    first = _child(database_url, "first")
    assert first.stdout is not None and first.stdout.readline() == "run a 7\n"
    first.send_signal(signal.SIGKILL)
    first.wait(PATIENCE_S)
    second = _child(database_url, "second")
    assert second.stdout is not None
    ran = [second.stdout.readline(), second.stdout.readline()]
    assert sorted(ran) == ["run a 7\n", "run b 1\n"]
    out, _ = second.communicate("stop\n", timeout=PATIENCE_S)
    assert out == "", "nothing runs a third time"


_STARTS = """
import sys
from dicom_node.ledger.engine import DbosEngine, QueueLimits
from dicom_node.ledger.ledger import Ledger
Ledger.open(sys.argv[1]).close()
engine = DbosEngine(sys.argv[1], executor_id=sys.argv[2])
engine.start({"infer": lambda key, attempt: None}, {"infer": QueueLimits(per_host=1)})
print("started", flush=True)
sys.stdin.readline()
engine.stop()
"""


@pytest.mark.postgresql
def test_hosts_that_start_at_once_on_a_new_database_both_get_it(postgres: PostgresServer) -> None:
    url = new_database(postgres.url, "started_at_once")
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", _STARTS, url, str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]
    try:
        assert [host.stdout and host.stdout.readline() for host in hosts] == ["started\n"] * 2
        for host in hosts:
            host.communicate("stop\n", timeout=PATIENCE_S)
        assert [host.returncode for host in hosts] == [0, 0]
    finally:
        for host in hosts:
            host.kill()
