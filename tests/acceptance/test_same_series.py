"""The same series, however it is sent: the same objects, and one of each in the archive."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from tests import dicom_samples, peers
from tests.acceptance import series
from tests.acceptance.conftest import Site

# Transfer syntax, and the option with which storescu proposes it.
SYNTAXES = {
    "jpeg-ls": ("1.2.840.10008.1.2.4.80", "-xt"),
    "jpeg-2000": ("1.2.840.10008.1.2.4.90", "-xv"),
    "rle": ("1.2.840.10008.1.2.5", "-xr"),
}
_ASSOCIATIONS = 4
pytestmark = [
    pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.long_on_postgresql,
]


@dataclass(frozen=True)
class Known:
    """A series that the node has answered for, and the UIDs of the answers."""

    sent: series.Sent
    results: frozenset[str]


@pytest.fixture(scope="module")
def known(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Known:
    """A series sent shuffled over four associations at the same time."""
    sent = series.thin_phantom(tmp_path_factory.mktemp("same") / "ct", seed=32)
    shuffled = random.Random(7).sample(sent.paths, len(sent.paths))
    shares = [shuffled[start::_ASSOCIATIONS] for start in range(_ASSOCIATIONS)]
    with ThreadPoolExecutor(_ASSOCIATIONS) as senders:
        list(senders.map(site.node.send, shares))
    (job,) = site.node.wait_for_series(sent.series_instance_uid)
    assert job.state == "succeeded", job.reason
    results = site.node.ledger.jobs.results(job.job_id)
    return Known(sent, frozenset(result.sop_instance_uid for result in results))


def test_series_shuffled_over_four_associations_gives_the_objects_of_run(
    site: Site, known: Known, tmp_path: Path
) -> None:
    instances = site.node.ledger.receipts.instances(known.sent.series_instance_uid)
    assert len({instance.association_id for instance in instances}) == _ASSOCIATIONS
    done = site.node.command("run", "lungs-ct", *known.sent.paths, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    written = {pydicom.dcmread(path).SOPInstanceUID for path in tmp_path.glob("*.dcm")}
    assert written == known.results
    assert_once_in_the_archive(site, known)


def test_series_sent_again_is_the_same_job_and_nothing_is_delivered_again(
    site: Site, known: Known, tmp_path: Path
) -> None:
    before = site.node.ledger.history("series", known.sent.series_instance_uid)

    site.node.send(known.sent.paths)

    # What is sent after it and seen to be handled shows that the repetition was handled too.
    later = dicom_samples.ct_series((2, 32, 40))
    site.node.send(dicom_samples.write_series(later, tmp_path))
    site.node.wait_for_decline(later[0].SeriesInstanceUID)
    assert site.node.ledger.history("series", known.sent.series_instance_uid) == before
    assert len(site.node.ledger.jobs.of_series(known.sent.series_instance_uid)) == 1
    assert_once_in_the_archive(site, known)


@pytest.mark.parametrize("encoding", list(SYNTAXES))
def test_series_sent_compressed_gives_the_same_objects_once(
    site: Site, known: Known, tmp_path: Path, encoding: str
) -> None:
    uid = known.sent.series_instance_uid
    syntax, option = SYNTAXES[encoding]
    compressed = peers.transcode(known.sent.paths, tmp_path, encoding)
    before = len(site.node.ledger.jobs.of_series(uid))

    site.node.send(compressed, options=(option,))

    jobs = site.node.wait_for_series(uid, jobs=before + 1)
    assert {job.state for job in jobs} == {"succeeded"}
    assert [job.reason for job in jobs] == ["result"] + [
        f"result, same objects as job {jobs[0].job_id}"
    ] * before
    instances = site.node.ledger.receipts.instances(uid)
    assert {one.transfer_syntax_uid for one in instances} == {syntax}
    assert_once_in_the_archive(site, known)


def assert_once_in_the_archive(site: Site, known: Known) -> None:
    """The archive holds the known results and nothing else, and each was sent once."""
    held = site.archive.find_instances(known.sent.study_instance_uid)
    assert sorted(held) == sorted(known.results)
    sent = site.node.times_sent(known.sent.series_instance_uid)
    assert sent == dict.fromkeys(known.results, 1)
