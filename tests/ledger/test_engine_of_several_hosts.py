"""Engines of several hosts on one database: each has its own queue, and none takes another's work.

Two of them cannot be in one process, so one comes after the other here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dicom_node.ledger.engine import DbosEngine, Standing
from tests.ledger.test_engine import ONE, Record, until

pytestmark = pytest.mark.postgresql


@pytest.fixture
def engines(postgresql_url: str) -> Iterator[list[DbosEngine]]:
    made = [
        DbosEngine(postgresql_url, executor_id=f"process-{name}", queues_of=name, patience_s=1)
        for name in ("a", "b")
    ]
    yield made
    for engine in made:
        engine.stop()


def test_what_another_host_has_is_elsewhere_and_begins_nowhere_else(
    engines: list[DbosEngine], postgresql_url: str
) -> None:
    first, second = engines
    stuck, record = Record(), Record()
    stuck.gate.clear()
    first.start({"infer": stuck.handle}, ONE)
    first.submit("infer", "running", 1)
    until(lambda: "running" in stuck.at)
    first.submit("infer", "waiting", 1)
    assert first.standing("infer", "running", 1) is Standing.OPEN
    assert first.standing("infer", "waiting", 1) is Standing.OPEN
    # As when the host is gone in the middle: nothing of it is written down as ended.
    first.stop()
    second.start({"infer": record.handle}, ONE)
    assert second.standing("infer", "running", 1) is Standing.ELSEWHERE
    assert second.standing("infer", "waiting", 1) is Standing.ELSEWHERE
    second.submit("infer", "running", 1)
    second.submit("infer", "running", 2)
    record.wait(1)
    assert record.ran == [("running", 2)]
    # While it lives nothing of it is forgotten, and what waits may wait for its host for a day.
    assert second.forget(["process-a", "process-b"]) == 0
    assert second.forget(["process-b"]) == 1
    assert second.standing("infer", "running", 1) is Standing.FINISHED
    assert second.standing("infer", "waiting", 1) is Standing.ELSEWHERE
    engine = sa.create_engine(sa.make_url(postgresql_url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE dbos.workflow_status SET created_at = created_at - 90000000")
        )
    engine.dispose()
    assert second.forget(["process-b"]) == 1
    assert second.standing("infer", "waiting", 1) is Standing.FINISHED
    stuck.gate.set()
