"""Receiving into an object store, beside a folder: instances per second and CPU seconds.

    python -m bench store [--instances 400] [--associations 1,4,8] [--delay-ms 0,10,30]

The same instances of 512 KiB go to the same listener processes in turns, once with a folder of this
disk as spool and once with a store. The store is a stand-in in a process of its own on loopback: it
writes each object into a file, syncs it, waits ``--delay-ms`` (what a real one needs besides) and
answers. It knows no conditions and checks nothing, so what is measured is the node's side. CPU
seconds are those of the listener processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.raw_scu import CT, EXPLICIT, RawScu
from bench.synthetic import ct_slice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicom_node.config import Config

_PIXELS = bytes(range(256)) * 2048
_EMPTY = (
    b'<?xml version="1.0"?><ListBucketResult><Name>b</Name><KeyCount>0</KeyCount>'
    b"<IsTruncated>false</IsTruncated></ListBucketResult>"
)


class _Stand(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder, delay_s = Path(), 0.0

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = self.folder / md5(self.path.encode(), usedforsecurity=False).hexdigest()
        with name.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        time.sleep(self.delay_s)
        digest = md5(body, usedforsecurity=False).hexdigest()
        self._answer(200, b"", ETag=f'"{digest}"')

    def do_GET(self) -> None:
        self._answer(200, _EMPTY)

    def do_HEAD(self) -> None:
        self._answer(404, b"")

    def do_DELETE(self) -> None:
        self._answer(204, b"")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def stand(folder: str, delay_s: str) -> None:
    """The store, until its standard input ends; prints its port."""
    _Stand.folder, _Stand.delay_s = Path(folder), float(delay_s)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Stand)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


@contextmanager
def _store(folder: Path, delay_s: float) -> Iterator[str]:
    code = f"from bench.store import stand; stand({str(folder)!r}, '{delay_s}')"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        yield f"http://127.0.0.1:{child.stdout.readline().strip()}"
        child.stdin.close()


def _config(folder: Path, url: str) -> Config:
    from dicom_node.config import Config

    storage: dict[str, Any] = {"refuse_below_free_bytes": 0}
    if url:
        storage |= {"spool": "s3://images/node", "s3": {"endpoint_url": url}}
    return Config.model_validate({
        "node": {"port": 0, "host": "127.0.0.1", "data_dir": folder}, "storage": storage,
        "access": {"accept_unknown_callers": True}, "logging": {"level": "error"},
    })


def _send(port: int, association: int, instances: int) -> None:
    scu = RawScu(port, ((1, CT, [EXPLICIT]),))
    for number in range(instances):
        uid = f"1.2.3.{association}.{number}"
        data = ct_slice(uid, f"1.2.{association}", f"1.2.{association}.1", number, _PIXELS)
        if scu.store(CT, uid, data) != 0:
            raise RuntimeError("an instance was refused")
    scu.release()


def _measure(folder: Path, url: str, associations: int, instances: int) -> dict[str, float]:
    from dicom_node.intake.acceptor import start_listeners
    from dicom_node.ledger.ledger import Ledger

    ledger_url = f"sqlite:///{folder}/ledger.db"
    Ledger.open(ledger_url).close()
    with closing(start_listeners(_config(folder, url), ledger_url)) as listeners:
        _send(listeners.port, 99, 8)
        before, began = _cpu_s(listeners.pids), time.monotonic()
        each = instances // associations
        threads = [
            threading.Thread(target=_send, args=(listeners.port, one, each))
            for one in range(associations)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall_s = time.monotonic() - began
        cpu_s = _cpu_s(listeners.pids) - before
    sent = each * associations
    return {
        "instances_per_s": sent / wall_s, "ms_each": 1e3 * wall_s * associations / sent,
        "cpu_ms_each": 1e3 * cpu_s / sent,
    }


def _cpu_s(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main(options: list[str]) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench store")
    parser.add_argument("--instances", type=int, default=400)
    parser.add_argument("--associations", default="1,4,8")
    parser.add_argument("--delay-ms", default="0,10,30")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    asked = parser.parse_args(options)
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    rows = []
    for associations in map(int, asked.associations.split(",")):
        for delay in ("folder", *asked.delay_ms.split(",")):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                (folder / "objects").mkdir()
                if delay == "folder":
                    found = _measure(folder, "", associations, asked.instances)
                else:
                    with _store(folder / "objects", float(delay) / 1e3) as url:
                        found = _measure(folder, url, associations, asked.instances)
            spool = delay if delay == "folder" else f"store + {delay} ms"
            rows.append({"spool": spool, "associations": associations, **found})
            print(
                f"{spool:16} {associations:2} associations {found['instances_per_s']:7.1f} /s "
                f"{found['ms_each']:7.1f} ms each, CPU {found['cpu_ms_each']:.1f} ms", flush=True,
            )
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
