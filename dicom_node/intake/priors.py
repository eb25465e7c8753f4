"""Finds the earlier examination that a job asks for, and fetches it from a peer where it must.

    want(job) -> question -> what is here, and C-FIND by the patient's ID    (in threads)
                          -> C-MOVE or C-GET of the likeliest series -> normal intake
                          -> once it is complete and fits: ledger.inputs.fill

The main loop only queues questions and never waits. That there is none is told as well, so that
the job need not wait for it; a peer that does not answer is asked again for as long as the job
does. What is fetched is written down before it is asked for: no rule runs on it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom_node.errors import LedgerUnavailable, NodeError
from dicom_node.intake.prior_candidates import (
    LEAST_IMAGES,
    SETTLED,
    Candidates,
    Wanted,
    examined_on,
)
from dicom_node.intake.prior_fetching import MOST_FETCHED, Fetching, ways
from dicom_node.intake.prior_query import (
    FoundSeries,
    likely_first,
    patient_of,
    segmentations_of,
)
from dicom_node.intake.query import Limits
from dicom_node.records import PRIOR, Instance, Job, JobInput, Series

if TYPE_CHECKING:
    from datetime import date

    from pydicom.dataset import Dataset

    from dicom_node.config import Config
    from dicom_node.config_conditions import Condition
    from dicom_node.config_rules import RuleInput
    from dicom_node.events import Events
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.spool import Spool

_SEARCHERS = 3
# So many ask one peer at once: one that hangs leaves a thread for what others have.
_ONE_PEER = 2
_WATCH_EVERY_S, _TURN_S = 0.5, 0.05
_ASTRAY_S, _ASK_AGAIN_S, _FORGET_S = 30.0, 30.0, 86_400.0
_SEGMENTATIONS_S, _END_PATIENCE_S = 15.0, 10.0


@dataclass
class _Search:
    """One question, and how far its answer is."""

    job: Job
    study_instance_uid: str
    series_instance_uid: str
    rule_input: RuleInput
    begun_s: float
    next_s: float = 0.0
    is_under_way: bool = True
    candidates: list[FoundSeries] | None = None
    fetched: int = 0
    arriving: FoundSeries | None = None
    arriving_since_s: float = 0.0
    ways_left: list[str] | None = None
    not_fetched: date | None = None

    @property
    def peer(self) -> str:
        """Who is asked; empty where nobody is."""
        return self.rule_input.fetch_from or ""


class PriorSearch:
    """Searches for earlier examinations in the background.

    Parameters
    ----------
    matches
        Whether the headers of an image hold a condition.
    header_of
        The header that speaks for a series; raises `NotUnderstood`.
    limits
        How long a peer may take.
    """

    def __init__(
        self, config: Config, ledger: Ledger, spool: Spool, events: Events,
        matches: Callable[[Condition, Dataset], bool],
        header_of: Callable[[Sequence[Instance]], Dataset], limits: Limits | None = None,
    ) -> None:
        self._ae_title = config.node.ae_title
        self._peers = config.peers
        self._is_used = any(PRIOR in rule.inputs for rule in config.rules)
        self._ledger = ledger
        self._events = events
        self._choosing = Candidates(ledger, matches, header_of)
        self._ended = threading.Event()
        self._fetching = Fetching(
            self._ae_title, ledger, spool, events, limits or Limits(), self._ended
        )
        self._searches: dict[str, _Search] = {}
        self._lock = threading.Lock()
        self._questions: queue.Queue[_Search | None] = queue.Queue()
        self._asked: Counter[str] = Counter()
        self._watch_at_s = 0.0
        self._threads = [
            threading.Thread(target=self._run, name=f"priors-{n}", daemon=True)
            for n in range(_SEARCHERS)
        ]

    def start(self) -> None:
        """Start the threads; where no rule asks for an earlier examination there are none."""
        if self._is_used:
            self._fetching.start()
            for thread in self._threads:
                thread.start()

    def close(self) -> None:
        """Break off what is under way; what was received stays received."""
        self._ended.set()
        for _ in self._threads:
            self._questions.put(None)
        self._fetching.abort()
        if self._is_used and self._threads[0].ident is not None:
            until_s = time.monotonic() + _END_PATIENCE_S
            for thread in self._threads:
                thread.join(max(0.0, until_s - time.monotonic()))
            self._fetching.close()

    def want(
        self, job: Job, study_instance_uid: str, series_instance_uid: str, rule_input: RuleInput
    ) -> None:
        """Look for an examination before that of the series; queues the question, never waits.

        May be called as often as the job is looked at: a search that is under way goes on, and
        one that met a peer which did not answer is begun again after a while.
        """
        now = time.monotonic()
        with self._lock:
            for job_id in [
                one for one, old in self._searches.items() if now - old.begun_s > _FORGET_S
            ]:
                del self._searches[job_id]
            known = self._searches.get(job.job_id)
            if known is not None and (known.is_under_way or now < known.next_s):
                return
            search = _Search(job, study_instance_uid, series_instance_uid, rule_input, now)
            self._searches[job.job_id] = search
        self._questions.put(search)

    def is_prior(self, series: Series) -> bool:
        """Whether a series is here only because a search fetched it: no rule may run on it."""
        return self._ledger.priors.is_fetched(series)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._watch()
            try:
                search = self._questions.get(timeout=_WATCH_EVERY_S)
            except queue.Empty:
                continue
            if search is None:
                return
            if not self._may_ask(search.peer):
                self._questions.put(search)
                self._ended.wait(_TURN_S)
                continue
            try:
                self._attend(search)
            finally:
                with self._lock:
                    self._asked[search.peer] -= 1

    def _may_ask(self, peer: str) -> bool:
        """Take a turn at a peer, unless as many as may have one already."""
        with self._lock:
            if peer and self._asked[peer] >= _ONE_PEER:
                return False
            self._asked[peer] += 1
        return True

    def _attend(self, search: _Search) -> None:
        """One step of a search; whatever keeps it from going on is met again later."""
        try:
            self._go_on(search)
        except LedgerUnavailable:
            self._put_off(search)
        except NodeError as error:
            self._events.peer_queried(
                search.peer or self._ae_title, "prior", error.reason
            )
            self._put_off(search, f"it could not be looked for ({error.reason})")
        except Exception:  # noqa: BLE001 - a thread boundary: the next search is another one
            self._events.unexpected("intake.priors")
            self._put_off(search)

    def _put_off(self, search: _Search, reason: str = "") -> None:
        with self._lock:
            search.next_s = time.monotonic() + _ASK_AGAIN_S
            search.is_under_way = False
        if reason:
            try:
                self._ledger.inputs.explain(search.job.job_id, PRIOR, reason)
            except LedgerUnavailable as error:
                self._events.peer_queried(self._ae_title, "prior", error.reason)

    def _watch(self) -> None:
        """Look after what was asked for and arrives."""
        now = time.monotonic()
        with self._lock:
            if now < self._watch_at_s:
                return
            self._watch_at_s = now + _WATCH_EVERY_S
            arriving = [
                one for one in self._searches.values()
                if one.arriving is not None and one.is_under_way
            ]
        for search in arriving:
            with self._lock:
                found, search.arriving = search.arriving, None
            if found is None:
                continue
            try:
                series = self._ledger.receipts.find_series(found.series_instance_uid)
            except LedgerUnavailable:
                series = None
                search.arriving_since_s = now
            is_late = now - search.arriving_since_s > _ASTRAY_S
            is_settled = series is not None and series.state in SETTLED
            if (is_settled and self._is_here(search, found)) or (
                is_late and (is_settled or series is None)
            ):
                self._questions.put(search)
            else:
                search.arriving = found

    def _go_on(self, search: _Search) -> None:
        header = self._choosing.header_at(search.series_instance_uid)
        if header is None:
            self._settle(search, JobInput(PRIOR, "", "", "the images cannot be read"))
            return
        patient, day = patient_of(header), examined_on(header)
        if not patient.patient_id or day is None:
            missing = "when they were taken" if patient.patient_id else "whose they are"
            self._settle(search, JobInput(PRIOR, "", "", f"the images do not say {missing}"))
            return
        wanted = Wanted(patient, day, search.study_instance_uid, search.rule_input)
        if search.candidates is None:
            description = str(header.get("SeriesDescription") or "")
            search.candidates = likely_first(self._candidates(search, wanted), description)
        self._settle_first(search, wanted)

    def _settle_first(self, search: _Search, wanted: Wanted) -> None:
        """Give the job the first candidate that is here and fits; fetch one where there is none."""
        while search.candidates:
            found = search.candidates[0]
            is_here = self._is_here(search, found)
            if not is_here and self._is_coming(search, found):
                search.arriving_since_s, search.arriving = time.monotonic(), found
                return
            if (is_here or self._images_here(found) >= LEAST_IMAGES) and self._choosing.fits(
                found.series_instance_uid, wanted
            ):
                self._bring_segmentations(search, found)
                self._settle(search, JobInput(
                    PRIOR, found.series_instance_uid, found.study_instance_uid,
                    self._how_it_fits(found, wanted),
                ))
                return
            if not is_here and search.not_fetched is None and not self._images_here(found):
                search.not_fetched = found.day
            search.candidates.pop(0)
            search.ways_left = None
        self._settle(search, JobInput(PRIOR, "", "", _none(search, wanted)))

    def _settle(self, search: _Search, found: JobInput) -> None:
        job = search.job
        if self._ledger.inputs.fill(job.job_id, found):
            word = "has" if found.series_instance_uid else "goes without"
            now = self._ledger.jobs.find(job.job_id) or job
            self._events.job_changed(job.job_id, str(now.state), f"{word} {PRIOR}", now.attempt)
        with self._lock:
            self._searches.pop(job.job_id, None)

    def _candidates(self, search: _Search, wanted: Wanted) -> list[FoundSeries]:
        """What is here, and what the peer has; a series that is in both places once."""
        found = {one.series_instance_uid: one for one in self._choosing.kept(wanted)}
        peer = self._peers.get(search.peer)
        if peer is None or not peer.speaks_dimse:
            return list(found.values())
        try:
            with self._fetching.associate(peer) as association:
                self._events.peer_asked(
                    peer.name, peer.ae_title, peer.host, search.study_instance_uid,
                    search.series_instance_uid,
                )
                listed = self._choosing.listed(association, wanted)
        except NodeError:
            if not found:
                raise
            # What is here is better than nothing, and the peer may be away for long.
            listed = []
        for one in listed:
            here = found.get(one.series_instance_uid)
            # What is here may be half of it: a retrieval was broken off.
            if here is None or here.images < one.images:
                found[one.series_instance_uid] = one
        return list(found.values())

    def _how_it_fits(self, found: FoundSeries, wanted: Wanted) -> str:
        here = self._images_here(found)
        part = f", {here} of its {found.images} images" if here < found.images else ""
        return f"the latest before it, by {(wanted.day - found.day).days} days{part}"

    def _is_here(self, search: _Search, found: FoundSeries) -> bool:
        """Whether a series is here with all its images; or with what came, when it was fetched."""
        waited_s = time.monotonic() - search.arriving_since_s
        is_all = search.ways_left is not None and waited_s > _ASTRAY_S
        return self._images_here(found) >= (LEAST_IMAGES if is_all else max(found.images, 1))

    def _images_here(self, found: FoundSeries) -> int:
        """How many images of a series are here; none as long as it is arriving."""
        series = self._ledger.receipts.find_series(found.series_instance_uid)
        return series.instance_count if series is not None and series.state in SETTLED else 0

    def _is_coming(self, search: _Search, found: FoundSeries) -> bool:
        """Have a series sent here; false where nobody does, or where what is here must do."""
        try:
            return self._fetch(search, found)
        except LedgerUnavailable:
            raise
        except NodeError:
            if self._images_here(found) < LEAST_IMAGES:
                raise
            return False

    def _fetch(self, search: _Search, found: FoundSeries) -> bool:
        """Have a series sent here; false when no way is left, or too many were tried.

        Raises
        ------
        PeerUnavailable, PeerBusy
            What failed may go another time.
        """
        peer = self._peers.get(search.peer)
        if peer is None or peer.retrieve == "off":
            return False
        if search.ways_left is None:
            if search.fetched >= MOST_FETCHED:
                return False
            search.fetched += 1
            search.ways_left = ways(peer)
        return self._fetching.fetch(found, search.job.job_id, peer, search.ways_left)

    def _bring_segmentations(self, search: _Search, found: FoundSeries) -> None:
        """Have what was marked in the earlier images sent here too: it says how that is tracked.

        Without it the job goes all the same.
        """
        peer = self._peers.get(search.peer)
        if peer is None or peer.retrieve == "off" or not peer.speaks_dimse:
            return
        try:
            with self._fetching.associate(peer) as association:
                series = association.series_of(found.study_instance_uid, found.day, ())
            marked = segmentations_of(series, search.job.model_id)
            for one in marked:
                if self._ledger.receipts.find_series(one.series_instance_uid) is None:
                    search.ways_left, search.fetched = None, 0
                    self._fetch(search, one)
            until = time.monotonic() + _SEGMENTATIONS_S
            while not self._ended.wait(0.1) and time.monotonic() < until and any(
                self._ledger.receipts.find_series(one.series_instance_uid) is None
                for one in marked
            ):
                continue
        except LedgerUnavailable:
            raise
        except NodeError as error:
            self._events.peer_queried(peer.name, "segmentations", error.reason)


def _none(search: _Search, wanted: Wanted) -> str:
    """Why a job goes without; what could not be fetched may be there all the same."""
    if search.not_fetched is not None:
        days = (wanted.day - search.not_fetched).days
        return f"there may be one at {search.peer}, {days} days before, and it could not be fetched"
    where = f"here or at {search.peer}" if search.peer else "here"
    return f"there is none of the {search.rule_input.within_d} days before {where}"
