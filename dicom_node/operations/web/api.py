"""For programs: what monitors ask, and the same documents as the command line prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.events import hash_uid
from dicom_node.operations.web import standing
from dicom_node.operations.web.desk import Desk, as_json
from dicom_node.operations.web.studies import StudyList, chosen_lines
from dicom_node.records import JobState

_MOST = 1000
_NOT_FOR_STRANGERS = frozenset({"path", "unguarded"})


class Probes:
    """``/healthz``, ``/readyz`` and ``/metrics``: nothing in them is of a patient.

    Health is answered in the event loop: what it tells is remembered, and whoever starts a silent
    node again must hear it while pictures keep every thread busy.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def alive(self, request: Request) -> Response:
        """200 while the node need not be started again, else 503, with every check."""
        del request
        return self._answer(self._desk.ports.health.is_alive(), liveness_only=True)

    async def ready(self, request: Request) -> Response:
        """200 while the node takes images, else 503, with every check."""
        del request
        return self._answer(self._desk.ports.health.is_ready(), liveness_only=False)

    def metrics(self, request: Request) -> Response:
        """The Prometheus document."""
        del request
        content, kind = self._desk.ports.metrics()
        return Response(content, headers={"content-type": kind})

    def _answer(self, is_good: bool, *, liveness_only: bool) -> Response:
        checks = [
            {"name": one.name, "ok": not one.problem, "problem": one.problem}
            for one in self._desk.ports.health.report() if one.for_liveness or not liveness_only
        ]
        return as_json({"ok": is_good, "checks": checks}, 200 if is_good else 503)


class Api:
    """``/api/studies``, ``/api/studies/{uid}`` and ``/api/jobs``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._list = StudyList(desk)

    def studies(self, request: Request) -> Response:
        """The latest studies; ``state``, ``modality`` and ``limit`` in the query choose."""
        query = request.query_params
        lines = chosen_lines(
            self._list.lines(), query.get("state", ""), query.get("modality", "")
        )
        return self._told(request, {"studies": [
            {
                "study": one.name,
                "study_instance_uid": one.study.study_instance_uid,
                "state": str(one.verdict.stage),
                "outcome": one.verdict.sentence,
                "age_s": round(one.age_s, 1),
                "series": [vars(series) for series in one.study.series],
                "jobs": [job.job_id for job in one.study.jobs],
            }
            for one in lines[: _limit(request, 50)]
        ]})

    def study(self, request: Request) -> Response:
        """One study, by its UID or the hash of it: as ``dicom-node show --json``."""
        ledger = self._desk.ports.ledger
        wanted = request.path_params["uid"]
        found = ledger.receipts.series_of_study(wanted)
        if not found:
            uid = self._desk.names.study(wanted)
            found = ledger.receipts.series_of_study(uid) if uid is not None else []
        if not found:
            raise HTTPException(404, "nothing is known of this study")
        documents = self._desk.ports.documents(
            [(one, ledger.jobs.of_series(one.series_instance_uid)) for one in found]
        )
        return self._told(request, {"series": documents})

    def jobs(self, request: Request) -> Response:
        """The latest jobs, optionally of one ``state``: as ``dicom-node jobs --json``."""
        ledger = self._desk.ports.ledger
        state = request.query_params.get("state")
        if state is not None and state not in set(JobState):
            raise HTTPException(400, f"state is one of {', '.join(JobState)}")
        found = ledger.jobs.latest(JobState(state) if state else None, _limit(request, 50))
        waits = self._desk.ports.waits_for(
            [(job, ledger.deliveries.of_job(job.job_id)) for job in found]
        )
        return self._told(request, {"jobs": [
            {**vars(job), "age_s": round(waits[job.job_id][1], 1),
             "waits_for": waits[job.job_id][0]}
            for job in found
        ]})

    def _told(self, request: Request, document: dict[str, Any]) -> Response:
        """The document, to strangers without what names an examination."""
        if not self._desk.caller(request).may_see_patients:
            document = anonymous(document)
        return as_json(document)


def anonymous(value: Any, key: str = "") -> Any:
    """The same document with hashes for UIDs, without paths and without a host's own words."""
    if isinstance(value, dict):
        return {
            name: anonymous(one, name) for name, one in value.items()
            if name not in _NOT_FOR_STRANGERS
        }
    if isinstance(value, list | tuple):
        return [anonymous(one, key) for one in value]
    if hasattr(value, "__dict__") and not isinstance(value, str):
        return anonymous(dict(vars(value)))
    if isinstance(value, str) and value and key not in ("sop_class_uid", "transfer_syntax_uid"):
        # Also one that is not made as PS3.5 section 9.1 asks.
        of_uid = key.endswith("_uid") or key == "made_from"
        return hash_uid(value) if of_uid else standing.plain(value)
    return value


def _limit(request: Request, default: int) -> int:
    text = request.query_params.get("limit", "")
    return min(_MOST, int(text)) if text.isdecimal() and len(text) < 8 else default


def for_errors(desk: Desk) -> Callable[[Request, Exception], Response]:
    """What becomes of a refusal: a page for people, a document for programs."""

    def answer(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = str(error.detail) if isinstance(error, HTTPException) else "unexpected"
        if status == 404 and detail == "Not Found":
            detail = "There is no such page."
        if request.url.path.startswith("/api/"):
            return as_json({"error": detail}, status)
        answer = desk.page(request, "error.html", status=status, code=status, detail=detail)
        answer.headers.update(getattr(error, "headers", None) or {})
        return answer

    return answer
