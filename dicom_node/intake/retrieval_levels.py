"""Which study, series or instances a request names (PS3.4 C.6.2.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

UIDS_PER_REQUEST = 200


def retrievals(
    study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Sequence[str]
) -> Iterator[Dataset]:
    """The identifiers of the C-MOVE or C-GET requests for instances, a series or a study."""
    if not sop_instance_uids:
        level = "SERIES" if series_instance_uid else "STUDY"
        yield identifier(level, study_instance_uid, series_instance_uid)
    for start in range(0, len(sop_instance_uids), UIDS_PER_REQUEST):
        query = identifier("IMAGE", study_instance_uid, series_instance_uid)
        query.SOPInstanceUID = list(sop_instance_uids[start : start + UIDS_PER_REQUEST])
        yield query


def identifier(level: str, study_instance_uid: str, series_instance_uid: str) -> Dataset:
    """The identifier of a query for a study, a series or instances."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    query.StudyInstanceUID = study_instance_uid
    if level != "STUDY":
        query.SeriesInstanceUID = series_instance_uid
    return query
