"""Malformed PDUs, data sets and TLS handshakes against a real listener process.

    make attack                                         100,000 cases
    python -m tests.attack.fuzz --cases 5000 --seed 7   some, and others

Case n of a seed is always the same bytes. Said at the end: whether the listener still answers and
stores, and what it has grown by in memory, open files and threads since it was warm.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bench.raw_scu import CT, Closed, RawScu, Rejected, store_message
from dicom_node.config import Config
from dicom_node.intake.acceptor import Listeners, start_listeners
from tests.attack.mutations import CONTEXTS, conversation, data_sets, mutated
from tests.tls_files import Site, site

_TIMEOUT_S = 30.0
_DATA_SETS_EACH = 25


@dataclass
class Footprint:
    """What a process holds."""

    memory_mib: float
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Of a running process, as Linux tells it."""
        status = Path(f"/proc/{pid}/status").read_text()
        kib = next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line)
        return cls(
            round(kib / 1024, 1), len(list(Path(f"/proc/{pid}/fd").iterdir())),
            len(list(Path(f"/proc/{pid}/task").iterdir())),
        )


@dataclass
class Report:
    """What an attack has shown."""

    cases: int
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    warm: Footprint | None = None
    after: Footprint | None = None
    process_replaced: bool = False
    answers_echo: bool = False
    stores: bool = False
    half_received: int = 0

    def to_json(self) -> str:
        """All of it, the most frequent first."""
        counts = {"outcomes": self.outcomes, "events": self.events}
        found = asdict(replace(self, outcomes=Counter(), events=Counter()))
        ordered = {name: dict(count.most_common()) for name, count in counts.items()}
        return json.dumps({**found, **ordered}, indent=2)


@contextmanager
def victim(
    folder: Path, tell: Callable[[str, Mapping[str, object]], None], level: str = "error"
) -> Iterator[tuple[Listeners, Site]]:
    """One listener process with ledger and spool, with a port that speaks TLS and one that not."""
    certificates = site(folder / "certificates")
    config = Config.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": folder / "node"},
            "access": {"accept_unknown_callers": True, "max_associations_per_caller": 64},
            "storage": {"refuse_below_free_bytes": 0},
            "intake": {"listener_processes": 1, "acse_timeout_s": 10},
            "logging": {"level": level},
            "security": {"tls": certificates.settings(port=0).model_dump()},
        }
    )
    (folder / "node").mkdir(exist_ok=True)
    listeners = start_listeners(config, f"sqlite:///{folder}/node/ledger.db", tell)
    try:
        yield listeners, certificates
    finally:
        listeners.close()


