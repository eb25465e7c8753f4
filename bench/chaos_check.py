"""What must be true when a chaos run is over, asked of the disk and the archive themselves.

    every acknowledged instance lies in the spool with the bytes that were sent, and is indexed
    every series has exactly one set of results over all its instances at the archive
    no SOP Instance UID was ever sent with two contents
    nothing is open, dead, or half-received

A series that was looked at before its last instances came has a set of results of that earlier
version as well: a late slice makes a new version. Such sets are counted, and each must be one.
"""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from bench.chaos_load import Account, data_set_digest
from bench.chaos_site import Site

EXPECTED = Counter({"SEG": 1, "SR": 2})


@dataclass
class Verdict:
    """What was found; a sound run has no findings."""

    losses: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    results: int = 0
    earlier_versions: int = 0
    sent_again: int = 0

    def findings(self) -> list[str]:
        """All of it, as sentences."""
        return [
            *(f"LOST: {text}" for text in self.losses),
            *(f"DUPLICATE: {text}" for text in self.duplicates),
            *(f"WRONG: {text}" for text in self.others),
        ]


@dataclass(frozen=True)
class ArchivedResult:
    """One result at the archive and the source images that it refers to."""

    sop_instance_uid: str
    modality: str
    series_instance_uid: str
    sources: frozenset[str]


def check(site: Site, account: Account) -> Verdict:
    """Everything that must be true; the node must have stopped and the archive must run."""
    verdict = Verdict()
    check_spool(site.node.data_dir / "spool", account, verdict)
    check_ledger(site.query, account, verdict)
    for kind, number in site.open_work().items():
        verdict.others.append(f"{number} {kind} open")
    found = "ok" if site.server else site.query("PRAGMA integrity_check")[0][0]
    if found != "ok":
        verdict.others.append(f"the ledger's integrity check: {found}")
    archived = archived_results(site, account)
    verdict.results = len(archived)
    check_results(account, archived, verdict)
    _check_sent(site, {one.sop_instance_uid for one in archived}, verdict)
    return verdict


def check_spool(spool: Path, account: Account, verdict: Verdict) -> None:
    """Every acknowledged instance lies in the spool, with the bytes that were sent."""
    kept = {path.stem: path for path in (spool / "instances").rglob("*.dcm")}
    for uid, times in account.acknowledged.items():
        if not times:
            continue
        path = kept.get(uid)
        if path is None:
            verdict.losses.append(f"instance {uid} was acknowledged and is not in the spool")
        elif data_set_digest(path) != account.digests[uid]:
            verdict.losses.append(f"instance {uid} was acknowledged and has other bytes")
    for path in filter(Path.is_file, (spool / "incoming").rglob("*")):
        verdict.others.append(f"half-received file {path.name} after a clean stop")
    for path in (spool / "quarantine").iterdir():
        verdict.others.append(f"{path.name} in the quarantine")


def check_ledger(
    query: Callable[[str], list[tuple[Any, ...]]], account: Account, verdict: Verdict
) -> None:
    """Every acknowledged instance is indexed, every series was looked at, and nothing is dead."""
    known = {row[0] for row in query("SELECT sop_instance_uid FROM instances")}
    for uid, times in account.acknowledged.items():
        if times and uid not in known:
            verdict.losses.append(f"instance {uid} was acknowledged and is not in the ledger")
    states = dict(query("SELECT series_instance_uid, state FROM series"))
    for series_uid in account.series:
        if states.get(series_uid) != "routed":
            verdict.losses.append(f"series {series_uid} is {states.get(series_uid)}, not routed")
    for job_id, reason in query("SELECT job_id, reason FROM jobs WHERE state = 'dead'"):
        verdict.losses.append(f"job {job_id} is dead: {reason}")
    dead = "SELECT delivery_id, reason FROM deliveries WHERE state = 'dead'"
    for delivery_id, reason in query(dead):
        verdict.losses.append(f"delivery {delivery_id} is dead: {reason}")


def archived_results(site: Site, account: Account) -> list[ArchivedResult]:
    """All SEG and SR of the archive with the images of the run that they refer to."""
    source_uids = set(account.paths)
    found = []
    for modality in ("SEG", "SR"):
        query = {"Level": "Instance", "Query": {"Modality": modality}}
        for identifier in site.archive.post("/tools/find", query):
            data = site.archive.get(f"/instances/{identifier}/file", "application/dicom")
            dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
            found.append(result_of(dataset, modality, source_uids))
    return found


def result_of(dataset: Dataset, modality: str, source_uids: set[str]) -> ArchivedResult:
    """What one archived data set is, and which images of the run it refers to."""
    referenced = frozenset(
        str(item.ReferencedSOPInstanceUID)
        for series in _series_items(dataset)
        for item in [
            *series.get("ReferencedInstanceSequence", []), *series.get("ReferencedSOPSequence", []),
        ]
    )
    return ArchivedResult(
        str(dataset.SOPInstanceUID), modality, str(dataset.SeriesInstanceUID),
        referenced & source_uids,
    )


def _series_items(dataset: Dataset) -> Iterable[Dataset]:
    yield from dataset.get("ReferencedSeriesSequence", [])
    for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", []):
        yield from study.get("ReferencedSeriesSequence", [])


def check_results(
    account: Account, archived: list[ArchivedResult], verdict: Verdict,
    expected: Counter[str] = EXPECTED,
) -> None:
    """Exactly one set of results per version of a series, and one of its whole."""
    series_of = {uid: series for series, uids in account.series.items() for uid in uids}
    versions: dict[frozenset[str], list[ArchivedResult]] = defaultdict(list)
    for one in archived:
        if one.sources:
            versions[one.sources].append(one)
        else:
            verdict.others.append(f"{one.modality} {one.sop_instance_uid} refers to no image")
    for sources, results in versions.items():
        series = {series_of[uid] for uid in sources}
        name = f"{' and '.join(sorted(series))} ({len(sources)} images)"
        kinds = Counter(one.modality for one in results)
        for modality in sorted(kinds - expected):
            verdict.duplicates.append(f"{kinds[modality]} {modality} of series {name}")
        for modality in sorted(expected - kinds):
            verdict.losses.append(f"{kinds[modality]} {modality} of series {name}")
        if len(series) > 1:
            verdict.others.append(f"one set of results of several series: {name}")
    for series_uid, uids in account.series.items():
        if frozenset(uids) not in versions:
            verdict.losses.append(f"series {series_uid} has no results over all its images")
    whole = {frozenset(uids) for uids in account.series.values()}
    verdict.earlier_versions = len(set(versions) - whole)


def _check_sent(site: Site, archived: set[str], verdict: Verdict) -> None:
    verdict.sent_again = site.tee.sent_again()
    for uid, contents in site.tee.contents.items():
        if len(contents) > 1:
            verdict.duplicates.append(f"object {uid} was sent with {len(contents)} contents")
    for uid, times in site.tee.stored.items():
        if times and uid not in archived:
            verdict.losses.append(f"object {uid} was stored and is not at the archive")
    every = json.loads(site.archive.get("/instances?expand"))
    names = Counter(one["MainDicomTags"]["SOPInstanceUID"] for one in every)
    for uid, times in names.items():
        if times > 1:
            verdict.duplicates.append(f"object {uid} is at the archive {times} times")
        if uid not in site.tee.contents:
            verdict.others.append(f"object {uid} came to the archive past the wire tap")


def spool_file(site: Site, sop_instance_uid: str) -> Path:
    """Where an instance of the run lies."""
    folder = site.node.data_dir / "spool" / "instances"
    return next(path for path in folder.rglob("*.dcm") if path.stem == sop_instance_uid)
