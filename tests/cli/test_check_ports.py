"""What `check` says of the ports of a node whose roles run in several processes."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.cli.check_ports import listeners
from dicom_node.config import Config
from dicom_node.operations.doctor import Finding, Outcome
from tests.ports import free_port


@contextmanager
def held(folder: Path, role: str) -> Iterator[None]:
    with (folder / f"{role}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def page(config: Config) -> Finding:
    (found,) = [one for one in listeners(config) if one.check.startswith("web port")]
    return found


def test_a_process_without_the_page_is_not_asked_for_it(tmp_path: Path) -> None:
    config = Config.model_validate({
        "node": {"data_dir": tmp_path, "host": "127.0.0.1", "port": free_port()},
        "web": {"port": free_port()},
    })
    with held(tmp_path, "work"):
        assert page(config).outcome is Outcome.OK
        assert "not have the role web" in page(config).found
        with held(tmp_path, "web"):
            assert page(config).outcome is Outcome.FAILED
            assert "takes no connection" in page(config).found
