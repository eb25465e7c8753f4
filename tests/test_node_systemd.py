"""A node and what it tells systemd, by a socket in its place."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.intake import acceptor
from dicom_node.node import Node
from dicom_node.operations import systemd
from dicom_node.operations.systemd import ServiceManager
from tests.operations.notified import PATIENCE_S, notified
from tests.test_node import running

_EVERY_S = 0.2


def receiving(folder: Path) -> Config:
    return Config.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": folder / "node"},
            "access": {"accept_unknown_callers": True},
            "storage": {"refuse_below_free_bytes": 0, "make_room_below_free_bytes": 0},
            "intake": {"listener_processes": 1},
            "web": {"enabled": False},
        }
    )


def test_a_node_whose_listener_cannot_be_started_again_is_no_longer_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_STATUS_EVERY_S", _EVERY_S)
    with notified(tmp_path) as manager:
        told = ServiceManager(manager.address, watchdog_s=_EVERY_S)
        node = Node(receiving(tmp_path), Events(), {"intake"}, told)
        assert manager.told("READY") == []
        with running(node):
            manager.wait_for("WATCHDOG", more_than=1)
            assert manager.told("READY") == ["1"]
            assert not any("STOPPING" in one for one in manager.messages)
            listeners = node.intake.listeners
            assert listeners is not None
            # Whatever is started from now on ends at once, and lives while it does.
            nothing = SimpleNamespace(**{**vars(sys), "executable": "/bin/false"})
            monkeypatch.setattr(acceptor, "sys", nothing)
            os.kill(listeners.pids[0], signal.SIGKILL)
            manager.wait(
                lambda: any("listener" in one for one in manager.told("STATUS")[-1:]), "what it is"
            )
            fed = len(manager.told("WATCHDOG"))
            # Two rounds of restarts, of which each looks alive for a moment.
            manager.read(for_s=5.0)
            assert len(manager.told("WATCHDOG")) == fed
            monkeypatch.setattr(acceptor, "sys", sys)
            manager.wait_for("WATCHDOG", more_than=fed)
        assert manager.told("STOPPING") == ["1"]


def test_a_node_whose_main_loop_hangs_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        assert goes_on.wait(PATIENCE_S)

    with notified(tmp_path) as manager:
        told = ServiceManager(manager.address, watchdog_s=_EVERY_S)
        node = Node(receiving(tmp_path), Events(), {"intake"}, told)
        with running(node):
            manager.wait_for("WATCHDOG", more_than=1)
            monkeypatch.setattr(node.intake.room_watch, "tick", hang)
            try:
                assert hangs.wait(PATIENCE_S)
                fed = len(manager.told("WATCHDOG"))
                manager.read(for_s=2.0)
                assert len(manager.told("WATCHDOG")) == fed
            finally:
                monkeypatch.undo()
                goes_on.set()
            manager.wait_for("WATCHDOG", more_than=fed)
