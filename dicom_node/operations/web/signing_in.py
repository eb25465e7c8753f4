"""In and out: a token for a cookie, and back."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicom_node.operations.web.access import SESSION_COOKIE, SESSION_S, TooManyGuesses
from dicom_node.operations.web.desk import Desk, Form, back_to
from dicom_node.operations.web.gate import cookie_text


class SigningIn:
    """``/login`` and ``/logout``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def show(self, request: Request) -> Response:
        """The form; who is in already, or can be nobody, goes to the list."""
        if self._desk.caller(request).user is not None or not self._desk.access.takes_tokens:
            return RedirectResponse("/", 303)
        return self._desk.page(request, "login.html", problem="")

    def sign_in(self, request: Request, form: Form) -> Response:
        """A cookie for a token."""
        address = request.client.host if request.client is not None else ""
        try:
            line = self._desk.access.guess(request, form.get("token", "").strip())
        except TooManyGuesses as error:
            wait_s = int(error.wait_s) + 1
            refusal = self._desk.page(
                request, "login.html", status=429,
                problem=f"Too many tokens that are none. Try again in {wait_s} seconds.",
            )
            refusal.headers["retry-after"] = str(wait_s)
            return refusal
        if line is None:
            self._desk.ports.events.web_sign_in("", address, succeeded=False)
            return self._desk.page(
                request, "login.html", status=401, problem="This is not a token of this node."
            )
        self._desk.ports.events.web_sign_in(line.name, address, succeeded=True)
        answer = back_to("/")
        self._set(request, answer, self._desk.access.session_cookie(line), SESSION_S)
        return answer

    def sign_out(self, request: Request, form: Form) -> Response:
        """Take the cookie back."""
        del form
        answer = back_to("/login" if self._desk.access.takes_tokens else "/")
        self._set(request, answer, "", 0)
        return answer

    def _set(self, request: Request, answer: Response, value: str, seconds: int) -> None:
        secure = self._desk.access.comes_by_tls(request)
        answer.headers.append(
            "set-cookie", cookie_text(SESSION_COOKIE, value, secure=secure, max_age_s=seconds)
        )
