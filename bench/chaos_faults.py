"""What can happen to a node: one function a fault, each leaves a site that can be started again.

A fault takes the site and a source of chance; how long it lasts and whom it hits come from there.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence

from bench.chaos_site import Site, close_to_all, send_signal
from dicom_node.ledger.database import create_engine

LISTENER = "dicom_node.intake.acceptor"
WORKER = "dicom_node.pipeline.worker"
Fault = Callable[[Site, random.Random], None]


def _wait_main(site: Site) -> None:
    if site.node.pid is not None:
        site.node.wait_ended()


def kill_node(site: Site, _: random.Random) -> None:
    """SIGKILL for the main process, as the kernel's out-of-memory killer would."""
    pid = site.node.pid
    site.node.processes()
    if pid is not None:
        send_signal(pid, signal.SIGKILL)
        _wait_main(site)


def kill_all(site: Site, _: random.Random) -> None:
    """SIGKILL for every process of the node, as a power cut that keeps the page cache."""
    site.node.signal_all(signal.SIGKILL)
    _wait_main(site)


def kill_twice(site: Site, chance: random.Random) -> None:
    """SIGKILL for every process, and again while it starts: a machine that reboots in a loop."""
    kill_all(site, chance)
    site.node.spawn()
    time.sleep(chance.uniform(0.1, 4.0))
    kill_all(site, chance)


def kill_listener(site: Site, chance: random.Random) -> None:
    """SIGKILL for one of the listener processes."""
    _kill_one(site, LISTENER, chance)


def kill_worker(site: Site, chance: random.Random) -> None:
    """SIGKILL for the inference worker."""
    _kill_one(site, WORKER, chance)


def _kill_one(site: Site, words: str, chance: random.Random) -> None:
    found = site.node.of_kind(words)
    if found:
        send_signal(chance.choice(found), signal.SIGKILL)


def freeze_and_kill(site: Site, chance: random.Random) -> None:
    """Every process stands still for a while (a frozen virtual machine) and is then killed."""
    site.node.signal_all(signal.SIGSTOP)
    time.sleep(chance.uniform(0.2, 3.0))
    site.node.signal_all(signal.SIGKILL)
    _wait_main(site)


def freeze_node_and_kill(site: Site, chance: random.Random) -> None:
    """The main process stands still while its listeners receive, and is then killed."""
    pid = site.node.pid
    site.node.processes()
    if pid is not None:
        send_signal(pid, signal.SIGSTOP)
        time.sleep(chance.uniform(0.2, 3.0))
        send_signal(pid, signal.SIGKILL)
        _wait_main(site)


def freeze_and_thaw(site: Site, chance: random.Random) -> None:
    """Every process stands still for a while and goes on."""
    site.node.signal_all(signal.SIGSTOP)
    time.sleep(chance.uniform(0.2, 4.0))
    site.node.signal_all(signal.SIGCONT)


def terminate(site: Site, _: random.Random) -> None:
    """SIGTERM, as an update of the package does, in the middle of everything."""
    code = site.node.stop()
    assert code == 0, f"SIGTERM ended the node with {code}:\n{site.node.log_tail()}"


def kill_archive(site: Site, chance: random.Random) -> None:
    """The archive is killed, is away for a while and comes back."""
    process = site.archive._process
    assert process is not None
    process.kill()
    process.wait()
    time.sleep(chance.uniform(0.0, 3.0))
    site.archive.start()


def lose_answers(site: Site, chance: random.Random) -> None:
    """The archive stores, and the association breaks before its answer reaches the node."""
    site.tee.lose_answers(chance.randrange(1, 4))


def lock_ledger(site: Site, chance: random.Random) -> None:
    """Another program holds the ledger's write lock; one time in two the node is killed in it."""
    engine = create_engine(site.node.ledger_url)
    with engine.connect() as connection:
        close_to_all(connection)
        # SQLite's is taken with the first statement.
        connection.exec_driver_sql("SELECT 1")
        time.sleep(chance.uniform(0.5, 5.0))
        if chance.random() < 0.5:
            kill_all(site, chance)
        connection.rollback()
    engine.dispose()


def kill_database(site: Site, chance: random.Random) -> None:
    """The server of the ledger is killed, or stopped in order, and is away for a while."""
    assert site.server is not None
    chance.choice([site.server.kill, site.server.stop])()
    time.sleep(chance.uniform(0.0, 5.0))
    site.server.start()


def fill_disk(site: Site, chance: random.Random) -> None:
    """No space is left for a while; one time in two the node is killed before there is again."""
    try:
        site.disk.fill(leave_bytes=chance.choice([0, 0, 4096, 65536, 300_000]))
        time.sleep(chance.uniform(0.5, 4.0))
        if chance.random() < 0.5:
            kill_all(site, chance)
    finally:
        site.disk.release()


FAULTS: dict[str, Fault] = {
    "node killed": kill_node,
    "every process killed": kill_all,
    "killed again while it starts": kill_twice,
    "listener killed": kill_listener,
    "worker killed": kill_worker,
    "all frozen, then killed": freeze_and_kill,
    "node frozen, then killed": freeze_node_and_kill,
    "all frozen for a while": freeze_and_thaw,
    "SIGTERM": terminate,
    "archive killed": kill_archive,
    "answers of the archive lost": lose_answers,
    "ledger locked": lock_ledger,
    "disk full": fill_disk,
    "database killed": kill_database,
}


def possible(site: Site) -> list[str]:
    """The faults that can strike a site, by name."""
    missing = set() if site.disk.can_fill else {"disk full"}
    if site.server is None:
        missing.add("database killed")
    return [name for name in FAULTS if name not in missing]


def deal(rounds: int, chance: random.Random, names: Sequence[str]) -> list[str]:
    """A fault for every round: each as often as the others, in an order of chance."""
    dealt: list[str] = []
    while len(dealt) < rounds:
        hand = list(names)
        chance.shuffle(hand)
        dealt += hand
    return dealt[:rounds]
