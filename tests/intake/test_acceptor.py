"""Real listener processes on one port, with the real ledger."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.raw_scu import CT, RawScu, Rejected
from dicom_node.config import Config
from dicom_node.errors import StorageFailed
from dicom_node.intake.acceptor import Listeners, start_listeners
from dicom_node.ledger.ledger import Ledger
from dicom_node.spool import Spool
from tests.intake.conftest import slice_of


def until(condition: Callable[[], bool], patience_s: float = 20) -> bool:
    deadline = time.monotonic() + patience_s
    # Asked once a round: a condition may act (start a process), and a second look would deny it.
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


def config_of(root: Path, **settings: object) -> Config:
    return Config.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": root},
            "access": {"accept_unknown_callers": True, "max_associations": 3},
            "storage": {"refuse_below_free_bytes": 0},
            "intake": {"listener_processes": 2, **settings},
        }
    )


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Listeners]:
    started = start_listeners(config_of(tmp_path), f"sqlite:///{tmp_path}/ledger.sqlite")
    yield started
    started.close()


def test_processes_share_a_port_and_their_instances_reach_the_ledger(
    listeners: Listeners, tmp_path: Path
) -> None:
    assert listeners.alive()
    assert len(set(listeners.pids)) == 2
    for number in range(6):
        scu = RawScu(listeners.port)
        assert scu.store(CT, *slice_of(number)) == 0
        scu.release()
    paths = list(Spool(tmp_path / "spool").stored())
    assert len(paths) == 6
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    assert until(lambda: len(ledger.paths_known(paths)) == 6)
    ledger.close()


def test_the_limit_of_associations_holds_over_all_processes(listeners: Listeners) -> None:
    held = [RawScu(listeners.port) for _ in range(3)]
    with pytest.raises(Rejected):
        RawScu(listeners.port)
    for scu in held:
        scu.release()


def test_a_process_that_dies_is_started_anew_and_what_it_kept_stays(
    listeners: Listeners, tmp_path: Path
) -> None:
    scu = RawScu(listeners.port)
    assert scu.store(CT, *slice_of(1)) == 0
    for pid in listeners.pids:
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: not listeners.pids)
    assert until(lambda: listeners.ensure_running() == 0 and listeners.alive())

    def answers() -> bool:
        try:
            return RawScu(listeners.port).store(CT, *slice_of(2)) == 0
        except OSError:
            return False

    assert until(answers)
    assert len(list(Spool(tmp_path / "spool").stored())) == 2


def test_a_taken_port_is_said_so(listeners: Listeners, tmp_path: Path) -> None:
    config = config_of(tmp_path / "other")
    taken = config.model_copy(
        update={"node": config.node.model_copy(update={"port": listeners.port})}
    )
    with pytest.raises(StorageFailed, match="cannot listen"):
        start_listeners(taken, f"sqlite:///{tmp_path}/other.sqlite")


def test_children_end_when_their_parent_dies(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib\n"
        "from tests.intake.test_acceptor import config_of\n"
        "from dicom_node.intake.acceptor import start_listeners\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "made = start_listeners(config_of(root), f'sqlite:///{root}/ledger.sqlite')\n"
        "print(*made.pids, flush=True)\n"
        "os._exit(1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2

    def has_ended(pid: int) -> bool:
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"

    assert until(lambda: all(has_ended(pid) for pid in pids))


def test_what_a_locked_ledger_keeps_waiting_is_seen_by_the_parent(
    listeners: Listeners, tmp_path: Path
) -> None:
    assert listeners.oldest_waiting_s() == 0.0
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        scu = RawScu(listeners.port)
        assert scu.store(CT, *slice_of(1)) == 0
        assert until(lambda: listeners.oldest_waiting_s() > 0.5)
        other.execute("ROLLBACK")
    assert until(lambda: listeners.oldest_waiting_s() == 0.0)
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    assert len(ledger.paths_known(Spool(tmp_path / "spool").stored())) == 1
    ledger.close()
