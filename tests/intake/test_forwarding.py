"""What happens in listener processes, as the node is told of it."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bench.raw_scu import CT, RawScu
from dicom_node.events import Events
from dicom_node.intake.acceptor import start_listeners
from dicom_node.intake.forwarding import ChildVoice, EventForwarder
from tests.intake.conftest import slice_of
from tests.intake.test_acceptor import config_of, until


class Heard:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, arguments: Mapping[str, object]) -> None:
        self.events.append((event, dict(arguments)))

    def count(self, event: str) -> int:
        return sum(name == event for name, _ in self.events)

    def stored(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for name, arguments in self.events:
            if name == "instances_stored":
                total[str(arguments["outcome"])] += int(str(arguments["count"]))
        return total


def test_the_node_hears_of_every_listener_also_of_one_that_was_started_anew(
    tmp_path: Path,
) -> None:
    heard = Heard()
    listeners = start_listeners(
        config_of(tmp_path, listener_processes=1), f"sqlite:///{tmp_path}/ledger.sqlite", heard
    )
    try:
        scu = RawScu(listeners.port)
        for number in (1, 2, 2):
            assert scu.store(CT, *slice_of(number)) == 0
        scu.release()
        assert until(lambda: heard.stored().total() == 3)
        assert until(lambda: heard.count("association_ended") == 1)
        assert heard.stored() == {"new": 2, "identical": 1}, heard.events
        os.kill(listeners.pids[0], signal.SIGKILL)
        assert until(lambda: listeners.ensure_running() == 1)

        def stores() -> bool:
            try:
                return RawScu(listeners.port).store(CT, *slice_of(3)) == 0
            except OSError:
                return False

        assert until(stores)
        assert until(lambda: heard.stored()["new"] == 3)
    finally:
        listeners.close()
    # What was told last, while the process ended, is heard as well.
    assert heard.count("association_ended") == 2


def test_a_parent_that_does_not_read_holds_nobody_up_and_hears_what_it_missed() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, True)
    events = Events()
    forwarder = EventForwarder(events, writing, most_waiting=5000)
    forwarder.start()
    for _ in range(60_000):
        forwarder("association_accepted", {"association_id": "a" * 32, "calling_ae_title": "CT"})
    heard = Heard()
    voice = ChildVoice(os.fdopen(reading, "rb"), heard)
    assert until(lambda: heard.count("events_lost") > 0)
    forwarder.close()
    os.close(writing)
    voice.join(5)
    lost = sum(int(str(a["count"])) for name, a in heard.events if name == "events_lost")
    assert lost + heard.count("association_accepted") == 60_000


def test_the_half_line_of_a_process_that_was_killed_is_no_event() -> None:
    reading, writing = os.pipe()
    whole = json.dumps(["node_changed", {"what": "x"}]).encode() + b"\n"
    os.write(writing, b"ready 104\n" + whole + b"[1, 2]\n" + whole[:-9])
    os.close(writing)
    heard = Heard()
    voice = ChildVoice(os.fdopen(reading, "rb"), heard)
    voice.join(5)
    assert voice.wait_ready(0)
    assert heard.events == [("node_changed", {"what": "x"})]
