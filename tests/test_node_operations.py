"""What looks after the node does not hold up its work."""

from __future__ import annotations

from pathlib import Path

from dicom_node.errors import StorageFailed
from dicom_node.events import Events
from dicom_node.node import Node
from tests.test_node import settings


class _Care:
    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.ticks = 0

    def start(self) -> None: ...

    def tick(self) -> None:
        self.ticks += 1
        if self.fails:
            raise StorageFailed("the disk takes nothing")

    def stop(self) -> None: ...


def test_a_care_that_meets_a_full_disk_rests_and_holds_up_nobody(tmp_path: Path) -> None:
    told: list[str] = []
    events = Events(lambda name, fields: told.append(f"{name} {fields}"))
    node = Node(settings(tmp_path, 11112), events, {"deliver"})
    failing, sound = _Care(fails=True), _Care(fails=False)
    node._operations._cares[:] = [failing, sound]
    try:
        for _ in range(2):
            node._operations._next_tick_s = 0.0
            node._operations.tick()
    finally:
        node.close()
    assert (failing.ticks, sound.ticks) == (1, 2)
    assert [one for one in told if "waiting" in one and "storage" in one]
