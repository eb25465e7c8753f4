"""Who somebody is, whether a form is theirs, and how often they may guess.

A person signs in with a token and gets a signed cookie that scripts cannot read; a program sends
the token with each request (RFC 6750); or a reverse proxy names the user, which is believed only
from its own network. A form carries a number that only a page of this node could give it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import HTTPConnection

from dicom_node.config_web import WebSettings
from dicom_node.errors import ConfigurationError
from dicom_node.operations.web.tokens import Role, TokenLine, Tokens, User, read_tokens

SESSION_COOKIE = "dicom_node_session"
VISIT_COOKIE = "dicom_node_visit"
SESSION_S = 12 * 3600
_GUESSES, _WITHIN_S, _MOST_ADDRESSES = 5, 60.0, 10_000
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Caller:
    """Who asks: ``user`` is ``None`` for a stranger, ``visit`` names their browser.

    ``by_token`` where the request itself carries a token: then no browser sent it unasked, and a
    form needs no further proof.
    """

    user: User | None
    visit: str
    by_token: bool = False

    @property
    def may_see_patients(self) -> bool:
        """Whether patient data may be shown."""
        return self.user is not None

    @property
    def may_act(self) -> bool:
        """Whether anything may be changed."""
        return self.user is not None and self.user.may_act


class TooManyGuesses(Exception):
    """Somebody tried too many tokens; ``wait_s`` says when they may try again."""

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self.wait_s = wait_s


class Access:
    """Decides who a caller is.

    Parameters
    ----------
    settings
        Of the page.
    key
        Signs cookies and forms, 32 bytes; see `signing_key`.

    Raises
    ------
    ConfigurationError
        The file of tokens cannot be read.
    """

    def __init__(self, settings: WebSettings, key: bytes) -> None:
        self._settings = settings
        self._key = key
        self._tokens: Tokens | None = None
        if settings.tokens_file is not None:
            read_tokens(settings.tokens_file)
            self._tokens = Tokens(settings.tokens_file)
        proxy = settings.proxy
        networks = proxy.networks if proxy is not None else []
        self._proxies = [ipaddress.ip_network(str(network), strict=False) for network in networks]
        self._guesses: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def is_configured(self) -> bool:
        """Whether anybody can be known at all."""
        return self._tokens is not None or self._settings.proxy is not None

    @property
    def takes_tokens(self) -> bool:
        """Whether there is anything to sign in with."""
        return self._tokens is not None

    def caller(self, request: HTTPConnection) -> Caller:
        """Who sends a request.

        Raises
        ------
        TooManyGuesses
            The token is none, like too many of this address before it.
        """
        visit = self._opened("visit", request.cookies.get(VISIT_COOKIE, "")) or ""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._tokens is not None:
            line = self.guess(request, token.strip())
            return Caller(User(line.name, line.role) if line else None, visit, by_token=True)
        return Caller(self._by_proxy(request) or self._by_session(request), visit)

    def guess(self, request: HTTPConnection, token: str) -> TokenLine | None:
        """The line of a token that somebody presents; one that is none counts against its address.

        Raises
        ------
        TooManyGuesses
            It is none, like too many of this address before it.
        """
        # Compared first: behind a proxy everybody has one address, and one person's wrong tokens
        # must not shut the others out. Tokens of 256 bits are not guessed; the limit is for the
        # audit trail, which every wrong one is told to. What a proxy says of addresses is not
        # asked: one that passes on what its callers claim would lift the limit.
        found = self._tokens.find(token) if self._tokens is not None and token else None
        if found is not None:
            return found
        address = request.client.host if request.client is not None else ""
        now = time.monotonic()
        with self._lock:
            guesses = self._guesses.get(address, deque())
            while guesses and guesses[0] < now - _WITHIN_S:
                guesses.popleft()
            if len(guesses) >= _GUESSES:
                raise TooManyGuesses(guesses[0] + _WITHIN_S - now)
            guesses.append(now)
            self._guesses[address] = guesses
            self._guesses.move_to_end(address)
            while len(self._guesses) > _MOST_ADDRESSES:
                self._guesses.popitem(last=False)
        return None

    def new_visit(self) -> tuple[str, str]:
        """A name for a browser, and the cookie that brings it back."""
        visit = secrets.token_urlsafe(16)
        return visit, self._sealed("visit", visit)

    def session_cookie(self, line: TokenLine) -> str:
        """The cookie of somebody who has signed in, for `SESSION_S` seconds."""
        until = int(time.time()) + SESSION_S
        return self._sealed("session", f"{line.name} {line.sha256[:16]} {until}")

    def form_token(self, caller: Caller) -> str:
        """What every form of a caller carries."""
        name = caller.user.name if caller.user is not None else ""
        return self._mac("form", f"{caller.visit} {name}")

    def is_own_form(self, caller: Caller, token: str) -> bool:
        """Whether a form was filled in on a page that this caller was shown."""
        if caller.by_token and caller.user is not None:
            return True
        given = token.encode("utf-8", "replace")
        return bool(caller.visit) and hmac.compare_digest(
            self.form_token(caller).encode("ascii"), given
        )

    def comes_by_tls(self, request: HTTPConnection) -> bool:
        """Whether cookies may be marked as Secure: by TLS of this server, or of its proxy."""
        if request.url.scheme == "https":
            return True
        return self._is_proxy(request) and request.headers.get("x-forwarded-proto") == "https"

    def _by_proxy(self, request: HTTPConnection) -> User | None:
        proxy = self._settings.proxy
        if proxy is None or not self._is_proxy(request):
            return None
        names = request.headers.getlist(proxy.user_header)
        # Two of them: one is not the proxy's.
        if len(names) != 1:
            return None
        name = names[0].strip()
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            return None
        return User(name, Role.OPERATOR if name in proxy.operators else Role.VIEWER)

    def _is_proxy(self, request: HTTPConnection) -> bool:
        if request.client is None or not self._proxies:
            return False
        try:
            address = ipaddress.ip_address(request.client.host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._proxies)

    def _by_session(self, request: HTTPConnection) -> User | None:
        text = self._opened("session", request.cookies.get(SESSION_COOKIE, ""))
        if text is None or self._tokens is None:
            return None
        name, sha256_start, until = text.split(" ")
        return self._tokens.still_there(name, sha256_start) if time.time() < int(until) else None

    def _sealed(self, purpose: str, text: str) -> str:
        return f"{text.replace(' ', '|')}.{self._mac(purpose, text)}"

    def _opened(self, purpose: str, cookie: str) -> str | None:
        text, _, mac = cookie.rpartition(".")
        text = text.replace("|", " ")
        expected = self._mac(purpose, text).encode("ascii")
        is_ours = hmac.compare_digest(expected, mac.encode("utf-8", "replace"))
        return text if is_ours and text else None

    def _mac(self, purpose: str, text: str) -> str:
        message = f"{purpose}\n{text}".encode("utf-8", "replace")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


def signing_key(path: Path) -> bytes:
    """The node's own secret for cookies, made at the first start; readable for the node alone.

    Raises
    ------
    ConfigurationError
        It can be neither read nor written.
    """
    try:
        try:
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            key = path.read_bytes()
            if len(key) == 32:
                return key
            # Half written: nobody has a cookie signed with it.
            made = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        with os.fdopen(made, "wb") as file:
            key = secrets.token_bytes(32)
            file.write(key)
    except OSError as error:
        raise ConfigurationError(
            f"cannot be used: {error.strerror}", key_path="node.data_dir", file=str(path)
        ) from error
    return key
