"""Before and behind every page: who asks, what browsers are told, and what becomes of errors."""

from __future__ import annotations

import ipaddress
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from dicom_node.operations.web.access import VISIT_COOKIE, Caller, TooManyGuesses
from dicom_node.operations.web.desk import Desk, as_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Of monitors, and what the page of the login is made of.
_FOR_ALL = ("/healthz", "/readyz", "/static/", "/login")
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Gate:
    """ASGI: lets in, names the caller, adds the headers, and catches what went wrong behind it."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        request = HTTPConnection(scope)
        cookie = ""
        caller: Caller | None = None
        try:
            caller = self._desk.access.caller(request)
            if not caller.visit:
                visit, sealed = self._desk.access.new_visit()
                caller = Caller(caller.user, visit, caller.by_token)
                cookie = self._cookie(request, sealed)
            if caller.by_token and caller.user is None:
                address = request.client.host if request.client is not None else ""
                self._desk.ports.events.web_sign_in("", address, succeeded=False)
            scope.setdefault("state", {})["caller"] = caller
            answer = self._turned_away(request, caller)
        except TooManyGuesses as error:
            answer = PlainTextResponse(
                "Too many tokens that are none were tried from here. Wait a minute.\n", 429,
                {"retry-after": str(int(error.wait_s) + 1)},
            )
        sender = _Sender(send, cookie, request.url.scheme == "https")
        try:
            await (answer or self._app)(scope, receive, sender)
        # A boundary: what a page meets ends that page alone, and its text may name a patient.
        except Exception:  # noqa: BLE001
            self._desk.ports.events.unexpected("web page")
            if not sender.has_begun:
                await PlainTextResponse("The page met an unexpected error.\n", 500)(
                    scope, receive, sender
                )

    def _turned_away(self, request: HTTPConnection, caller: Caller) -> Response | None:
        """What somebody gets who may not come in; ``None`` where they may."""
        path = request.url.path
        if not self._desk.access.is_configured:
            # Only the loopback stands before patients' examinations then: a page of the world that
            # calls itself by this host's address is not let through.
            if not self._is_own_name(request.headers.get("host", "")):
                return PlainTextResponse("This node is not known by that name.\n", 421)
            return None
        if caller.user is not None or path.startswith(_FOR_ALL):
            return None
        if path == "/metrics" and self._desk.ports.config.web.is_on_loopback:
            return None
        if path.startswith("/api/") or path == "/metrics" or caller.by_token:
            refused = as_json({"error": "a token is needed: Authorization: Bearer TOKEN"}, 401)
            refused.headers["www-authenticate"] = "Bearer"
            return refused
        if request.scope["method"] != "GET" or not self._desk.access.takes_tokens:
            return PlainTextResponse("Sign in first.\n", 401)
        return RedirectResponse("/login", 303)

    def _is_own_name(self, host: str) -> bool:
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.strip("[]").lower()
        if name in ("localhost", self._desk.ports.config.web.host.strip("[]").lower()):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def _cookie(self, request: HTTPConnection, value: str) -> str:
        return cookie_text(VISIT_COOKIE, value, secure=self._desk.access.comes_by_tls(request))


def cookie_text(name: str, value: str, *, secure: bool, max_age_s: int | None = None) -> str:
    """A Set-Cookie header that no script reads and no other site sends (RFC 6265)."""
    cookie: SimpleCookie = SimpleCookie()
    cookie[name] = value
    cookie[name]["path"] = "/"
    cookie[name]["httponly"] = True
    cookie[name]["samesite"] = "Strict"
    if secure:
        cookie[name]["secure"] = True
    if max_age_s is not None:
        cookie[name]["max-age"] = max_age_s
    return cookie[name].OutputString()


class _Sender:
    """Adds to the beginning of an answer what every answer has."""

    def __init__(self, send: Send, cookie: str, is_tls: bool) -> None:
        self._send = send
        self._cookie = cookie
        self._is_tls = is_tls
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            # Pages show patients: nobody between keeps them, nor the browser's disk.
            headers.setdefault("cache-control", "no-store")
            if self._is_tls:
                headers.setdefault("strict-transport-security", "max-age=31536000")
            if self._cookie and headers.get("content-type", "").startswith("text/html"):
                headers.append("set-cookie", self._cookie)
        await self._send(message)
