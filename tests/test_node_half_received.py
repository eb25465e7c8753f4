"""Half-received files: whoever dies over one, none is left when the node has stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from bench.raw_scu import CT, RawScu, store_message
from dicom_node.events import Events
from dicom_node.node import Node
from tests.intake.conftest import slice_of
from tests.intake.test_acceptor import until
from tests.test_disk_faults import SIZE_BYTES, config, receiving


def half_sent(port: int) -> RawScu:
    """An association in which half a slice has been sent."""
    uid, data = slice_of(1, SIZE_BYTES)
    scu = RawScu(port)
    scu.socket.sendall(store_message(1, CT, uid, data, 16384)[: SIZE_BYTES // 2])
    return scu


def listener_of(node: Node) -> int:
    assert node.intake is not None and node.intake.listeners is not None
    return node.intake.listeners.pids[0]


def test_what_a_killed_listener_had_half_received_goes_when_it_is_replaced(tmp_path: Path) -> None:
    with receiving(config(tmp_path / "node")) as node:
        incoming = node.spool.root / "incoming"
        scu = half_sent(node.port)
        assert until(lambda: len(list(incoming.iterdir())) == 1)
        os.kill(listener_of(node), signal.SIGKILL)
        assert until(lambda: list(incoming.iterdir()) == [])
        scu.socket.close()


def test_what_a_listener_had_half_received_when_it_was_killed_goes_at_the_stop(
    tmp_path: Path,
) -> None:
    node = Node(config(tmp_path / "node"), Events(), ["intake"])
    node.start()
    try:
        incoming = node.spool.root / "incoming"
        scu = half_sent(node.port)
        assert until(lambda: len(list(incoming.iterdir())) == 1)
        # Nobody is there to replace it: the main loop does not run.
        os.kill(listener_of(node), signal.SIGKILL)
        scu.socket.close()
    finally:
        node.close()
    assert list(incoming.iterdir()) == []
