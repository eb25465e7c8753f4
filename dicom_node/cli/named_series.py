"""The series that a person names: by UID, by the hash of it in log and page, or by a job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dicom_node.events import hash_uid

if TYPE_CHECKING:
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.records import Series

NEVER_HEARD = ("never received, refused (see the log), or removed and forgotten "
               "(storage.keep_records_for_d)")


def find_series(ledger: Ledger, name: str) -> list[Series]:
    """The series of this UID, hash or job, or all of the study of this UID or hash."""
    several = by_uid(ledger, name)
    if several:
        return several
    job = ledger.jobs.find(name)
    if job is not None:
        return by_uid(ledger, job.series_instance_uid)
    if not re.fullmatch("[0-9a-f]{12}", name):
        return []
    found: dict[str, Series] = {}
    for study, series in ledger.overview.names():
        if name in (hash_uid(study), hash_uid(series)):
            found |= {one.series_instance_uid: one for one in by_uid(ledger, series)}
    return list(found.values())


def by_uid(ledger: Ledger, uid: str) -> list[Series]:
    """The series of this UID, or those of the study of this UID."""
    one = ledger.receipts.find_series(uid)
    return [one] if one is not None else ledger.receipts.series_of_study(uid)
