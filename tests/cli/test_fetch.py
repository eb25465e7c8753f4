"""``fetch`` from a real archive into a folder and into a running node, and from odd peers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import UID
from pynetdicom.events import Event

from dicom_node.delivery.sender import Sender
from dicom_node.ledger.ledger import Ledger
from tests import peers
from tests.cli.running import Site
from tests.dicom_samples import ct_series, write_series
from tests.intake.query_peer import FIND, GET, STUDY, image_answers, query_peer, series_answer


def config(folder: Path, port: int, *, node_port: int = 1, retrieve: str = "auto") -> Path:
    path = folder / "fetch.yaml"
    path.write_text(
        f"node: {{data_dir: {folder / 'node'}, host: 127.0.0.1, port: {node_port}}}\n"
        f"peers:\n  pacs: {{ae_title: ORTHANC, host: 127.0.0.1, port: {port}, "
        f"retrieve: {retrieve}}}\n"
        "storage: {refuse_below_free_bytes: 0}\nintake: {listener_processes: 1}\n"
    )
    return path


def test_a_study_is_fetched_into_a_folder_bit_for_bit(site: Site, tmp_path: Path) -> None:
    datasets = ct_series((4, 16, 16), PatientName="DOE^JOHN", PatientID="SECRET")
    second = ct_series((2, 16, 16))
    for dataset in second:
        dataset.StudyInstanceUID = datasets[0].StudyInstanceUID
    paths = write_series([*datasets, *second], tmp_path / "sent")
    plain, compressed = paths[:4], peers.transcode(paths[4:], tmp_path / "jls", "jpeg-ls")
    with peers.Orthanc(tmp_path) as archive:
        Sender("SCANNER").send(archive.peer, [*plain, *compressed])
        settings = config(tmp_path, archive.port)
        study = datasets[0].StudyInstanceUID
        answer = site("--config", settings, "fetch", "pacs", "--study", study,
                      "--output", tmp_path / "out", "--json")
        assert answer.code == 0, answer.err
        assert answer.json() == {
            "peer": "pacs", "way": "c-get", "series": 2, "expected": 6, "completed": 6,
            "failed": 0, "complete": True, "reasons": [], "output": str(tmp_path / "out"),
        }
        assert "DOE" not in answer.out + answer.err
        assert "SECRET" not in answer.out + answer.err
        one = site("--config", settings, "fetch", "pacs", "--study", study, "--series",
                   second[0].SeriesInstanceUID, "--output", tmp_path / "one")
        assert one.code == 0
        assert len(list((tmp_path / "one").rglob("*.dcm"))) == 2
    fetched = {
        one.SOPInstanceUID: one for one in map(pydicom.dcmread, (tmp_path / "out").rglob("*.dcm"))
    }
    for path in (*plain, *compressed):
        sent = pydicom.dcmread(path)
        came = fetched[sent.SOPInstanceUID]
        assert came.PixelData == sent.PixelData
        assert came.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID


def test_what_a_peer_gives_is_kept_as_if_a_node_had_received_it(
    site: Site, tmp_path: Path
) -> None:
    datasets = ct_series((3, 16, 16))
    with peers.Orthanc(tmp_path) as archive:
        Sender("SCANNER").send(archive.peer, write_series(datasets, tmp_path / "sent"))
        (tmp_path / "node").mkdir()
        Ledger.open(tmp_path / "node" / "ledger.db").close()
        # The archive does not know the node, so that a move is refused.
        answer = site("--config", config(tmp_path, archive.port), "fetch", "pacs",
                      "--study", datasets[0].StudyInstanceUID)
    assert answer.code == 0, answer.err
    assert "3 of 3 instances from pacs to the node by c-get, 0 failed" in answer.out
    ledger = Ledger.open(tmp_path / "node" / "ledger.db")
    series = ledger.receipts.find_series(str(datasets[0].SeriesInstanceUID))
    ledger.close()
    assert series is not None
    assert (series.instance_count, series.calling_ae_title) == (3, "ORTHANC")


def test_a_study_that_the_peer_does_not_have_is_a_failure(site: Site, tmp_path: Path) -> None:
    with query_peer() as peer:
        answer = site("--config", config(tmp_path, peer.port), "fetch", "pacs", "--study", STUDY)
    assert answer.code == 1
    assert "the peer has nothing of it" in answer.err


def test_a_peer_that_is_not_there_is_a_failure(site: Site, tmp_path: Path) -> None:
    settings = config(tmp_path, peers.free_port())
    assert site("--config", settings, "fetch", "pacs", "--study", STUDY).code == 1


@pytest.mark.parametrize(
    "arguments",
    [["nobody", "--study", STUDY], ["pacs"], ["pacs", "--study", "1.2.*"],
     ["pacs", "--study", STUDY, "--series", "x"], ["pacs", "--study", STUDY, "--output", "out"]],
)
def test_wrong_use_is_told_apart_from_failure(
    site: Site, tmp_path: Path, arguments: list[str]
) -> None:
    settings = config(tmp_path, 1, retrieve="c-move")
    assert site("--config", settings, "fetch", *arguments).code == 2


def test_a_peer_that_gives_less_than_it_lists_is_a_failure(site: Site, tmp_path: Path) -> None:
    dataset = ct_series((1, 16, 16), StudyInstanceUID=STUDY, SeriesInstanceUID="1.2.3")[0]
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.1")

    def give(_event: Event) -> Iterator[Any]:
        yield 1
        yield 0xFF00, dataset

    with query_peer(
        offers=[FIND, GET], series=[series_answer(2)], images=image_answers([1, 2]), on_get=give
    ) as peer:
        answer = site("--config", config(tmp_path, peer.port), "fetch", "pacs", "--study", STUDY,
                      "--output", tmp_path / "out", "--json")
    assert answer.code == 1
    told = answer.json()
    assert (told["expected"], told["completed"], told["complete"]) == (2, 1, False)


def test_a_disk_that_takes_nothing_is_the_peers_failed_operation_and_ours(
    site: Site, tmp_path: Path
) -> None:
    dataset = ct_series((1, 16, 16), StudyInstanceUID=STUDY, SeriesInstanceUID="1.2.3")[0]

    def give(_event: Event) -> Iterator[Any]:
        yield 1
        yield 0xFF00, dataset

    (tmp_path / "out").write_text("a file where the folder should be")
    with query_peer(
        offers=[FIND, GET], series=[series_answer(1)], images=image_answers([1]), on_get=give
    ) as peer:
        answer = site("--config", config(tmp_path, peer.port), "fetch", "pacs", "--study", STUDY,
                      "--output", tmp_path / "out", "--json")
    assert answer.code == 1
    assert answer.json()["completed"] == 0
