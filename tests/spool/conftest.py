"""A spool in each form that it has, and an object store on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.intake.file_meta import build_file_meta
from dicom_node.part import Part
from dicom_node.spool import Spool
from dicom_node.spool.access import QUARANTINE_LIMIT_BYTES
from dicom_node.spool.cache import Cache
from dicom_node.spool.objects import ObjectKept
from tests.s3_server import ObjectStore, object_store

EXPLICIT = "1.2.840.10008.1.2.1"
# A folder of one host is in tests/test_spool.py.
FORMS = ("shared folder", "store")


def part_of(spool: Spool, data: bytes, sop: str = "1.3", sender: str = "A") -> Part:
    """A file that has been received."""
    part = spool.begin("a1")
    part.write_meta(build_file_meta(b"1.2", sop.encode(), EXPLICIT, sender, "NODE"), EXPLICIT)
    part.write([memoryview(data)])
    return part


class Place:
    """Somewhere to keep files, and the hosts that do."""

    def __init__(self, folder: Path, form: str, server: ObjectStore) -> None:
        self.form = form
        self.server = server
        self.bucket = server.bucket() if form == "store" else ""
        self._folder = folder

    def host(
        self, name: str = "a", *, cache_bytes: int = 1 << 30,
        quarantine_limit_bytes: int = QUARANTINE_LIMIT_BYTES,
    ) -> Spool:
        """The spool as one host has it."""
        if self.form == "store":
            root = self._folder / name
            kept = ObjectKept(
                self.server.store(self.bucket), Cache(root, cache_bytes), quarantine_limit_bytes, 8
            )
            return Spool(root, kept=kept)
        host = name if self.form == "shared folder" else ""
        return Spool(
            self._folder / "spool", quarantine_limit_bytes=quarantine_limit_bytes, host=host
        )


@pytest.fixture(scope="session")
def server() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, server: ObjectStore) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    server.faults.clear()
    server.after.clear()
    server.asked.clear()


@pytest.fixture(params=FORMS)
def place(request: pytest.FixtureRequest, tmp_path: Path, server: ObjectStore) -> Place:
    return Place(tmp_path, request.param, server)


@pytest.fixture
def stored(tmp_path: Path, server: ObjectStore) -> Place:
    """The form with an object store."""
    return Place(tmp_path, "store", server)
