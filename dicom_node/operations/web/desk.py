"""What every page has at hand: the rooms behind it, who asks, and the templates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dicom_node.events import hash_uid
from dicom_node.operations.web import standing
from dicom_node.operations.web.access import Access, Caller
from dicom_node.operations.web.names import Names
from dicom_node.operations.web.ports import Patient, Ports

_LARGEST_FORM_BYTES = 1 << 20
_MOST_FIELDS = 50
Form = Mapping[str, str]
Endpoint = Callable[[Request], Awaitable[Response]]
STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


class Desk:
    """Handed to every room of the page."""

    def __init__(self, ports: Ports, access: Access) -> None:
        self.ports = ports
        self.access = access
        self.names = Names(ports.ledger)
        files = resources.files("dicom_node.operations.web") / "static"
        self.static = {name: (files / name).read_bytes() for name in STATIC}
        self._templates = Environment(
            loader=PackageLoader("dicom_node.operations.web", "templates"),
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        )
        self._templates.filters.update(
            time=time_element, age=age, hash=hash_uid, words=standing.in_words,
            plain=standing.plain, stage_sign=standing.SIGNS.get,
        )
        self._templates.globals["static"] = {
            # A new file has a new address, so that browsers may keep the old one for good.
            name: f"/static/{name}?{hashlib.sha256(content).hexdigest()[:10]}"
            for name, content in self.static.items()
        }

    def caller(self, request: Request) -> Caller:
        """Who asks, as the gate found out."""
        caller: Caller = request.state.caller
        return caller

    def page(
        self, request: Request, template: str, *, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """A page, or a fragment of one, filled in for whoever asks."""
        caller = self.caller(request)
        text = self._templates.get_template(template).render(
            caller=caller, access=self.access, node=self.ports.config.node.ae_title,
            form_token=self.access.form_token(caller), path=request.url.path,
            now=datetime.now(UTC), **context,
        )
        return HTMLResponse(text, status)

    def study(self, name: str) -> str:
        """Study Instance UID of a hash; 404 where there is none."""
        found = self.names.study(name)
        if found is None:
            raise HTTPException(404, "There is no such study, or nothing is known of it any more.")
        return found

    def patient(self, request: Request, series_instance_uid: str) -> Patient | None:
        """Whom a series shows, for those who may see it."""
        if not self.caller(request).may_see_patients:
            return None
        return self.ports.patient(series_instance_uid)

    def see_patients(self, request: Request) -> Caller:
        """Refuse whoever may not see patient data."""
        caller = self.caller(request)
        if not caller.may_see_patients:
            raise HTTPException(403, "Only somebody who has signed in may see this.")
        return caller

    def act(self, request: Request) -> str:
        """Refuse whoever may not change anything; returns the name of who may."""
        caller = self.caller(request)
        if caller.user is None or not caller.may_act:
            raise HTTPException(403, "Only an operator may do this.")
        return caller.user.name

    def form(self, handler: Callable[[Request, Form], Response]) -> Endpoint:
        """An endpoint that takes a form of this node's own pages, and refuses any other."""

        async def endpoint(request: Request) -> Response:
            values = await _read_form(request)
            if not self.access.is_own_form(self.caller(request), values.get("form_token", "")):
                raise HTTPException(403, "This form is too old, or not of this page. Go back, "
                                    "load the page again and send it once more.")
            return await run_in_threadpool(handler, request, values)

        return endpoint


def back_to(path: str) -> RedirectResponse:
    """To a page, after a form has done its work: loading it again sends nothing twice."""
    return RedirectResponse(path, 303)


def as_json(document: Any, status: int = 200) -> Response:
    """A JSON document as the command line prints it."""
    return Response(
        json.dumps(document, indent=2, default=_plain_value) + "\n", status,
        media_type="application/json",
    )


def time_element(at: datetime) -> Markup:
    """Local time to the second, and beside it for programs."""
    local = at.astimezone()
    shown = local.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{}</time>').format(local.isoformat("T", "seconds"), shown)


def age(seconds: float) -> str:
    """A length of time in one or two words."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole} s"


async def _read_form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "Expected a form.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_FORM_BYTES:
            raise HTTPException(413, "The form is too large.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError as error:
        raise HTTPException(400, "The form cannot be read.") from error


def _plain_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if hasattr(value, "__dict__"):
        return vars(value)
    return str(value)
