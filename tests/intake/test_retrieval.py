"""C-GET into the spool: what comes is what was asked for, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pynetdicom.events import Event

from dicom_node.events import Events
from dicom_node.intake.query import Limits
from dicom_node.intake.retrieval import GetQuery, get_into_spool
from dicom_node.records import Association, Instance
from dicom_node.spool import Spool
from tests.dicom_samples import ct_series
from tests.intake.query_peer import FIND, GET, query_peer

CT = "1.2.840.10008.5.1.4.1.1.2"
QUICK = Limits(connect_s=5, associate_s=5, answer_s=20, query_s=30, retrieve_answer_s=30)


class Written:
    """An index that only remembers."""

    listener_id = "test"

    def __init__(self) -> None:
        self.series: list[str] = []

    def stored(self, instance: Instance, association: Association) -> None:
        self.series.append(instance.series_instance_uid)

    def ended(self, association: Association) -> None:
        pass


def test_a_peer_that_gives_other_series_and_studies_than_asked_for_gets_rid_of_none_of_them(
    tmp_path: Path,
) -> None:
    wanted = ct_series((2, 8, 8))
    others = [*ct_series((2, 8, 8), SeriesInstanceUID="1.2.3.9"),
              *ct_series((1, 8, 8), StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.9.1")]
    study, series = wanted[0].StudyInstanceUID, wanted[0].SeriesInstanceUID
    given = [others[0], wanted[0], others[1], wanted[1], others[2]]
    for number, one in enumerate(given):
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"

    def give(_event: Event) -> Iterator[Any]:
        yield len(given)
        for one in given:
            yield 0xFF00, one

    index, spool = Written(), Spool(tmp_path / "spool")
    with query_peer((FIND, GET), on_get=give) as peer:
        query = GetQuery("DICOMNODE", peer.settings(), study, series)
        retrieved = get_into_spool(query, spool, index, Events(), [CT], QUICK)
    assert index.series == [series, series]
    assert (retrieved.completed, retrieved.failed) == (2, 3)
    kept = {path.parent.name for path in (tmp_path / "spool").rglob("*.dcm")}
    assert kept == {series} and not list((tmp_path / "spool" / "quarantine").glob("*"))
