"""Rounds of chaos: a node under load, one fault after the other, everything counted.

Each kind of fault strikes once; in `make test-long` and on PostgreSQL there are twenty rounds. The
long run is ``python -m bench chaos``. The seed stands in every message: with it the same
series meet the same faults at the same instants.
"""

from __future__ import annotations

import contextlib
import io
import json
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

import pydicom
import pytest
from pydicom.uid import generate_uid

from bench.chaos import Run, run_chaos
from bench.chaos_check import ArchivedResult, archived_results, check, spool_file
from bench.chaos_faults import possible
from bench.chaos_site import Site
from tests import peers
from tests.postgres_server import PostgresServer

pytestmark = [
    pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(2400),
    pytest.mark.long_on_postgresql,
]

SEED = 20261122
_MORE_ROUNDS = 20


class Chaos(NamedTuple):
    """A site after its rounds: the node has stopped, the archive still answers."""

    site: Site
    run: Run


@pytest.fixture(
    scope="module",
    params=[
        "sqlite", pytest.param("sqlite, twenty", marks=pytest.mark.long),
        pytest.param("postgresql", marks=pytest.mark.postgresql),
    ],
)
def chaos(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chaos]:
    """All rounds, once for every test of this module and each database."""
    peers.need_private_network()
    folder = tmp_path_factory.mktemp("chaos")
    with contextlib.ExitStack() as stack:
        server = None
        if request.param == "postgresql":
            # Of its own, for it is killed as well.
            server = stack.enter_context(PostgresServer(folder / "postgres", durable=False))
        site = stack.enter_context(Site(folder / "site", server))
        rounds = len(possible(site)) if request.param == "sqlite" else _MORE_ROUNDS
        yield Chaos(site, run_chaos(site, folder, rounds=rounds, seed=SEED, new_series=2))


def test_nothing_acknowledged_is_lost_and_no_result_is_doubled(chaos: Chaos) -> None:
    rounds = chaos.run.rounds
    summary = json.dumps(chaos.run.summary(), indent=1)
    assert chaos.run.verdict.findings() == [], f"{summary}\n{chaos.site.node.log_tail()}"
    # Two series of six slices a round, and of each a segmentation and two reports.
    assert len(chaos.run.account.paths) == rounds * 2 * 6
    assert chaos.run.account.open() == []
    assert chaos.run.verdict.results >= rounds * 2 * 3, summary


def test_every_kind_of_fault_struck(chaos: Chaos) -> None:
    assert set(chaos.run.faults) == set(possible(chaos.site))
    assert sum(chaos.run.faults.values()) == chaos.run.rounds


def test_a_lost_file_is_noticed(chaos: Chaos) -> None:
    uid = next(iter(chaos.run.account.paths))
    path = spool_file(chaos.site, uid)
    hidden = path.rename(path.with_suffix(".hidden"))
    found = check(chaos.site, chaos.run.account).losses
    hidden.rename(path)
    assert found == [f"instance {uid} was acknowledged and is not in the spool"]


def test_a_changed_byte_is_noticed(chaos: Chaos) -> None:
    uid = next(iter(chaos.run.account.paths))
    path = spool_file(chaos.site, uid)
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    found = check(chaos.site, chaos.run.account).losses
    path.write_bytes(kept)
    assert found == [f"instance {uid} was acknowledged and has other bytes"]


def test_a_doubled_result_is_noticed(chaos: Chaos) -> None:
    first = _one_result(chaos)
    dataset = pydicom.dcmread(io.BytesIO(chaos.site.archive.download(first.sop_instance_uid)))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    twin = io.BytesIO()
    dataset.save_as(twin)
    _store(chaos.site.archive, twin.getvalue())
    found = check(chaos.site, chaos.run.account).duplicates
    _delete(chaos.site.archive, str(dataset.SOPInstanceUID))
    assert len(found) == 1
    assert found[0].startswith(f"2 {first.modality} of series ")


def test_a_result_that_did_not_arrive_is_noticed(chaos: Chaos) -> None:
    first = _one_result(chaos)
    kept = chaos.site.archive.download(first.sop_instance_uid)
    _delete(chaos.site.archive, first.sop_instance_uid)
    found = check(chaos.site, chaos.run.account).losses
    _store(chaos.site.archive, kept)
    assert any(text.startswith(f"0 {first.modality} of series ") for text in found), found
    assert f"object {first.sop_instance_uid} was stored and is not at the archive" in found


def test_one_uid_with_two_contents_is_noticed(chaos: Chaos) -> None:
    uid = _one_result(chaos).sop_instance_uid
    chaos.site.tee.contents[uid].add("another")
    found = check(chaos.site, chaos.run.account).duplicates
    chaos.site.tee.contents[uid].discard("another")
    assert found == [f"object {uid} was sent with 2 contents"]


def _one_result(chaos: Chaos) -> ArchivedResult:
    found = archived_results(chaos.site, chaos.run.account)
    return min((one for one in found if one.modality == "SEG"), key=lambda r: r.sop_instance_uid)


def _store(archive: peers.Orthanc, part10: bytes) -> None:
    request = urllib.request.Request(archive.url + "/instances", part10)
    with urllib.request.urlopen(request, timeout=60) as response:
        assert json.load(response)["Status"] == "Success"


def _delete(archive: peers.Orthanc, sop_instance_uid: str) -> None:
    identifier = archive._identifier(sop_instance_uid)
    request = urllib.request.Request(f"{archive.url}/instances/{identifier}", method="DELETE")
    urllib.request.urlopen(request, timeout=60).close()
