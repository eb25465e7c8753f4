"""``dicom-node init``: what it writes is complete, and what is there stays as it is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dicom_node import config as configuration
from dicom_node.cli import init
from dicom_node.cli.init import settings_text, shipped, unit_text
from dicom_node.config import Config
from tests.cli.running import Site

ROOT = Path(__file__).parents[2]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_settings_that_are_written_are_the_commented_example(
    site: Site, tmp_path: Path
) -> None:
    directory, data_dir = tmp_path / "etc", tmp_path / "data"
    answer = site("init", "--directory", directory, "--data-dir", data_dir)
    assert answer.code == 0, answer.err
    written = (directory / "config.yaml").read_text().splitlines()
    example = (ROOT / "config.yaml").read_text().splitlines()
    changed = [line for line, was in zip(written, example, strict=True) if line != was]
    assert changed == [f"  data_dir: {data_dir}", f"  tokens_file: {directory}/web-tokens"]
    settings = configuration.load(directory / "config.yaml", {})
    assert settings.node.data_dir == data_dir
    assert settings.model_copy(
        update={"peers": {}, "rules": [], "node": Config().node, "web": Config().web}
    ) == Config()


def test_directories_and_files_are_for_the_node_and_its_group(site: Site, tmp_path: Path) -> None:
    site("init", "--directory", tmp_path / "etc", "--data-dir", tmp_path / "data")
    for name in ("etc", "data"):
        assert mode(tmp_path / name) == 0o750, name
    assert mode(tmp_path / "etc/config.yaml") == 0o640
    assert list((tmp_path / "data").iterdir()) == [], "what root makes there is not the node's"


def test_a_second_time_says_what_is_there_and_changes_nothing(site: Site, tmp_path: Path) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "config.yaml").write_text("node: {port: 104}\n")
    answer = site("init", "--directory", directory, "--data-dir", tmp_path / "data")
    assert answer.code == 1 and f"{directory / 'config.yaml'} is there" in answer.err
    assert (directory / "config.yaml").read_text() == "node: {port: 104}\n"
    assert not (tmp_path / "data").exists()


def test_the_unit_names_this_program_and_these_directories(site: Site, tmp_path: Path) -> None:
    answer = site("init", "--unit", "--root", tmp_path, "--data-dir", "/data/node",
                  "--directory", "/srv/settings")
    assert answer.code == 0
    unit = (tmp_path / "etc/systemd/system/dicom-node.service").read_text()
    assert f"ExecStart={init._this_program()} --config /srv/settings/config.yaml serve" in unit
    assert "ReadWritePaths=/data/node\n" in unit and "StateDirectory" not in unit
    tmpfiles = (tmp_path / "etc/tmpfiles.d/dicom-node.conf").read_text()
    assert "d /data/node 0750 dicom-node dicom-node" in tmpfiles
    assert "z /srv/settings/config.yaml 0640 root dicom-node" in tmpfiles
    assert (tmp_path / "etc/sysusers.d/dicom-node.conf").exists()
    assert "systemd-sysusers" in answer.out and "enable --now" in answer.out


def test_a_program_that_the_unit_would_hide_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "_this_program", lambda: "/home/anna/venv/bin/dicom-node")
    answer = site("init", "--unit", "--root", tmp_path)
    assert answer.code == 0 and "cannot run under this unit" in answer.err


def test_with_the_directories_of_always_the_unit_is_the_shipped_one() -> None:
    unit = unit_text(init.CONFIG_DIRECTORY, init.DATA_DIRECTORY, "/opt/dicom-node/bin/dicom-node")
    assert unit == (ROOT / "deploy/systemd/dicom-node.service").read_text()


def test_the_shipped_files_are_those_of_the_project_and_no_copies() -> None:
    assert shipped("config.yaml") == (ROOT / "config.yaml").read_text()
    for path in (ROOT / "dicom_node/shipped").iterdir():
        assert path.is_symlink() and path.resolve().is_relative_to(ROOT), path


@pytest.mark.parametrize("odd", ["with space", "colon: yaml", "back\\slash", "new\nline"])
def test_a_directory_that_yaml_or_systemd_would_misread_is_refused(
    site: Site, tmp_path: Path, odd: str
) -> None:
    answer = site("init", "--directory", str(tmp_path / odd), "--data-dir", tmp_path / "data")
    assert answer.code == 2 and "expected a directory of letters" in answer.err


def test_a_link_in_the_place_of_the_settings_is_not_followed(tmp_path: Path) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "config.yaml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        init._write(directory / "config.yaml", settings_text(directory, tmp_path), 0o640)
    assert not (tmp_path / "elsewhere").exists()
