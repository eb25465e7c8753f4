"""The pictures of one job: a page of its own, or a fragment that the page of the study takes in."""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.errors import NodeError
from dicom_node.events import hash_uid
from dicom_node.operations.web.desk import Desk
from dicom_node.operations.web.ports import Album
from dicom_node.records import Job, JobState

# Pictures show patients: the browser may keep them for the slider, nobody between may.
_KEPT_BY_BROWSER = {"cache-control": "private, max-age=600"}
# Toggles are style sheet rules, of which there is a fixed number.
MOST_SEGMENTS = 40


class PicturePages:
    """``/studies/{study}/jobs/{job}/pictures`` and the PNGs below it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def show(self, request: Request) -> Response:
        """One slice with a layer for each segment, and a slider for the others."""
        self._desk.see_patients(request)
        study, job = self._named(request)
        album: Album | None = None
        problem = ""
        try:
            album = self._desk.ports.pictures.album(job)
        except NodeError as error:
            problem = f"{error} ({error.reason})"
        wanted = request.query_params.get("slice", "")
        chosen = int(wanted) - 1 if wanted.isdecimal() and len(wanted) < 6 else None
        if album is not None:
            default = album.first if chosen is None else chosen
            chosen = min(max(0, default), album.slices - 1)
        is_fragment = "fragment" in request.query_params
        return self._desk.page(
            request, "viewer.html" if is_fragment else "pictures.html",
            study=study, job=job, album=album, slice=chosen, problem=problem,
            segments=album.segments[:MOST_SEGMENTS] if album is not None else (),
            more=max(0, len(album.segments) - MOST_SEGMENTS) if album is not None else 0,
        )

    def image(self, request: Request) -> Response:
        """One slice in grey."""
        return self._png(request, self._desk.ports.pictures.image)

    def layer(self, request: Request) -> Response:
        """One segment on one slice."""
        segment = request.path_params["segment"]
        return self._png(
            request, lambda job, number: self._desk.ports.pictures.layer(job, number, segment)
        )

    def _png(self, request: Request, draw: Callable[[Job, int], bytes]) -> Response:
        self._desk.see_patients(request)
        _, job = self._named(request)
        try:
            content = draw(job, request.path_params["slice"] - 1)
        except IndexError as error:
            raise HTTPException(404, "There is no such slice.") from error
        except NodeError as error:
            raise HTTPException(410, f"{error} ({error.reason})") from error
        return Response(content, media_type="image/png", headers=_KEPT_BY_BROWSER)

    def _named(self, request: Request) -> tuple[str, Job]:
        uid = self._desk.study(request.path_params["study"])
        job = self._desk.ports.ledger.jobs.find(request.path_params["job"])
        if job is None or job.study_instance_uid != uid or job.state is not JobState.SUCCEEDED:
            raise HTTPException(404, "There is no such job with a result.")
        return hash_uid(uid), job
