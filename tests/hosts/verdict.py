"""What must be true when all is over on several hosts, asked of disk, database and archive.

    every acknowledged instance is kept with the bytes that were sent, and is indexed
    every series has one result over all of its images at the archive, and one job that made it
    no object was sent with two contents, no job and no delivery is dead, nothing is open
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Sequence

import pydicom

from bench.chaos_check import (
    ArchivedResult,
    Verdict,
    check_ledger,
    check_results,
    check_spool,
    result_of,
)
from tests.hosts.modality import Sent
from tests.hosts.site import Site

_EXPECTED = Counter({"SR": 1})


def check(site: Site, sent: Sent) -> Verdict:
    """Everything that must be true; the archive must run, the hosts may."""
    verdict = Verdict()
    account = sent.account
    check_spool(site.spool, account, verdict)
    check_ledger(site.query, account, verdict)
    for kind, number in site.open_work().items():
        verdict.others.append(f"{number} {kind} open")
    archived = archived_results(site, sent)
    verdict.results = len(archived)
    check_results(account, archived, verdict, _EXPECTED)
    _check_jobs(site, sent, verdict)
    verdict.sent_again = site.tee.sent_again()
    for uid, contents in site.tee.contents.items():
        if len(contents) > 1:
            verdict.duplicates.append(f"object {uid} was sent with {len(contents)} contents")
    kept = {one.sop_instance_uid for one in archived}
    for uid in site.tee.stored:
        if uid not in kept:
            verdict.losses.append(f"object {uid} was stored and is not at the archive")
    return verdict


def _check_jobs(site: Site, sent: Sent, verdict: Verdict) -> None:
    """One job for each series that was looked at once, by the rule that its study asks for."""
    rows = site.query("SELECT series_instance_uid, rule, state FROM jobs")
    done = Counter(uid for uid, _, state in rows if state == "succeeded")
    for uid, is_stat in sent.is_stat.items():
        if not done[uid]:
            verdict.losses.append(f"series {uid} has no job that succeeded")
        wrong = {rule for one, rule, _ in rows if one == uid} - {
            "emergencies" if is_stat else "the others"
        }
        if wrong:
            verdict.others.append(f"series {uid} has jobs of the rules {sorted(wrong)}")


def archived_results(site: Site, sent: Sent) -> list[ArchivedResult]:
    """All that the archive has, with the images of the run that each refers to."""
    sources = set(sent.account.paths)
    found = []
    for path in site.received.iterdir():
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        found.append(result_of(dataset, str(dataset.Modality), sources))
    return found


def latencies_s(
    site: Site, sent: Sent, besides: Collection[str] = ()
) -> dict[str, list[float]]:
    """Seconds from the last acknowledgement of a series to its result at the archive, sorted.

    By urgency, ``stat`` and ``routine``; of series that were looked at twice the last result, and
    of all ``besides`` some.
    """
    series_of = {uid: series for series, uids in sent.account.series.items() for uid in uids}
    stored_at: dict[str, float] = {}
    for one in archived_results(site, sent):
        for series in {series_of[uid] for uid in one.sources}:
            at = site.tee.stored_at[one.sop_instance_uid]
            stored_at[series] = max(at, stored_at.get(series, 0.0))
    found: dict[str, list[float]] = {"stat": [], "routine": []}
    for series in stored_at.keys() - set(besides):
        at = stored_at[series]
        kind = "stat" if sent.is_stat[series] else "routine"
        found[kind].append(at - sent.ended_at[series])
    return {kind: sorted(values) for kind, values in found.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and the largest of sorted values."""
    if not values:
        return {}
    return {
        "median": round(statistics.median(values), 1),
        "p95": round(values[min(len(values) - 1, int(0.95 * len(values)))], 1),
        "max": round(values[-1], 1),
    }
