"""A real systemd as process 1 of a container that sees this machine's files and changes none.

The root is an overlay whose changes are in memory; the network is a loopback of its own; what this
machine would start is not started. Needs root, systemd-nspawn and overlayfs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Both where ProtectHome=yes hides neither.
PYTHON, SOURCE = "/opt/python", "/opt/dicom-node/source"
PROGRAM = "/opt/dicom-node/bin/dicom-node"
PATIENCE_S = 120.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SETUP = """
set -eu
mount --make-rprivate /
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
rm -rf "$1/root/etc/systemd/system/"*.wants "$1/root/etc/fstab"
ln -sf /lib/systemd/system/basic.target "$1/root/etc/systemd/system/default.target"
: > "$1/root/etc/machine-id"
cp -a "$2/." "$1/root/"
for hierarchy in $3; do
    mkdir "$hierarchy"
    echo $$ > "$hierarchy/cgroup.procs"
done
shift 3
cd /
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --boot "$@"
"""


class RealSystemd:
    """One that has booted; ``files`` are laid over the root before."""

    def __init__(self, folder: Path, files: Path) -> None:
        root = folder / "machine"
        root.mkdir()
        self._groups = [top / f"dicom-node-test-{os.getpid()}" for top in _hierarchies()]
        self._log = (folder / "boot.log").open("wb")
        self._process = subprocess.Popen(
            [
                "unshare", "--mount", "sh", "-c", _SETUP, "sh", str(root), str(files),
                " ".join(map(str, self._groups)), f"--directory={root}/root", "--console=pipe",
                f"--bind-ro={sys.base_prefix}:{PYTHON}", f"--bind-ro={ROOT}:{SOURCE}",
            ],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._leader = 0

    def boot(self) -> None:
        """Wait until it runs."""
        self.until(lambda: self._find_leader() and self.state() in ("running", "degraded"), "boots")

    def state(self) -> str:
        return self.command("systemctl", "is-system-running").stdout.strip()

    def command(
        self, *arguments: str, timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run one in the container."""
        return subprocess.run(
            self._inside(*arguments), capture_output=True, text=True, timeout=timeout_s,
            check=False, cwd="/",
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start one in the container, to talk with."""
        return subprocess.Popen(
            self._inside(*arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd="/",
        )

    def show(self, name: str, unit: str = "dicom-node") -> str:
        """One property of a unit."""
        return self.command("systemctl", "show", "-P", name, unit).stdout.strip()

    def journal(self) -> str:
        return self.command("journalctl", "--no-pager", "-o", "cat", "-u", "dicom-node").stdout

    def until(
        self, condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S
    ) -> None:
        deadline = time.monotonic() + patience_s
        while not condition():
            assert self._process.poll() is None, "the container ended"
            assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}"
            time.sleep(0.1)

    def close(self) -> None:
        """Kill it; its files and mounts go with it."""
        if self._leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        for group in self._groups:
            for folder, _, _ in os.walk(group, topdown=False):
                _remove_group(Path(folder))

    def _inside(self, *arguments: str) -> list[str]:
        return [
            "nsenter", "-t", str(self._leader), "-m", "-n", "-p", "-u", "-i", "-C",
            "env", "-i", f"PATH={_PATH}", f"LD_LIBRARY_PATH={PYTHON}/lib", *arguments,
        ]

    def _find_leader(self) -> int:
        if not self._leader:
            # unshare, and the shell in it, have become systemd-nspawn; its child is process 1.
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            for pid in children.read_text().split():
                if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    self._leader = int(pid)
        return self._leader


def _hierarchies() -> list[Path]:
    """Where systemd keeps its groups of processes, by the version of them that is here."""
    top = Path("/sys/fs/cgroup")
    found = [top / name for name in ("systemd", "unified") if (top / name).is_dir()]
    return found or [top]


def _remove_group(group: Path) -> None:
    # The processes in it were just killed, and may not have ended yet.
    for _ in range(100):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.05)


def _make_venv(files: Path) -> None:
    """An environment as `make-venv.sh` makes it, with the packages of the one that tests run in."""
    program = files / PROGRAM.lstrip("/")
    program.parent.mkdir(parents=True)
    Path(files, environment_python().lstrip("/")).symlink_to(f"{PYTHON}/bin/python3")
    environment = program.parent.parent
    (environment / "pyvenv.cfg").write_text(f"home = {PYTHON}/bin\n")
    version = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
    (environment / version).mkdir(parents=True)
    packages = Path(sys.prefix) / version / "site-packages"
    (environment / version / "site-packages").symlink_to(
        f"{SOURCE}/{packages.relative_to(ROOT)}"
    )
    program.write_text(
        f"#!{environment_python()} -B\nimport sys\nsys.path.insert(0, {SOURCE!r})\n"
        "from dicom_node.__main__ import main\nmain()\n"
    )
    program.chmod(0o755)
    # A Python built elsewhere looks for its own library below /root.
    drop_in = files / "etc/systemd/system/dicom-node.service.d/python.conf"
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text(f"[Service]\nEnvironment=LD_LIBRARY_PATH={PYTHON}/lib\n")


def environment_python() -> str:
    return str(Path(PROGRAM).with_name("python"))


def need_real_systemd() -> None:
    """Skip where none can be booted."""
    missing = [name for name in ("systemd-nspawn", "unshare", "nsenter") if not shutil.which(name)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"a real systemd needs root and {', '.join(missing) or 'nothing else'}")
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        pytest.skip("a real systemd needs root that is root outside as well")
    if "overlay" not in Path("/proc/filesystems").read_text():
        pytest.skip("a real systemd needs overlayfs")


@contextlib.contextmanager
def real_systemd(folder: Path, files: Path) -> Iterator[RealSystemd]:
    """Boot one over this machine's root; its journal is shown when the test fails."""
    _make_venv(files)
    machine = RealSystemd(folder, files)
    try:
        machine.boot()
        yield machine
    except BaseException:
        with contextlib.suppress(Exception):
            print(machine.command("systemctl", "status", "-n0", "dicom-node").stdout,
                  machine.journal()[-6000:], (folder / "boot.log").read_text("utf-8", "replace"),
                  file=sys.stderr)
        raise
    finally:
        machine.close()