def attack(
    folder: Path, cases: int, seed: int = 1, clients: int = 4, level: str = "error"
) -> Report:
    """Run so many cases and look at the listener before and after."""
    report = Report(cases)

    def tell(event: str, arguments: Mapping[str, object]) -> None:
        name = str(arguments.get("where", "")) if event == "unexpected" else ""
        report.events[f"{event} {name}".strip()] += 1

    with victim(folder, tell, level) as (listeners, certificates):
        pid = listeners.pids[0]
        hello = client_hello(certificates)
        warm_up = min(1000, cases // 4)
        _run(range(warm_up), seed, listeners, hello, report.outcomes, clients)
        report.warm = _settled(pid)
        begun = time.monotonic()
        _run(range(warm_up, cases), seed, listeners, hello, report.outcomes, clients)
        report.seconds = round(time.monotonic() - begun, 1)
        report.process_replaced = listeners.pids != [pid]
        report.after = _settled(listeners.pids[0])
        scu = RawScu(listeners.port, CONTEXTS)
        report.answers_echo = scu.echo(3) == 0
        report.stores = scu.store(CT, "1.2.3.9.1", data_sets(1)[0][1]) == 0
        scu.release()
        incoming = folder / "node" / "spool" / "incoming"
        report.half_received = len(list(incoming.iterdir()))
        time.sleep(1.5)
    return report


def _settled(pid: int) -> Footprint:
    """What the process holds once the last associations are gone."""
    deadline = time.monotonic() + 30
    former, same = Footprint.of(pid), 0
    while same < 3 and time.monotonic() < deadline:
        time.sleep(0.5)
        now = Footprint.of(pid)
        same = same + 1 if (now.files, now.threads) == (former.files, former.threads) else 0
        former = now
    return former


def _run(
    numbers: Sequence[int], seed: int, listeners: Listeners, hello: bytes,
    outcomes: Counter[str], clients: int,
) -> None:  # fmt: skip
    # A turn is one connection: of one case, or of many data sets in a row.
    turns = iter(_turns(numbers))
    lock = threading.Lock()
    failures: list[BaseException] = []

    def work() -> None:
        while not failures:
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            try:
                found = _turn(turn, seed, listeners, hello)
            except BaseException as failure:
                failures.append(failure)
                raise
            with lock:
                outcomes.update(found)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _turns(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    start = 0
    while start < len(numbers):
        # Each fourth connection carries data sets, so that they are most of the cases.
        length = _DATA_SETS_EACH if (numbers[start] // _DATA_SETS_EACH) % 2 else 1
        yield numbers[start : start + length]
        start += length


def _turn(
    numbers: Sequence[int], seed: int, listeners: Listeners, hello: bytes
) -> Counter[str]:
    if len(numbers) > 1:
        return _store_mutated(numbers, seed, listeners.port)
    chance = random.Random(f"{seed}:{numbers[0]}")
    if chance.random() < 0.1:
        return Counter([_talk(listeners.tls_port, mutated(hello, chance), "handshake")])
    pdus = conversation(numbers[0])
    spoilt = chance.randrange(len(pdus))
    pdus[spoilt] = mutated(pdus[spoilt], chance)
    if chance.random() < 0.1:
        chance.shuffle(pdus)
    return Counter([_talk(listeners.port, b"".join(pdus), "conversation")])


def _talk(port: int, data: bytes, kind: str) -> str:
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                last = piece
        except ConnectionError:
            return f"{kind}: reset"
        return f"{kind}: closed" if "last" not in locals() else f"{kind}: answered"


def _store_mutated(numbers: Sequence[int], seed: int, port: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    scu: RawScu | None = None
    for number in numbers:
        chance = random.Random(f"{seed}:{number}")
        context, data = chance.choice(data_sets(number % 500))
        try:
            scu = scu or RawScu(port, CONTEXTS, calling="FUZZ", timeout_s=_TIMEOUT_S)
            message = store_message(context, CT, f"1.2.3.9.{number % 500}", mutated(data, chance))
            scu.send(message)
            outcomes[f"data set: 0x{scu.status():04X}"] += 1
        except (Closed, Rejected, ConnectionError) as failure:
            outcomes[f"data set: {type(failure).__name__}"] += 1
            scu = None
    if scu is not None:
        with contextlib.suppress(Closed, OSError):
            scu.release()
    return outcomes


def client_hello(certificates: Site) -> bytes:
    """The first flight of a good client."""
    import ssl

    context = ssl.create_default_context(cafile=str(certificates.ca))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def main() -> int:
    """Attack, print what came of it as JSON, and say whether the node came out of it whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--memory", action="store_true", help="keep the files in /dev/shm")
    options = parser.parse_args()
    where = "/dev/shm" if options.memory else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        report = attack(Path(folder), options.cases, options.seed, options.clients)
    print(report.to_json())
    problems = why_harmed(report)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def why_harmed(report: Report, most_growth_mib: float = 64.0) -> list[str]:
    """What the attack did to the listener; nothing, if all is well."""
    warm, after = report.warm, report.after
    if warm is None or after is None:
        return ["the attack did not come to its end"]
    found = {
        "the listener process was replaced": report.process_replaced,
        "no answer to an echo": not report.answers_echo,
        "a good image is not stored": not report.stores,
        "half received files are left": report.half_received > 0,
        "something happened that no type foresaw": any(
            name.startswith("unexpected") for name in report.events
        ),
        "memory has grown": after.memory_mib - warm.memory_mib > most_growth_mib,
        "open files have grown": after.files > warm.files,
        "threads have grown": after.threads > warm.threads,
    }
    return [problem for problem, is_so in found.items() if is_so]


if __name__ == "__main__":
    sys.exit(main())
