"""What lies in the outbox is made known to the ledger again at start.

A job may have ended with the node after it wrote an object and before the ledger heard of it, and
a ledger that was rebuilt knows none of them. Some may have been sent. Whoever makes an object of
the same SOP Instance UID again must take the one on disk, for another would differ in the time
of its making at least: two contents of one UID. Of which kind and form an object is stands in no
file: the ledger learns it when its job makes it again, and until then it is nobody's result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import PurePosixPath

from dicom_node.errors import NotUnderstood
from dicom_node.events import Events
from dicom_node.imaging.reading import read_header
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import UNKNOWN_KIND, Result
from dicom_node.spool import Spool

_AT_ONCE = 2000


def take_up_results(spool: Spool, ledger: Ledger, events: Events) -> int:
    """Tell the ledger of every result object that it does not know; returns how many.

    Half-written ones are removed, and twins of those that it knows.

    Of two files of one object the older one counts. A file that cannot be read goes to the
    quarantine, so that its object is made anew.

    Raises
    ------
    LedgerUnavailable, StorageFailed, OutOfSpace
    """
    spool.clean_outbox()
    added = 0
    found = spool.results()
    while chunk := list(islice(found, _AT_ONCE)):
        known = ledger.outbox.paths_known(PurePosixPath(path).stem for path, _ in chunk)
        _drop_twins(spool, known, [path for path, _ in chunk])
        unknown = [one for one in chunk if PurePosixPath(one[0]).stem not in known]
        unknown.sort(key=lambda one: one[1])
        results = list(_read(spool, unknown, events))
        if results:
            ledger.outbox.add(results)
            added += len(results)
    return added


def _drop_twins(spool: Spool, known: Mapping[str, str], paths: Sequence[str]) -> None:
    """Remove what lies beside the file that the ledger names, and may have sent.

    A ledger that is rebuilt later could not tell which of the two that was.
    """
    for path in paths:
        named = known.get(PurePosixPath(path).stem, path)
        if named != path and spool.has(named):
            spool.remove(path)


def _read(spool: Spool, files: list[tuple[str, float]], events: Events) -> Iterator[Result]:
    for relative, written_at in files:
        path = spool.resolve(relative)
        try:
            dataset = read_header(path).dataset
            result = Result(
                sop_instance_uid=str(dataset.SOPInstanceUID),
                sop_class_uid=str(dataset.SOPClassUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
                study_instance_uid=str(dataset.StudyInstanceUID),
                job_id=PurePosixPath(relative).parent.name,
                kind=UNKNOWN_KIND,
                path=relative,
                created_at=datetime.fromtimestamp(written_at, UTC),
            )
        except (NotUnderstood, AttributeError):
            spool.quarantine_kept(
                relative, "outbox.unreadable", "a result could not be read any more"
            )
            events.unexpected("outbox")
            continue
        yield result
