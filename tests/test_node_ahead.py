"""A node reads a series while it arrives, and the job finds what it needs already there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from dicom_node.config import Config
from dicom_node.errors import NotUnderstood, UnknownName
from dicom_node.events import Events
from dicom_node.node import Node
from dicom_node.pipeline.loading import Loaded
from dicom_node.records import JobState, SeriesState
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import ct_series, mr_series, write_instance
from tests.ledger.conftest import instance
from tests.test_node import running, settings, until

CT = "1.2.840.10008.5.1.4.1.1.2"
JPEG_LS, NATIVE = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1"
SHAPE = (12, 33, 40)


class Told(Events):
    """Remembers what was told of workers, and what was unexpected."""

    def __init__(self) -> None:
        self.unexpectedly: list[str] = []
        self.of_workers: list[str] = []

    def worker_changed(self, device: str, what: str, reason: str = "") -> None:
        self.of_workers.append(what)

    def unexpected(self, where: str) -> None:
        self.unexpectedly.append(where)


def site(folder: Path, **jobs: Any) -> Config:
    values = settings(folder).model_dump()
    return Config.model_validate({**values, "jobs": {**values["jobs"], **jobs}})


@contextmanager
def sending(port: int, syntax: str) -> Iterator[Any]:
    """An association that stays open, as a scanner's does."""
    scanner = AE("SCANNER")
    scanner.add_requested_context(CT, syntax)
    association = scanner.associate("127.0.0.1", port, ae_title="DICOMNODE")
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def send(association: Any, datasets: list[Dataset], syntax: str) -> None:
    for dataset in datasets:
        if syntax != NATIVE:
            dataset.compress(syntax, generate_instance_uid=False)
        assert association.send_c_store(dataset).Status == 0x0000


def test_the_jobs_of_series_that_arrive_slowly_find_their_images_decoded(tmp_path: Path) -> None:
    events = Told()
    with running(Node(site(tmp_path), events)) as node:
        assert node.work.ahead is not None
        ahead, decoded, jobs = node.work.ahead, node.work.ahead._decoded, node.ledger.jobs
        # A series that rests is read as a whole, and its images are no longer counted.
        ahead._made_ready = None
        plain, encoded = ct_series(SHAPE), ct_series(SHAPE)
        with sending(node.port, NATIVE) as one, sending(node.port, JPEG_LS) as other:
            send(one, plain[:5], NATIVE)
            send(other, encoded[:5], JPEG_LS)
            until(lambda: decoded.images == 10, "five images of each are read")
            send(one, plain[5:], NATIVE)
            send(other, encoded[5:], JPEG_LS)
            until(lambda: decoded.images == 24, "all images are read")
            assert decoded.hits == 0
            until(lambda: "model loaded" in events.of_workers, "the model")
        until(lambda: len(jobs.latest(JobState.SUCCEEDED)) == 2, "the jobs")
        assert decoded.hits == 24
        assert (decoded.images, decoded.held_bytes) == (0, 0)
        until(lambda: not ahead._arriving, "the series are forgotten")
    assert not ahead._thread.is_alive()
    assert events.unexpectedly == []


def test_the_job_of_a_series_that_rests_finds_it_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Told()
    with running(Node(site(tmp_path), events)) as node:
        assert node.work.ahead is not None
        made, decoded = node.work.ahead._made_ready, node.work.ahead._decoded
        assert made is not None
        take, taken = made.take, []

        def watched(*asked: Any) -> Loaded | None:
            taken.append(take(*asked))
            return taken[-1]

        monkeypatch.setattr(made, "take", watched)
        with sending(node.port, NATIVE) as scanner:
            send(scanner, ct_series(SHAPE), NATIVE)
            until(lambda: made.series, "it is read as a whole")
            assert decoded.images == 0
        until(lambda: len(node.ledger.jobs.latest(JobState.SUCCEEDED)) == 1, "the job")
        assert [one is not None for one in taken] == [True]
        assert (made.series, decoded.held_bytes) == ([], 0)
    assert events.unexpectedly == []


def test_a_node_that_is_to_read_nothing_ahead_does_not(tmp_path: Path) -> None:
    with running(Node(site(tmp_path, read_ahead_mib=0), Events(), ["work"])) as node:
        assert node.work.ahead is None


def test_a_node_that_only_receives_reads_nothing_ahead(tmp_path: Path) -> None:
    with running(Node(site(tmp_path), Events(), ["intake"])) as node:
        assert node.work is None


def expected(node: Node, datasets: list[Dataset]) -> str:
    """The model that the node expects to run on a series of which these have arrived."""
    received = []
    for number, dataset in enumerate(datasets, start=1):
        one = instance(number)
        path = node.spool.resolve(one.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_instance(dataset, path)
        received.append(one)
    node.ledger.index(received)
    (series,) = node.ledger.receipts.series_in(SeriesState.RECEIVING)
    before = node.ledger.history("series", series.series_instance_uid)
    try:
        card = node._router.card_expected(series, received)
    finally:
        assert node.ledger.history("series", series.series_instance_uid) == before
        assert node.ledger.jobs.latest() == []
    return card.id if card is not None else "none"


def test_the_model_is_that_of_the_rule_which_the_first_images_match(tmp_path: Path) -> None:
    with closing(Node(site(tmp_path), Events())) as node:
        node._versions.begin()
        assert expected(node, ct_series(SHAPE)[:1]) == "bright"


def test_no_model_is_expected_where_no_rule_matches(tmp_path: Path) -> None:
    with closing(Node(site(tmp_path), Events())) as node:
        node._versions.begin()
        assert expected(node, mr_series(SHAPE)) == "none"


def test_no_model_is_expected_where_it_takes_one_image(tmp_path: Path) -> None:
    image = {"kind": "image", "ndim": 2, "modality": ["DX"], "intensity": {"unit": "displayed"}}
    config = site(tmp_path)
    write_model(tmp_path / "models" / "bright", threshold_onnx(0.5), id="bright", input=image,
                runtime__roi=[16, 16])
    with closing(Node(config, Events())) as node:
        node._versions.begin()
        assert expected(node, ct_series(SHAPE)) == "none"


def test_a_model_that_is_not_there_cannot_be_told(tmp_path: Path) -> None:
    config = site(tmp_path)
    shutil.rmtree(tmp_path / "models" / "bright")
    with closing(Node(config, Events())) as node, pytest.raises(UnknownName):
        expected(node, ct_series(SHAPE))


def test_a_series_without_a_readable_file_cannot_be_told(tmp_path: Path) -> None:
    with closing(Node(site(tmp_path), Events())) as node:
        one = instance(1)
        node.ledger.index([one])
        (series,) = node.ledger.receipts.series_in(SeriesState.RECEIVING)
        with pytest.raises(NotUnderstood):
            node._router.card_expected(series, [one])
