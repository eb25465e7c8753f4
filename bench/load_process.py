"""The processes of the load measurement: senders that cost little, and a listener of its own.

    python -m bench.load_process send PORT INSTANCES SLOT
    python -m bench.load_process listen DATA_DIR journal|none
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from bench.raw_scu import CT, EXPLICIT, RawScu, store_message
from bench.synthetic import ct_slice

ASSOCIATIONS = 8
SIZE_BYTES = 32 * 1024
_SERIES_OF = 125
_INSTANCE = "1.2.826.7777777777777.1"


class Sent(NamedTuple):
    """What all associations together got acknowledged, in which time."""

    instances: int
    size_bytes: int
    seconds: float


def send(port: int, instances: int) -> Sent:
    """Send from `ASSOCIATIONS` processes at once; every answer must be success."""
    each = instances // ASSOCIATIONS
    senders = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.load_process", "send", str(port), str(each), str(slot)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for slot in range(ASSOCIATIONS)
    ]  # fmt: skip
    for sender in senders:
        assert sender.stdout and sender.stdout.readline() == "ready\n"
    for sender in senders:
        assert sender.stdin
        sender.stdin.write("go\n")
        sender.stdin.flush()
    times = []
    for sender in senders:
        assert sender.stdout
        line = sender.stdout.readline()
        if not line or sender.wait():
            raise SystemExit("a sender failed")
        times.append(float(line))
        sender.stdout.close()
    return Sent(each * ASSOCIATIONS, each * ASSOCIATIONS * SIZE_BYTES, max(times))


def _send(port: int, instances: int, slot: int) -> None:
    marked = f"{os.getpid():07d}{slot}"
    messages = []
    for one in range(-(-instances // _SERIES_OF)):
        series = f"1.2.826.2.{int(marked)}.{one}"
        study = f"1.2.826.1.{int(marked)}"
        data = ct_slice(_INSTANCE, study, series, one + 1, os.urandom(SIZE_BYTES))
        message = bytearray(store_message(1, CT, _INSTANCE, data))
        places, start = [], 0
        while (start := message.find(_INSTANCE.encode(), start)) >= 0:
            places.append(start)
            start += 1
        messages.append((message, places))
    scu = RawScu(port, [(1, CT, [EXPLICIT])], timeout_s=120)
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    for number in range(instances):
        message, places = messages[number // _SERIES_OF]
        uid = f"1.2.826.1{number:05d}{int(marked) % 10**7:07d}.1".encode()
        assert len(uid) == len(_INSTANCE)
        for place in places:
            message[place : place + len(uid)] = uid
        scu.send(bytes(message))
        if scu.status():
            raise SystemExit("refused")
    seconds = time.monotonic() - begun
    scu.release()
    print(seconds, flush=True)


class _NoJournal:
    """Told what was stored, and tells nobody."""

    listener_id = "none"

    def stored(self, instance: object, association: object) -> None:
        """Nothing."""

    def ended(self, association: object) -> None:
        """Nothing."""


def _listen(data_dir: Path, how: str) -> None:
    from dicom_node.config import Config
    from dicom_node.events import Events, configure_logging
    from dicom_node.intake.indexer import Indexer
    from dicom_node.intake.listener import Listener
    from dicom_node.intake.settings import ListenerSettings
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.spool import Spool

    configure_logging("warning", "console")
    config = Config.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": data_dir},
            "access": {"accept_unknown_callers": True},
            "storage": {"refuse_below_free_bytes": 0},
        }
    )
    spool, events = Spool(data_dir / "spool"), Events()
    ledger = Ledger.open(data_dir / "ledger.db")
    indexer = Indexer(ledger, spool, "bench", events)
    index = indexer if how == "journal" else _NoJournal()
    listener = Listener(ListenerSettings.of(config), spool, index, events)
    indexer.start()
    print(listener.start(), flush=True)
    sys.stdin.read()
    listener.close()
    indexer.close()
    ledger.close()


if __name__ == "__main__":
    if sys.argv[1] == "send":
        _send(*map(int, sys.argv[2:5]))
    else:
        _listen(Path(sys.argv[2]), sys.argv[3])
