"""Hosts with addresses of their own on one machine: network namespaces joined by a switch.

Each host is a thread that left the network of this process for one of its own; whatever it starts
(programs, servers, connections) is on that network. A cable (veth pair) leads from each to a
bridge in the switch's namespace. Nothing of it reaches the network of the machine; what a host
runs is ended with the switch.

    with Switch() as switch:
        archive, worker = switch.host("archive"), switch.host("worker1")
        worker.run(socket.create_connection, (archive.address, 104))
        worker.unplug()
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import pytest

_NEW_NETWORK = 0x40000000
_PREFIX = "10.77.0."
_NOBODY = "02:00:00:00:00:01"
_GONE_WITHIN_S = 30.0
_PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin"

P = ParamSpec("P")
R = TypeVar("R")


def need_namespaces() -> None:
    """Skip the test where no network namespaces can be made, and say what is needed."""
    if shutil.which("ip", path=_PATH) is None:
        pytest.skip("ip is not installed (Debian package iproute2)")
    try:
        with Namespace("probe"):
            pass
    except OSError as error:
        pytest.skip(f"no network namespaces here ({error.strerror}): run as root or by `make test`")


class Namespace:
    """A network of its own, and a thread in it that does what it is asked to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        try:
            self.task_id: int = self._thread.submit(_leave_network).result()
        except BaseException:
            self._thread.shutdown()
            raise
        self._identity = Path(f"/proc/{self.task_id}/ns/net").readlink()
        self.ip("link", "set", "lo", "up")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process in it, and give it back."""
        self.kill()
        self._thread.shutdown()

    def run(self, work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Do something in this network; sockets and processes that it makes stay there."""
        return self._thread.submit(work, *arguments, **options).result()

    def begin(self, work: Callable[P, object], *arguments: P.args, **options: P.kwargs) -> None:
        """Do something in this network without waiting, in a thread that ends with this process."""
        # A thread belongs to the network of the one that started it.
        thread = threading.Thread(target=work, args=arguments, kwargs=options, daemon=True)
        self.run(thread.start)

    def ip(self, *arguments: str, check: bool = True) -> None:
        """Run ``ip`` in this network."""
        self.run(
            subprocess.run, ["ip", *arguments], check=check, capture_output=True,
            env={**os.environ, "PATH": _PATH},
        )

    def start(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program; what it prints goes to the end of ``log``."""
        with log.open("ab") as output:
            return self.run(
                subprocess.Popen, list(command), stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **(environment or {})},
            )

    def processes(self) -> list[int]:
        """Living processes of this network, besides this one."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "ns" / "net").readlink() == self._identity:
                    found.append(int(entry.name))
        return [pid for pid in found if pid != os.getpid() and not _is_zombie(pid)]

    def signal(self, number: signal.Signals) -> None:
        """Signal every process of it."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL for all of its processes, also for those that are started meanwhile."""
        deadline = time.monotonic() + _GONE_WITHIN_S
        while living := self.processes():
            self.signal(signal.SIGKILL)
            assert time.monotonic() < deadline, f"{self.name}: {living} do not end"
            time.sleep(0.02)


class Host(Namespace):
    """A namespace with an address, on the switch by a cable of its own."""

    def __init__(self, name: str, switch: Switch, number: int) -> None:
        super().__init__(name)
        self.address = f"{_PREFIX}{number}"
        self._switch = switch
        self._cable = f"port{number}"
        # The namespace is named by the thread that lives in it.
        switch.ip(
            "link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns",
            str(self.task_id),
        )
        switch.ip("link", "set", self._cable, "master", "switch", "up")
        self.ip("address", "add", f"{self.address}/24", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")

    def unplug(self) -> None:
        """Cut the host off: nothing gets through, and neither side is told."""
        self._switch.ip("link", "set", self._cable, "nomaster")

    def plug_in(self) -> None:
        """Let it back on the network."""
        self._switch.ip("link", "set", self._cable, "master", "switch")

    def lose(self, other: Host) -> None:
        """What this host sends to ``other`` is lost from now on; everybody else is reached."""
        self.ip("neighbour", "replace", other.address, "lladdr", _NOBODY, "dev", "eth0",
                "nud", "permanent")

    def find(self, other: Host) -> None:
        """End what `lose` began."""
        self.ip("neighbour", "del", other.address, "dev", "eth0", check=False)

    def power_off(self) -> None:
        """Kill every process, and let nobody hear of it: a machine without power says no farewell.

        A process that is merely killed has its connections closed by the kernel, and its peers
        know at once; those of a machine that is gone have to find out.
        """
        self.unplug()
        self.kill()


class Switch:
    """Makes hosts and joins them."""

    def __init__(self) -> None:
        self._network = Namespace("switch")
        self._hosts: list[Host] = []
        self._lock = threading.Lock()
        self.ip("link", "add", "switch", "type", "bridge")
        # Ports forward at once: there are no loops to look for.
        self.ip("link", "set", "switch", "type", "bridge", "stp_state", "0", "forward_delay", "0")
        self.ip("link", "set", "switch", "up")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in reversed(self._hosts):
            host.close()
        self._network.close()

    def host(self, name: str) -> Host:
        """A new host on the switch."""
        with self._lock:
            made = Host(name, self, len(self._hosts) + 1)
            self._hosts.append(made)
            return made

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` in the switch."""
        self._network.ip(*arguments)


def _leave_network() -> int:
    """Give the calling thread a network of its own; returns its id.

    Raises
    ------
    OSError
        This user may not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return threading.get_native_id()


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
