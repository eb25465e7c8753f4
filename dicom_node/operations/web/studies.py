"""The list of studies: where each stands, live, filtered, searched."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.events import hash_uid
from dicom_node.ledger.overview import StudyRow
from dicom_node.operations.refused_callers import RefusedCallers, refused_lately
from dicom_node.operations.web import standing
from dicom_node.operations.web.desk import Desk, Form, back_to
from dicom_node.operations.web.next_tries import NextTries
from dicom_node.operations.web.ports import Patient
from dicom_node.operations.web.standing import Stage, Verdict

# The latest are looked at; whoever wants an older one knows its hash.
LOOKED_AT = 500
_ON_A_PAGE = 50
_KEPT_S = 1.0
_REFUSED_KEPT_S = 20.0


@dataclass(frozen=True)
class Line:
    """One study of the list."""

    name: str
    study: StudyRow
    verdict: Verdict
    age_s: float

    @property
    def modalities(self) -> list[str]:
        """Those of its series."""
        return sorted({one.modality for one in self.study.series if one.modality})

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(one.instance_count for one in self.study.series)

    @property
    def senders(self) -> str:
        """Who sent them."""
        return ", ".join(sorted({one.calling_ae_title for one in self.study.series}))

    @property
    def models(self) -> str:
        """Which models were asked."""
        return ", ".join(sorted({one.model_id for one in self.study.jobs}))


class StudyList:
    """The lines of the list, the same for everybody who looks within a second."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lock = threading.Lock()
        self._read_at_s = 0.0
        self._lines: list[Line] = []

    def lines(self) -> list[Line]:
        """The latest studies, the latest first."""
        with self._lock:
            if time.monotonic() - self._read_at_s > _KEPT_S:
                self._lines = self.of(self._desk.ports.ledger.overview.latest(LOOKED_AT))
                self._read_at_s = time.monotonic()
            return self._lines

    def of(self, studies: Sequence[StudyRow]) -> list[Line]:
        """Lines of these studies."""
        asked = [
            (job, ()) for one in studies for job in one.jobs if job.state in standing.MAY_WAIT
        ]
        waits = self._desk.ports.waits_for(asked) if asked else {}
        words = {name: text for name, (text, _) in waits.items()}
        ports, now = self._desk.ports, datetime.now(UTC)
        tries = NextTries(ports.config, ports.ledger.circuits.all())
        return [
            Line(
                self._desk.names.remember(one.study_instance_uid), one,
                standing.of_study(one, words),
                (now - min(s.first_received_at for s in one.series)).total_seconds(),
            )
            for one in map(tries.in_study, studies)
        ]


class Refusals:
    """Whom the node turned away lately, read anew now and then."""

    def __init__(self, desk: Desk) -> None:
        self._folder = desk.ports.config.node.data_dir / "audit"
        self._lock = threading.Lock()
        self._next_s = 0.0
        self._found: RefusedCallers | None = None

    def lately(self) -> RefusedCallers | None:
        """Those of the last day; ``None`` for nobody."""
        with self._lock:
            if time.monotonic() >= self._next_s:
                self._found = refused_lately(self._folder)
                self._next_s = time.monotonic() + _REFUSED_KEPT_S
            return self._found


class StudiesPage:
    """``/`` and what belongs to it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._list = StudyList(desk)
        self._refusals = Refusals(desk)

    def show(self, request: Request) -> Response:
        """The list; with ``fragment`` in the query only the lines of it."""
        query = request.query_params
        stage, modality = query.get("state", ""), query.get("modality", "")
        if stage and stage not in set(Stage):
            raise HTTPException(404, "There is no such state.")
        every = self._list.lines()
        lines = chosen_lines(every, stage, modality)
        pages = max(1, -(-len(lines) // _ON_A_PAGE))
        number = query.get("page", "1")
        page = min(pages, max(1, int(number))) if number.isdecimal() and len(number) < 6 else 1
        shown = lines[(page - 1) * _ON_A_PAGE : page * _ON_A_PAGE]
        chosen = {"state": stage, "modality": modality}
        is_fragment = "fragment" in query
        return self._desk.page(
            request, "study_rows.html" if is_fragment else "studies.html",
            lines=shown, patients=self._patients(request, shown), total=len(lines),
            looked_at=LOOKED_AT, page=page, pages=pages, chosen=chosen, searched="",
            stages=list(Stage), modalities=_modalities(every),
            refused=self._refusals.lately(),
            address=lambda page: "/?" + urlencode({**chosen, "page": page}),
        )

    def search(self, request: Request, form: Form) -> Response:
        """A hash or UID leads to its study; patient ID and accession number to what is here.

        By a form, so that what was looked for stands in no address.
        """
        wanted = form.get("wanted", "").strip()[:64]
        if not wanted:
            return back_to("/")
        study = self._desk.names.study(wanted.lower()) or self._of_uid(request, wanted)
        if study is not None:
            return back_to(f"/studies/{hash_uid(study)}")
        found = self._of_patient(request, wanted)
        lines = self._list.of([one for one, _ in found])
        patients = {line.name: patient for line, (_, patient) in zip(lines, found, strict=True)}
        return self._desk.page(
            request, "studies.html", lines=lines, patients=patients, total=len(lines),
            looked_at=LOOKED_AT, page=1, pages=1, chosen={"state": "", "modality": ""},
            searched=wanted, stages=list(Stage), modalities=_modalities(self._list.lines()),
            refused=None, address=lambda page: "/",
        )

    def _of_uid(self, request: Request, wanted: str) -> str | None:
        """The study of this UID, or that of the series of this UID."""
        if not self._desk.caller(request).may_see_patients:
            return None
        receipts = self._desk.ports.ledger.receipts
        series = receipts.find_series(wanted)
        if series is not None:
            return series.study_instance_uid
        return wanted if receipts.series_of_study(wanted) else None

    def _of_patient(self, request: Request, wanted: str) -> list[tuple[StudyRow, Patient]]:
        if not self._desk.caller(request).may_see_patients:
            return []
        alike = wanted.casefold()
        found = []
        for one in self._desk.ports.ledger.overview.latest(LOOKED_AT):
            patient = self._desk.patient(request, one.series[0].series_instance_uid)
            if patient is not None and alike in (
                patient.patient_id.casefold(), patient.accession_number.casefold()
            ):
                found.append((one, patient))
        return found

    def _patients(self, request: Request, lines: Sequence[Line]) -> dict[str, Patient | None]:
        return {
            one.name: self._desk.patient(request, one.study.series[0].series_instance_uid)
            for one in lines
        }


def chosen_lines(lines: Sequence[Line], stage: str, modality: str) -> list[Line]:
    """Those of a state and a modality; an empty word is any."""
    return [
        one for one in lines
        if stage in ("", one.verdict.stage) and (not modality or modality in one.modalities)
    ]


def _modalities(lines: Sequence[Line]) -> list[str]:
    return sorted({modality for one in lines for modality in one.modalities})
