"""Dockerfile, its context and the compose file, as far as they can be judged without an engine.

The rules are those of the common linters that matter here; the step that installs is run as it is
written, up to what it would fetch.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node import config as configuration

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "deploy/compose.yaml"
_SECRET = re.compile(r"(?i)(password|passwd|secret|token|api_?key)\s*[=:]\s*['\"]?[\w/+.-]{3,}")


def instructions() -> list[tuple[str, str]]:
    """Keyword and the rest of each instruction, with continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*(#[^\n]*\n)?", " ", "\n".join(lines))
    return [
        (keyword.upper(), rest.strip())
        for keyword, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for keyword, rest in instructions():
        if keyword == "FROM":
            name = rest.split(" AS ")[1]
            found[name] = []
        if name:
            found[name].append((keyword, rest))
    return found


def test_every_base_has_a_full_version_and_none_is_the_latest() -> None:
    versions = dict(rest.split("=") for keyword, rest in instructions()[:2] if keyword == "ARG")
    assert set(versions) == {"PYTHON_IMAGE", "CUDA_IMAGE"}
    for image in versions.values():
        assert re.search(r":\d+\.\d+\.\d+-", image), image
    bases = {rest.split()[0] for keyword, rest in instructions() if keyword == "FROM"}
    assert bases <= {"${PYTHON_IMAGE}", "${CUDA_IMAGE}", "python-cuda"}


@pytest.mark.parametrize("stage", ["cpu", "gpu"])
def test_what_runs_is_no_root_and_is_asked_whether_it_lives(stage: str) -> None:
    steps = stages()[stage]
    users = [rest for keyword, rest in steps if keyword == "USER"]
    assert users == ["10001:10001"], "a number, which Kubernetes can see to be another than root"
    after = [keyword for keyword, _ in steps[steps.index(("USER", users[0])) + 1 :]]
    assert set(after) == {"ENTRYPOINT", "CMD"}
    (health,) = [rest for keyword, rest in steps if keyword == "HEALTHCHECK"]
    assert "/healthz" in health and "curl" not in health
    for keyword, rest in steps:
        if keyword in ("ENTRYPOINT", "CMD"):
            assert json.loads(rest), "no shell between the engine's SIGTERM and the node"


def test_every_step_that_installs_is_pinned() -> None:
    for keyword, rest in instructions():
        if keyword != "RUN":
            continue
        for command in rest.split("&&"):
            if "pip install" in command:
                assert "-c constraints.txt" in command and "--upgrade" not in command, command
            if "apt-get install" in command:
                packages = [word.strip("'") for word in command.split() if word.startswith("'")]
                assert packages and all("=" in package for package in packages), command
                assert "--no-install-recommends" in command and "-y" in command
                assert "rm -rf /var/lib/apt/lists" in rest


def test_nothing_is_fetched_by_url_and_no_secret_is_written_into_it() -> None:
    for keyword, rest in instructions():
        assert keyword not in ("ADD", "ONBUILD", "MAINTAINER"), rest
        assert not re.search(r"\b(curl|wget|git clone|sudo|chmod 777)\b", rest), rest
        if keyword in ("ARG", "ENV", "RUN", "LABEL"):
            assert not _SECRET.search(rest), rest


def test_no_stage_that_runs_has_the_source_or_a_compiler() -> None:
    for name in ("cpu", "gpu"):
        for keyword, rest in stages()[name]:
            if keyword == "COPY":
                assert rest.startswith("--from=build-"), rest
            assert "pip install" not in rest


def context(target: Path) -> Path:
    """What an engine would be sent: everything that `.dockerignore` lets through."""
    wanted = [line[1:] for line in lines_of_ignore() if line.startswith("!")]
    unwanted = [line.removeprefix("**/") for line in lines_of_ignore() if line.startswith("**/")]
    for name in wanted:
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(
                source, copy, symlinks=True,
                ignore=lambda _, names: [
                    one for one in names if any(fnmatch.fnmatch(one, p) for p in unwanted)
                ],
            )
        else:
            shutil.copy(source, copy)
    return target


def lines_of_ignore() -> list[str]:
    text = (ROOT / ".dockerignore").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_context_leaves_everything_out_that_is_not_named() -> None:
    lines = lines_of_ignore()
    assert lines[0] == "*"
    assert not {"!.git", "!tests", "!bench", "!.venv"} & set(lines)


def test_the_package_that_the_image_installs_holds_every_file_of_the_project(
    tmp_path: Path,
) -> None:
    source = context(tmp_path / "source")
    code = "from setuptools import build_meta; print(build_meta.build_wheel('out'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = (source / "out").glob("*.whl")
    packed = zipfile.ZipFile(wheel)
    tracked = subprocess.run(
        ["git", "ls-files", "dicom_node", "ai_models", "sr_templates"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()
    assert set(tracked) - set(packed.namelist()) == set()
    for name in ("config.yaml", "dicom-node.service"):
        kept = packed.read(f"dicom_node/shipped/{name}").decode()
        assert kept == (ROOT / "dicom_node/shipped" / name).read_text(), "the file, not the link"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text())["services"])


def test_the_trial_publishes_on_the_loopback_only_and_pins_its_images(
    services: dict[str, Any],
) -> None:
    assert set(services) == {"orthanc", "node"}
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert "privileged" not in service and "network_mode" not in service
    assert re.search(r":\d+\.\d+\.\d+$", services["orthanc"]["image"])
    assert services["node"]["read_only"] and services["node"]["cap_drop"] == ["ALL"]


def test_the_settings_of_the_trial_fit_the_archive_beside_it(services: dict[str, Any]) -> None:
    settings = configuration.load(ROOT / "deploy/trial/config.yaml", {})
    peer = settings.peer("orthanc")
    environment = services["orthanc"]["environment"]
    assert peer.host == "orthanc" and peer.ae_title == environment["ORTHANC__DICOM_AET"]
    node = json.loads(environment["ORTHANC__DICOM_MODALITIES"])["node"]
    assert node == [settings.node.ae_title, "node", settings.node.port]
    assert services["node"]["build"]["target"] in stages()
    mounts = services["node"]["volumes"]
    assert f"data:{settings.node.data_dir}" in mounts
