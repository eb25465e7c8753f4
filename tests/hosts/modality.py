"""Modalities that know several receivers of one AE title, and go to another when one is away."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from bench.chaos_load import Account, make_series
from bench.raw_scu import CT, EXPLICIT, Closed, RawScu, Rejected, bare_data_set
from tests.hosts.network import Host
from tests.hosts.node_host import AE_TITLE, DICOM_PORT, MODALITY

STAT, ROUTINE = "EMERGENCY CHEST", "CHEST"
_PATIENCE_S = 10.0
_PAUSE_S = 1.0
_LARGEST = 3


@dataclass
class Sent:
    """What the modalities were told, beyond what an `Account` has.

    ``is_stat`` and ``ended_at`` are by Series Instance UID (when its last instance was
    acknowledged, seconds since the epoch), ``receivers`` by SOP Instance UID who acknowledged it.
    """

    account: Account = field(default_factory=Account)
    is_stat: dict[str, bool] = field(default_factory=dict)
    ended_at: dict[str, float] = field(default_factory=dict)
    receivers: dict[str, str] = field(default_factory=dict)
    by_receiver: Counter[str] = field(default_factory=Counter)


def make_load(folder: Path, count: int, seed: int, *, stat_every: int = 10) -> Sent:
    """Series of 1 to 3 small CT images; of every ``stat_every`` one is an emergency."""
    chance, sent = random.Random(seed), Sent()
    for number in range(count):
        is_stat = number % stat_every == stat_every - 1
        series_uid, files = make_series(
            folder / str(number), chance, (1 + number % _LARGEST, 24, 32),
            StudyDescription=STAT if is_stat else ROUTINE,
        )
        sent.account.add(series_uid, files)
        sent.is_stat[series_uid] = is_stat
    return sent


class Modalities:
    """Some modalities on one host, each with one association at a time.

    Parameters
    ----------
    host
        Where they are.
    receivers
        Name and address of each receiver; each series begins with the next of them, and goes on
        with another when that one does not answer.
    sent
        What is to be sent, and what becomes of it.
    modalities
        How many there are.
    """

    def __init__(
        self, host: Host, receivers: Sequence[tuple[str, str]], sent: Sent, modalities: int = 4
    ) -> None:
        self.sent = sent
        self._host, self._receivers = host, list(receivers)
        self._modalities = modalities
        self._queue: SimpleQueue[tuple[float, int, str]] = SimpleQueue()
        self._lock = threading.Lock()
        self._open = 0
        self._stopping = threading.Event()

    def start(self, *, every_s: float = 0.0, series: Sequence[str] | None = None) -> None:
        """Send ``series`` (all, where none are named), one more ``every_s`` seconds."""
        begun = time.monotonic()
        chosen = list(self.sent.account.series if series is None else series)
        with self._lock:
            self._open += len(chosen)
        for number, uid in enumerate(chosen):
            self._queue.put((begun + number * every_s, number, uid))
        for _ in range(self._modalities):
            self._host.begin(self._send_all)

    @property
    def open(self) -> int:
        """How many series have an instance that was not acknowledged."""
        with self._lock:
            return self._open

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()

    def _send_all(self) -> None:
        while not self._stopping.is_set():
            try:
                not_before, number, uid = self._queue.get_nowait()
            except Empty:
                return
            if self._stopping.wait(max(0.0, not_before - time.monotonic())):
                return
            self._send(uid, number)

    def _send(self, series_uid: str, number: int) -> None:
        account = self.sent.account
        turn = number
        while missing := [u for u in account.series[series_uid] if not account.acknowledged[u]]:
            name, address = self._receivers[turn % len(self._receivers)]
            turn += 1
            try:
                self._send_to(name, address, missing)
            except (OSError, Closed, Rejected) as error:
                with self._lock:
                    account.refusals[f"{name}: {type(error).__name__}"] += 1
                # Whoever has asked everybody waits before asking again.
                is_round_over = (turn - number) % len(self._receivers) == 0
                if is_round_over and self._stopping.wait(_PAUSE_S):
                    return
        with self._lock:
            self.sent.ended_at[series_uid] = time.time()
            self._open -= 1

    def _send_to(self, name: str, address: str, uids: Sequence[str]) -> None:
        account = self.sent.account
        scu = RawScu(
            DICOM_PORT, [(1, CT, [EXPLICIT])], calling=MODALITY, called=AE_TITLE,
            timeout_s=_PATIENCE_S, host=address,
        )
        with scu.socket:
            for uid in uids:
                sop_class, _, _, data = bare_data_set(account.paths[uid])
                status = scu.store(sop_class, uid, data)
                with self._lock:
                    account.sent_files += 1
                    if status == 0:
                        account.acknowledged[uid] += 1
                        self.sent.receivers[uid] = name
                        self.sent.by_receiver[name] += 1
                    else:
                        account.refusals[f"{name}: 0x{status:04X}"] += 1
            scu.release()
