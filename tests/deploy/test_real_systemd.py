"""The unit that `dicom-node init --unit` writes, under a real systemd as process 1.

One after the other: each test leaves the node running, or starts it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.real_systemd import (
    PROGRAM,
    ROOT,
    SOURCE,
    RealSystemd,
    environment_python,
    need_real_systemd,
    real_systemd,
)
from tests.intake.conftest import slice_of

pytestmark = pytest.mark.slow
# Shorter than what they are in the unit: a test does not wait for three minutes.
_QUICK = "[Service]\nWatchdogSec=6\nTimeoutAbortSec=2\nRestartSec=0\n"
_SENDER = """
import sys
sys.path.insert(0, {source!r})
from bench.raw_scu import CT, RawScu, store_message
scu = RawScu(104, calling="SCANNER1")
message = store_message(1, CT, {uid!r}, bytes.fromhex(sys.stdin.readline()))
scu.send(message[: len(message) // 2])
print("half", flush=True)
sys.stdin.readline()
scu.send(message[len(message) // 2 :])
print(scu.status(), flush=True)
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSystemd]:
    """A booted systemd with the unit as `init` writes it, and settings for port 104."""
    need_real_systemd()
    folder = tmp_path_factory.mktemp("systemd")
    files = folder / "files"
    files.mkdir()
    _initialise(files)
    with real_systemd(folder, files) as booted:
        yield booted


def _initialise(files: Path) -> None:
    """What an administrator does: init, then edit the settings."""
    subprocess.run(
        [sys.executable, "-m", "dicom_node", "init", "--unit", "--root", str(files)],
        check=True, capture_output=True, cwd=ROOT,
    )
    unit = files / "etc/systemd/system/dicom-node.service"
    # The program of this environment is where ProtectHome hides it.
    text = unit.read_text()
    line = next(one for one in text.splitlines() if one.startswith("ExecStart="))
    unit.write_text(text.replace(line.split()[0], f"ExecStart={PROGRAM}"))
    drop_in = files / "etc/systemd/system/dicom-node.service.d"
    drop_in.mkdir()
    (drop_in / "quick.conf").write_text(_QUICK)
    settings = {
        "node": {"host": "127.0.0.1", "port": 104},
        "peers": {
            "scanner": {"ae_title": "SCANNER1", "host": "127.0.0.1", "port": 4242},
        },
        "storage": {"refuse_below_free_bytes": 0, "make_room_below_free_bytes": 0},
        "intake": {"listener_processes": 1},
        "web": {"enabled": False},
        "models": {"devices": ["cpu"]},
    }
    (files / "etc/dicom-node/config.yaml").write_text(yaml.safe_dump(settings))


def _main_process(machine: RealSystemd) -> str:
    pid = machine.show("MainPID")
    assert pid != "0"
    return pid


def test_it_is_active_once_it_takes_associations_on_port_104_and_has_no_rights_besides(
    machine: RealSystemd,
) -> None:
    started = machine.command("systemctl", "start", "dicom-node")
    assert started.returncode == 0, machine.journal()
    machine.until(
        lambda: machine.show("StatusText").startswith("receiving on port 104"), "it says so"
    )
    echoed = machine.command("echoscu", "-aet", "SCANNER1", "-aec", "DICOMNODE", "127.0.0.1", "104")
    assert echoed.returncode == 0, echoed.stderr
    status = machine.command("cat", f"/proc/{_main_process(machine)}/status").stdout
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    net_bind_service = f"{1 << 10:016x}"
    assert values["CapEff"] == values["CapBnd"] == net_bind_service
    assert values["NoNewPrivs"] == "1" and values["Seccomp"] == "2"
    assert "0" not in values["Uid"].split()
    owner = machine.command("stat", "-c", "%U %a", "/var/lib/dicom-node").stdout.strip()
    assert owner == "dicom-node 750"


def test_a_main_loop_that_hangs_is_killed_by_the_watchdog_and_started_again(
    machine: RealSystemd,
) -> None:
    before = _main_process(machine)
    machine.command("kill", f"-{signal.SIGSTOP.value}", before)
    machine.until(lambda: machine.show("NRestarts") == "1", "the watchdog starts it again")
    machine.until(lambda: machine.show("ActiveState") == "active", "it is active again")
    assert _main_process(machine) != before
    assert "Watchdog timeout" in machine.journal()


def test_a_stop_lets_the_running_c_store_finish_and_ends_well(machine: RealSystemd) -> None:
    uid, data = slice_of(7, 200_000)
    code = _SENDER.format(source=SOURCE, uid=uid)
    with machine.start(environment_python(), "-B", "-c", code) as sender:
        assert sender.stdin and sender.stdout
        sender.stdin.write(data.hex() + "\n")
        sender.stdin.flush()
        assert sender.stdout.readline() == "half\n"
        machine.command("systemctl", "stop", "--no-block", "dicom-node")
        machine.until(lambda: machine.show("StatusText").startswith("stopping"), "it says so")
        assert machine.show("ActiveState") == "deactivating"
        sender.stdin.write("\n")
        sender.stdin.flush()
        assert sender.stdout.readline() == "0\n", "the answer is success"
    machine.until(lambda: machine.show("ActiveState") == "inactive", "it ends")
    assert machine.show("Result") == "success" and machine.show("ExecMainStatus") == "0"
    kept = machine.command("find", "/var/lib/dicom-node/spool", "-name", "*.dcm").stdout
    assert len(kept.split()) == 1


def test_a_node_with_wrong_settings_is_not_started_again_and_again(machine: RealSystemd) -> None:
    machine.command("sh", "-c", "echo 'node: {port: 99999}' > /etc/dicom-node/config.yaml")
    assert machine.command("systemctl", "start", "dicom-node").returncode != 0
    machine.until(lambda: machine.show("ActiveState") == "failed", "it is left as it is")
    assert machine.show("ExecMainStatus") == "2"
    assert "node.port" in machine.journal()
