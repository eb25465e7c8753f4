"""A host says when its spool is not the one that the other hosts of its ledger use."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node.cli import check_data, check_spool
from dicom_node.config import Config
from dicom_node.errors import ConfigurationError, OutOfSpace, StorageFailed, StoreUnavailable
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_spool import join_spool
from dicom_node.operations import doctor_host
from dicom_node.operations.doctor import Outcome
from dicom_node.operations.doctor_host import folder_of_images
from dicom_node.spool import open_spool
from tests.s3_server import Environ, ObjectStore, object_store


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    yield opened
    opened.close()


def host(folder: Path, name: str, spool: Path | str | None, **s3: Any) -> Config:
    return Config.model_validate({
        "node": {"data_dir": folder / name, "host_name": name},
        "database": {"url": f"sqlite:///{folder}/ledger.db"},
        "storage": {
            "spool": spool and str(spool), "refuse_below_free_bytes": 0, "s3": s3,
        },
    })


def join(config: Config, ledger: Ledger) -> None:
    join_spool(config, open_spool(config), ledger)


def test_hosts_that_have_the_same_folder_join(tmp_path: Path, ledger: Ledger) -> None:
    for name in ("a", "b", "a"):
        join(host(tmp_path, name, tmp_path / "mounted"), ledger)
    assert sorted(one.name for one in (tmp_path / "mounted/incoming").iterdir()) == ["a", "b"]
    assert not list((tmp_path / "mounted").glob(".probe*"))
    finding = check_spool.spool(host(tmp_path, "a", tmp_path / "mounted"))
    assert finding.outcome is Outcome.OK and "ledger knows" in finding.found


def test_a_folder_that_every_user_may_read_is_a_warning(tmp_path: Path, ledger: Ledger) -> None:
    config, mounted = host(tmp_path, "a", tmp_path / "mounted"), tmp_path / "mounted"
    join(config, ledger)
    mounted.chmod(0o755)
    finding = check_spool.spool(config)
    assert finding.outcome is Outcome.WARNING and "every user" in finding.found
    assert finding.todo == f"chmod 750 {mounted}"


def test_room_and_speed_are_those_of_the_disk_that_images_go_to(tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    config = host(tmp_path, "a", mounted)
    for finding in (check_data.free_space(config), doctor_host.disk_speed(config)):
        assert str(mounted) in finding.found
    assert folder_of_images(config) == mounted
    assert folder_of_images(host(tmp_path, "a", None)) == tmp_path / "a"
    assert folder_of_images(host(tmp_path, "a", "s3://bucket/prefix")) == tmp_path / "a"


@pytest.mark.parametrize(("code", "kind", "text"), [
    (errno.EROFS, ConfigurationError, "ReadWritePaths="),
    (errno.ENOSPC, OutOfSpace, "ENOSPC"),
    (errno.ESTALE, StorageFailed, "ESTALE"),
])  # fmt: skip
def test_a_spool_that_cannot_be_written_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception], text: str
) -> None:
    def mkdir(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", mkdir)
        with pytest.raises(kind, match=text):
            open_spool(host(tmp_path, "a", tmp_path / "mounted"))


def test_a_folder_that_is_not_mounted_is_told_and_takes_nothing(
    tmp_path: Path, ledger: Ledger
) -> None:
    join(host(tmp_path, "a", tmp_path / "mounted"), ledger)
    config = host(tmp_path, "b", tmp_path / "empty")
    with pytest.raises(ConfigurationError, match="mounted") as caught:
        join(config, ledger)
    assert caught.value.reason == "spool.not_marked"
    with pytest.raises(ConfigurationError, match="mounted"):
        check_spool.spool(config)


def test_the_folder_of_another_ledger_is_told(tmp_path: Path, ledger: Ledger) -> None:
    join(host(tmp_path, "a", tmp_path / "mounted"), ledger)
    shutil.copytree(tmp_path / "mounted", tmp_path / "other")
    join(host(tmp_path, "b", tmp_path / "other"), ledger)
    (tmp_path / "other/spool-id").write_text("another")
    with pytest.raises(ConfigurationError) as caught:
        join(host(tmp_path, "b", tmp_path / "other"), ledger)
    assert caught.value.reason == "spool.of_another"


def test_a_spool_of_this_host_alone_has_no_mark(tmp_path: Path, ledger: Ledger) -> None:
    join(host(tmp_path, "a", None), ledger)
    assert ledger.places.spool() == ""
    assert not check_spool.is_shared(host(tmp_path, "a", None))
    assert not (tmp_path / "a/spool/spool-id").exists()


def test_a_file_system_without_second_names_is_told(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    spool = open_spool(host(tmp_path, "a", tmp_path / "mounted"))
    monkeypatch.setattr("dicom_node.spool.folder.os.link", refuse)
    with pytest.raises(ConfigurationError) as caught:
        spool.check_usable()
    assert caught.value.reason == "spool.no_links"


def test_hosts_that_have_the_same_store_join(
    tmp_path: Path, ledger: Ledger, server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    place = f"s3://{server.bucket()}/node"
    for name in ("a", "b"):
        join(host(tmp_path, name, place, endpoint_url=server.url), ledger)
    assert check_spool.spool(
        host(tmp_path, "a", place, endpoint_url=server.url)
    ).outcome is Outcome.OK
    with pytest.raises(ConfigurationError, match="prefix"):
        join(host(tmp_path, "c", f"{place}-2", endpoint_url=server.url), ledger)


def test_check_says_what_of_a_store_should_be_otherwise(
    tmp_path: Path, ledger: Ledger, server: ObjectStore
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    file.chmod(0o644)
    config = host(
        tmp_path, "a", f"s3://{server.bucket()}", endpoint_url=server.url, credentials_file=file
    )
    assert "chmod 600" in check_spool.spool(config).todo
    file.chmod(0o600)
    assert check_spool.spool(config).outcome is Outcome.OK

    def overwrite(environ: Environ) -> None:
        environ.pop("HTTP_IF_NONE_MATCH", None)

    server.faults.append(overwrite)
    try:
        with pytest.raises(ConfigurationError, match="conditional writes"):
            check_spool.spool(config)
    finally:
        server.faults.clear()
    nowhere = host(tmp_path, "a", "s3://no-such-bucket", endpoint_url=server.url,
                   credentials_file=file)
    with pytest.raises(StoreUnavailable) as caught:
        check_spool.spool(nowhere)
    assert caught.value.reason == "store.no_bucket"
    assert "create-bucket" in str(caught.value)


def test_credentials_that_the_group_of_one_account_may_read_are_nobody_else_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.touch()
    accounts: set[str] = {"dicom-node"}
    monkeypatch.setattr(check_spool, "_accounts_of", lambda _: accounts)
    open_to_others = []
    for mode in (0o400, 0o600, 0o640, 0o440, 0o660, 0o644, 0o604):
        file.chmod(mode)
        open_to_others.append(check_spool._is_open_to_others(file.stat()))
    assert open_to_others == [False] * 4 + [True] * 3
    accounts.add("www-data")
    file.chmod(0o640)
    assert check_spool._is_open_to_others(file.stat())


def test_root_is_in_no_group_that_has_to_be_told_of() -> None:
    assert "root" not in check_spool._accounts_of(0)
    assert check_spool._accounts_of(2_000_000_000) == set()


@pytest.mark.parametrize(
    "spool", ["s3://", "s3://Bucket", "s3://bucket/../x", "s3://bucket/a//b", "https://x", " "]
)
def test_what_is_no_spool_is_said(spool: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        host(tmp_path, "a", spool)
