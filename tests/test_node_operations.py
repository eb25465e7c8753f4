"""What looks after the node does not hold up its work."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import LedgerDamaged, StorageFailed, TransientError
from dicom_node.events import Events
from dicom_node.node import Node
from tests.test_node import settings


class _Care:
    def __init__(self, fails: TransientError | None = None) -> None:
        self.fails = fails
        self.ticks = 0

    def start(self) -> None: ...

    def tick(self) -> None:
        self.ticks += 1
        if self.fails is not None:
            raise self.fails

    def stop(self) -> None: ...


def test_a_care_that_meets_a_full_disk_rests_and_holds_up_nobody(tmp_path: Path) -> None:
    told: list[str] = []
    events = Events(lambda name, fields: told.append(f"{name} {fields}"))
    node = Node(settings(tmp_path, 11112), events, {"deliver"})
    failing, sound = _Care(StorageFailed("the disk takes nothing")), _Care()
    node._operations._cares[:] = [failing, sound]
    try:
        for _ in range(2):
            node._operations._next_tick_s = 0.0
            node._operations.tick()
    finally:
        node.close()
    assert (failing.ticks, sound.ticks) == (1, 2)
    assert [one for one in told if "waiting" in one and "storage" in one]


def test_a_damaged_ledger_ends_the_node_whoever_finds_it(tmp_path: Path) -> None:
    node = Node(settings(tmp_path, 11112), Events(), {"deliver"})
    node._operations._cares[:] = [_Care(LedgerDamaged("a page is torn"))]
    try:
        with pytest.raises(LedgerDamaged):
            node._operations.tick()
    finally:
        node.close()
