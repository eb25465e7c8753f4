"""The command line itself: exit codes, the settings it finds, and how little it imports."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.cli import status
from dicom_node.cli.main import find_config
from dicom_node.errors import HostNameTaken, PeerUnavailable
from tests.cli.running import Site
from tests.dicom_samples import ct_series, write_series

HEAVY = ("torch", "monai", "highdicom", "onnxruntime", "dbos", "scipy", "psycopg", "pynetdicom")
_MODULES = """
import sys
from dicom_node.cli.main import run_command
try:
    code = run_command(sys.argv[1:])
except SystemExit as error:
    code = error.code
print(sorted(name for name in sys.modules if "." not in name), code, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [[], ["nothing"], ["show"], ["jobs", "--state", "odd"], ["--config"], ["run"],
                  ["serve", "--only", "cook"]],
    ids=" ".join,
)
def test_wrong_use_is_exit_2(site: Site, arguments: list[str]) -> None:
    answer = site(*arguments)
    assert (answer.code, answer.out) == (2, "") and answer.err


def test_a_wrong_setting_is_exit_2_with_its_line(site: Site) -> None:
    site.settings(more="odd: 1\n")
    answer = site("status")
    assert answer.code == 2 and "config.yaml:8" in answer.err and "Traceback" not in answer.err


def test_settings_may_be_named_behind_the_command(site: Site) -> None:
    other = site.folder / "other.yaml"
    other.write_text("odd: 1\n")
    answer = site("status", "--config", other)
    assert answer.code == 2 and "other.yaml:1" in answer.err


def test_what_the_disk_refuses_is_exit_1_and_names_the_file(site: Site) -> None:
    (site.folder / "file").write_text("in the way")
    answer = site("run", "lungs-ct", site.folder, "--output", site.folder / "file" / "out")
    assert answer.code == 1 and "Traceback" not in answer.err
    write_series(ct_series((3, 8, 8)), site.folder / "images")
    answer = site("run", "lungs-ct", site.folder / "images", "--output", site.folder / "file" / "o")
    assert answer.code == 1 and answer.err.startswith(f"dicom-node: {site.folder / 'file' / 'o'}: ")


def test_settings_that_are_not_there_are_exit_2(site: Site) -> None:
    site.config.unlink()
    assert site("status").code == 2


_TERMINATED = """
import os, signal, sys, tempfile, time
from dicom_node.cli import main, status
def run(arguments):
    with tempfile.TemporaryDirectory(dir=place) as folder:
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(told, b"there")
                time.sleep(60)
            finally:
                os.rename(folder, folder + "-of-the-child")
        os.read(heard, 5)
        os.kill(child, signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
status.run = run
place = sys.argv.pop()
main.main()
"""


def test_what_is_ended_by_sigterm_leaves_no_temporary_folder_behind(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _TERMINATED, "status", str(tmp_path)],
                           capture_output=True, text=True, check=False)
    assert ended.returncode == 143, ended.stderr
    assert list(tmp_path.iterdir()) == [] and "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(PeerUnavailable("away"), 1), (KeyboardInterrupt(), 130), (BrokenPipeError(), 0),
     # Who had the name may be gone at the next start: what supervises the node is to try again.
     (HostNameTaken("another process that lives is called first"), 1)],
    ids=["failed", "interrupted", "reader gone", "name taken"],
)
def test_each_end_has_its_exit_code(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def run(_arguments: object) -> int:
        raise error

    monkeypatch.setattr(status, "run", run)
    with Path("/dev/null").open("w") as nowhere:
        monkeypatch.setattr(sys, "stderr", nowhere)
        assert site("status").code == code


def test_the_settings_named_by_argument_environment_and_folder_are_found_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DICOM_NODE_CONFIG", raising=False)
    (tmp_path / "config.yaml").write_text("")
    assert find_config(None) == Path("config.yaml")
    monkeypatch.setenv("DICOM_NODE_CONFIG", "/elsewhere.yaml")
    assert find_config(None) == Path("/elsewhere.yaml")
    assert find_config(Path("given.yaml")) == Path("given.yaml")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["status", "--json"], ["explain", "."], ["jobs"], ["show", "1.2.3"],
     ["schema"], ["models", "list"]],
    ids=" ".join,
)
def test_reading_commands_import_nothing_heavy(filled: Site, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MODULES, "--config", str(filled.config), *arguments],
        capture_output=True, text=True, check=True, timeout=120, cwd=filled.folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    modules = done.stderr.splitlines()[-1]
    assert [name for name in HEAVY if f"'{name}'" in modules] == []
    if arguments[0] in ("--help", "schema"):
        assert "'sqlalchemy'" not in modules and "'numpy'" not in modules


@pytest.mark.parametrize(("command", "collects"), [("status", False), ("models", True)])
def test_only_commands_that_end_at_once_do_without_the_garbage_collector(
    site: Site, monkeypatch: pytest.MonkeyPatch, command: str, collects: bool
) -> None:
    turned_on: list[bool] = []
    monkeypatch.setattr(gc, "enable", lambda: turned_on.append(True))
    site(command)
    assert bool(turned_on) is collects
