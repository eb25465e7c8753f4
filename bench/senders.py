"""Senders that cost as little as sending can: prebuilt PDUs, one process an association."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from typing import NamedTuple, Protocol
from uuid import uuid4

from bench.raw_scu import CT, EXPLICIT, RawScu, store_message
from bench.synthetic import ct_slice

KINDS = {"A": 512 * 1024, "B": 20 * 1024 * 1024, "C": 32 * 1024}
ASSOCIATIONS = 4
_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
_MARK = "1.2.826.7777777777777.1"


class Target(Protocol):
    port: int
    is_raw: bool


class Sent(NamedTuple):
    instances: int
    seconds: float


def run_senders(
    target: Target, kind: str, seconds: float, associations: int = ASSOCIATIONS
) -> Sent:
    """Send from all associations at once; instances acknowledged within the time."""
    command = [sys.executable, "-m", "bench.senders", str(target.port), kind, str(seconds)]
    senders = [
        subprocess.Popen(
            [*command, "raw" if target.is_raw else "dicom"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(associations)
    ]
    for sender in senders:
        assert sender.stdout and sender.stdout.readline() == "ready\n"
    for sender in senders:
        assert sender.stdin
        sender.stdin.write("go\n")
        sender.stdin.flush()
    counts, times = [], []
    for sender in senders:
        assert sender.stdout and sender.stdin
        said = sender.stdout.readline()
        sender.stdin.close()
        sender.stdout.close()
        if sender.wait() or not said:
            raise RuntimeError("a sender was refused")
        count, took = said.split()
        counts.append(int(count))
        times.append(float(took))
    return Sent(sum(counts), max(times))


def _message(kind: str, series: str) -> tuple[bytearray, list[int]]:
    """A whole store message, and where its SOP Instance UID stands."""
    frames = KINDS[kind] // KINDS["A"] if kind == "B" else 0
    data = ct_slice(
        _MARK, "1.2.826.1", series, 1, os.urandom(KINDS[kind]), _sop_class(kind), frames
    )
    message = bytearray(store_message(1, _sop_class(kind), _MARK, data))
    places, start = [], 0
    while (start := message.find(_MARK.encode(), start)) >= 0:
        places.append(start)
        start += 1
    return message, places


def _sop_class(kind: str) -> str:
    return _ENHANCED_CT if kind == "B" else CT


def main() -> None:
    port, kind, seconds, how = sys.argv[1:5]
    series = f"1.2.826.2.{uuid4().int % 10**12}"
    message, places = _message(kind, series)
    prefix = series.rsplit(".", maxsplit=1)[-1]
    number, deadline = 0, 0.0
    if how == "raw":
        connection = socket.create_connection(("127.0.0.1", int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(struct.pack("<L", len(message)))
        answer_bytes = 1
    else:
        scu = RawScu(int(port), [(1, _sop_class(kind), [EXPLICIT])], timeout_s=60)
        connection = scu.socket
        answer_bytes = 0
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    deadline = begun + float(seconds)
    while time.monotonic() < deadline:
        uid = f"1.2.826.{prefix:0>13}.{number % 10}".encode()[: len(_MARK)]
        uid = f"1.2.826.1{number:0>6}{prefix[-6:]:0>6}.1".encode()
        assert len(uid) == len(_MARK)
        for place in places:
            message[place : place + len(uid)] = uid
        connection.sendall(message)
        if answer_bytes:
            connection.recv(1)
        elif scu.status():
            raise SystemExit("refused")
        number += 1
    print(number, time.monotonic() - begun, flush=True)
    if how != "raw":
        scu.release()


if __name__ == "__main__":
    main()
