"""Passwords: from a file or the environment, and nowhere else to be seen."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node import config
from dicom_node.intake.acceptor import start_listeners
from dicom_node.pipeline.worker_process import _worker_environment
from tests.config_files import load, refusal
from tests.source_tree import ROOT
from tests.tls_files import Authority

SECRET = "PLANTED-hunter2"
URL = f"postgresql://node:{SECRET}@db.hospital/ledger"


@pytest.fixture
def url_file(tmp_path: Path) -> Path:
    file = tmp_path / "database.url"
    file.write_text(f"{URL}\n")
    return file


def test_the_url_of_the_database_may_stand_in_a_file_beside_the_settings(
    tmp_path: Path, url_file: Path
) -> None:
    settings = load(tmp_path, f"database: {{url_file: {url_file.name}}}\n")
    assert settings.database.url == URL
    shown = config.describe(settings)
    assert SECRET not in shown
    (tmp_path / "shown.yaml").write_text(shown)
    assert config.load(tmp_path / "shown.yaml", {}).database.url == URL


def test_no_part_of_a_password_that_is_not_encoded_is_taken_for_the_host(tmp_path: Path) -> None:
    url = "postgresql://node:of@the/node@127.0.0.1/ledger"
    (tmp_path / "database").write_text(url)
    for text in ("database: {url_file: database}\n", f"database: {{url: '{url}'}}\n"):
        error = str(refusal(tmp_path, text))
        assert "%40" in error and "the/node" not in error
    url = url.replace("of@the/node", "of%40the%2Fnode")
    assert load(tmp_path, f"database: {{url: '{url}'}}\n").database.url == url


def test_url_and_file_at_once_are_one_too_many(tmp_path: Path, url_file: Path) -> None:
    text = f"database: {{url_file: {url_file.name}, url: 'sqlite:///x.db'}}\n"
    assert "database.url_file" in str(refusal(tmp_path, text))


@pytest.mark.parametrize("content", [f"mysql://node:{SECRET}@db/x", "", SECRET])
def test_a_file_without_a_url_is_named_and_not_quoted(tmp_path: Path, content: str) -> None:
    (tmp_path / "wrong").write_text(content)
    error = refusal(tmp_path, "database: {url_file: wrong}\n")
    assert "database.url_file" in str(error)
    assert SECRET not in f"{error!r}{error.__cause__!r}{error.__context__!r}"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "missing" in str(refusal(tmp_path, "database: {url_file: missing}\n"))


@pytest.mark.parametrize("password", [SECRET, f"a%40{SECRET}", f"a/{SECRET}", f"a:{SECRET}"])
def test_no_password_of_a_url_is_shown_however_odd(tmp_path: Path, password: str) -> None:
    settings = load(tmp_path, f"database: {{url: 'postgresql://node:{password}@db/ledger'}}\n")
    assert SECRET not in config.describe(settings)


def test_children_get_no_settings_by_arguments_or_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_NODE__DATABASE__URL", URL)
    settings = config.Config.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": tmp_path},
            "intake": {"listener_processes": 1},
        }
    )
    listeners = start_listeners(settings, f"sqlite:///{tmp_path}/ledger.db")
    try:
        (pid,) = listeners.pids
        seen = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    finally:
        listeners.close()
    assert SECRET.encode() not in seen
    assert SECRET not in str(_worker_environment())
    assert os.environ["DICOM_NODE__DATABASE__URL"] == URL


def test_a_database_that_does_not_answer_is_told_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"node: {{data_dir: {tmp_path}, port: 0}}\n")
    url = f"postgresql://node:{SECRET}@127.0.0.1:1/ledger?connect_timeout=1"
    for command in (["status"], ["serve"]):
        done = subprocess.run(
            [sys.executable, "-m", "dicom_node", "--config", str(tmp_path / "config.yaml"),
             *command],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "DICOM_NODE__DATABASE__URL": url},
        )  # fmt: skip
        assert done.returncode != 0
        assert SECRET not in done.stdout + done.stderr


def test_a_key_with_a_password_is_opened_with_that_of_its_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from dicom_node.config_security import TlsSettings
    from dicom_node.errors import ConfigurationError
    from dicom_node.tls_context import server_context

    authority = Authority(tmp_path / "ca")
    pair = authority.issue("node", "node.hospital", password=SECRET)
    (tmp_path / "password").write_text(f"{SECRET}\n")
    settings = TlsSettings(
        certificate_file=pair.certificate, key_file=pair.key, ca_file=authority.certificate,
        key_password_file=tmp_path / "password",
    )
    with caplog.at_level(logging.DEBUG):
        assert server_context(settings).get_ciphers()
        (tmp_path / "password").write_text("wrong\n")
        for wrong in (settings, settings.model_copy(update={"key_password_file": None})):
            with pytest.raises(ConfigurationError) as refused:
                server_context(wrong)
            assert SECRET not in str(refused.value)
    assert SECRET not in caplog.text
