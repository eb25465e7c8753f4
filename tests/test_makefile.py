from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def planned(*arguments: str) -> str:
    done = subprocess.run(
        ["make", "--always-make", "--dry-run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@needs_make
def test_demo_installs_the_tested_versions_before_it_runs() -> None:
    lines = planned("demo").splitlines()
    install = next(i for i, line in enumerate(lines) if "pip install" in line)
    run = next(i for i, line in enumerate(lines) if "dicom-node demo" in line)
    assert "-c constraints.txt" in lines[install]
    assert install < run


@needs_make
def test_tests_run_last_and_in_a_private_network() -> None:
    plan = planned("test")
    assert plan.index("pip install") < plan.index("ruff check") < plan.index("-m pytest")
    assert "tests/in_private_network.sh .venv/bin/python -m pytest" in plan


@needs_make
@pytest.mark.parametrize(
    "target",
    ["help", "lint", "conformance", "compatibility", "bench", "docs", "test-long",
     "test-postgresql", "clean",
     "distclean"],
)
def test_target_is_there(target: str) -> None:
    assert planned(target)


def test_continuous_integration_runs_what_anybody_runs() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec make test"


def test_command_in_the_private_network_keeps_its_arguments_and_its_exit_code() -> None:
    script = ROOT / "tests" / "in_private_network.sh"
    done = subprocess.run(
        [script, "sh", "-c", 'echo "[$1]"; exit 7', "sh", "two words"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "[two words]"
    assert done.returncode == 7


@pytest.mark.parametrize("script", ["deploy/make-venv.sh", "tests/install_tools.sh", ".ci/run"])
def test_script_is_executable_and_parses(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_interpreter_that_is_too_old_or_missing_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "deploy" / "make-venv.sh", tmp_path / "venv"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/nonexistent/python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Python 3.11 or newer" in done.stderr
    assert not (tmp_path / "venv").exists()
