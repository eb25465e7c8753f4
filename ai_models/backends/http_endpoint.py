"""Asking another host over HTTP, with nothing left to its good will.

No redirect is followed, no proxy of the environment used, certificates are verified against those
that the system trusts, and an answer longer than expected is not read to its end. What is wrong
for now (nobody answers, too busy, broken inside) has the reason ``worker.endpoint_unavailable``, by
which the node tries again; what will be wrong the next time too has ``model.endpoint_refused``.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from ai_models.backends.http_watch import Watch
from ai_models.backends.reach import Address, address_of
from ai_models.trust import Endpoint
from ai_models.types import ModelError

UNAVAILABLE = "worker.endpoint_unavailable"
REFUSED = "model.endpoint_refused"
WRONG_OUTPUT = "model.wrong_output"
LARGEST_DOCUMENT_BYTES = 4 << 20
# A host that says "in a minute" is asked again by the node, which has other work meanwhile.
_LONGEST_WAIT_S = 10.0
_MOST_WAITS = 2
_TOO_BUSY = (429, 503)
_FOR_NOW = (408, 425, 429)
_KEY_BYTES = 4096


@dataclass(frozen=True)
class Reply:
    """Status, header fields (lower case) and body of an answer."""

    status: int
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def document(self, who: str) -> dict[str, Any]:
        """The body as a JSON object. ModelError ``model.wrong_output`` when it is none."""
        return read_object(self.body, who)


class HttpEndpoint:
    """One host by HTTP; ``who`` names it in messages, in place of its address."""

    def __init__(self, endpoint: Endpoint, who: str) -> None:
        self._address = address_of(endpoint)
        if self._address.scheme not in ("http", "https"):
            raise ModelError(
                f"{who} is asked over HTTP: its url begins with http:// or https://",
                reason="model.endpoint_wrong",
            )
        self._endpoint = endpoint
        self._who = who
        self._key = ""
        self._client: Any = None
        self._watch = Watch(endpoint.timeout_s)

    @property
    def address(self) -> Address:
        """Where it is."""
        return self._address

    def open(self) -> None:
        """Read the key and prepare connections; none is made yet."""
        httpx = import_httpx()
        self.close()
        self._key = read_key(self._endpoint, self._who)
        # Names and addresses of a hospital are certified by its own authority, which the system
        # knows and the bundle of a Python package does not.
        verified = ssl.create_default_context() if self._address.is_encrypted else False
        fields = {"Accept-Encoding": "identity"}
        if self._key:
            fields["Authorization"] = f"Bearer {self._key}"
        self._watch = Watch(self._endpoint.timeout_s)
        self._client = httpx.Client(
            base_url=f"{self._address.scheme}://{self._address.authority}",
            headers=fields, timeout=self._endpoint.timeout_s, verify=verified,
            trust_env=False, follow_redirects=False,
        )

    def get(self, path: str, *, at_most: int = LARGEST_DOCUMENT_BYTES) -> Reply:
        """The answer to a GET, whatever its status below 500."""
        return self._ask("GET", path, None, {}, at_most)

    def post(
        self, path: str, content: bytes, fields: Mapping[str, str], *, at_most: int
    ) -> Reply:
        """The answer to a POST.

        Where the host is too busy and says that it will not be in a few seconds, it is asked
        again.

        Raises
        ------
        ModelError
            ``worker.endpoint_unavailable``, ``model.endpoint_refused``, or ``model.wrong_output``
            when the answer has more than ``at_most`` bytes.
        """
        for _ in range(_MOST_WAITS):
            reply = self._ask("POST", path, content, fields, at_most)
            wait_s = _wait_s(reply)
            if wait_s is None:
                break
            time.sleep(wait_s)
        else:
            reply = self._ask("POST", path, content, fields, at_most)
        self.refuse_failure(reply)
        return reply

    def refuse_failure(self, reply: Reply) -> None:
        """Raise what a status other than 2xx means."""
        status = reply.status
        if 200 <= status < 300:
            return
        if status >= 500 or status in _FOR_NOW:
            later = reply.fields.get("retry-after", "")
            when = f", and asks to wait ({clean(later, 40)})" if later else ""
            raise ModelError(
                f"{self._who} answers {status}{when}{self._told(reply)}", reason=UNAVAILABLE
            )
        if 300 <= status < 400:
            raise ModelError(
                f"{self._who} answers {status}, a redirect: none is followed", reason=REFUSED
            )
        if status in (401, 403):
            raise ModelError(
                f"{self._who} answers {status}: it does not take the key of this endpoint"
                if self._key else f"{self._who} answers {status}: it wants a key (api_key_file)",
                reason=REFUSED,
            )
        raise ModelError(f"{self._who} answers {status}{self._told(reply)}", reason=REFUSED)

    def close(self) -> None:
        """Close all connections and forget the key."""
        if self._client is not None:
            self._client.close()
        self._client = None
        self._key = ""

    def _ask(
        self, method: str, path: str, content: bytes | None, fields: Mapping[str, str],
        at_most: int,
    ) -> Reply:
        if self._client is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        httpx = import_httpx()
        try:
            with self._watch.asking(len(content or b"")), self._client.stream(
                method, self._address.path + path, content=content, headers=dict(fields),
                extensions={"trace": self._watch.trace},
            ) as answer:
                self._watch.begin()
                body = self._body(answer, at_most)
                if self._watch.is_over:
                    # A body without a length ends where its connection does.
                    raise self._too_slow()
                return Reply(answer.status_code, dict(answer.headers.items()), body)
        except httpx.TimeoutException as error:
            raise ModelError(
                f"{self._who} did not answer within {self._endpoint.timeout_s:g} s",
                reason=UNAVAILABLE,
            ) from error
        except httpx.HTTPError as error:
            if self._watch.is_over:
                raise self._too_slow() from error
            raise self._unreachable(error) from error

    def _body(self, answer: Any, at_most: int) -> bytes:
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise ModelError(
                f"{self._who} answers compressed, which was not asked for", reason=WRONG_OUTPUT
            )
        body = bytearray()
        latest = time.monotonic() + self._endpoint.timeout_s
        for chunk in answer.iter_raw():
            body += chunk
            if len(body) > at_most:
                raise ModelError(
                    f"{self._who} answers more than {at_most} bytes", reason=WRONG_OUTPUT
                )
            if time.monotonic() > latest:
                raise self._too_slow()
        return bytes(body)

    def _too_slow(self) -> ModelError:
        return ModelError(
            f"{self._who} did not end its answer within {self._endpoint.timeout_s:g} s",
            reason=UNAVAILABLE,
        )

    def _unreachable(self, error: BaseException) -> ModelError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return ModelError(
                    f"the certificate of {self._who} is not trusted: {cause.verify_message}",
                    reason=REFUSED,
                )
            cause = cause.__cause__ or cause.__context__
        words = clean(str(error), 200).replace(self._key or "\0", "***")
        return ModelError(
            f"{self._who} cannot be reached: {type(error).__name__} {words}".rstrip(),
            reason=UNAVAILABLE,
        )

    def _told(self, reply: Reply) -> str:
        """What the host says itself, without the key that it may have repeated."""
        words = reply.body.decode("utf-8", "replace")
        if self._key:
            words = words.replace(self._key, "***")
        words = clean(words, 200)
        return f": {words}" if words else ""


def read_key(endpoint: Endpoint, who: str) -> str:
    """The key of an endpoint from its file, empty where it has none; never in a message.

    Raises
    ------
    ModelError
        ``model.endpoint_key``: the file cannot be read, or holds something else.
    """
    path = endpoint.api_key_file
    if path is None:
        return ""
    if path.exists() and not path.is_file():
        raise ModelError(f"the key file of {who} is not a plain file: {path}", reason=_KEY)
    try:
        with path.open("rb") as file:
            content = file.read(_KEY_BYTES + 1)
    except OSError as error:
        raise ModelError(
            f"the key file of {who} cannot be read: {path}: {error.strerror}", reason=_KEY
        ) from error
    key = content.strip()
    if len(content) > _KEY_BYTES or not re.fullmatch(rb"[\x21-\x7e]+", key):
        raise ModelError(
            f"the key file of {who} holds something else than one key: {path}", reason=_KEY
        )
    return key.decode("ascii")


def read_object(content: bytes, who: str) -> dict[str, Any]:
    """Bytes of another host as a JSON object. ModelError ``model.wrong_output`` otherwise."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{who} answers something that is no JSON", reason=WRONG_OUTPUT) from error
    if not isinstance(document, dict):
        raise ModelError(f"{who} answers JSON that is no object", reason=WRONG_OUTPUT)
    return document


def clean(words: object, at_most: int) -> str:
    """What another host says, on one line, without control characters, cut at ``at_most``."""
    line = " ".join(str(words)[: 4 * at_most].split())
    line = "".join(one for one in line if unicodedata.category(one)[0] != "C")
    return line if len(line) <= at_most else f"{line[:at_most]}..."


def import_httpx() -> Any:
    """The httpx package. ModelError ``model.backend_missing`` where it is not installed."""
    try:
        import httpx
    except ImportError as error:
        raise ModelError(
            "the httpx package is not installed (dicom-node[endpoints])",
            reason="model.backend_missing",
        ) from error
    return httpx


def _wait_s(reply: Reply) -> float | None:
    """After how many seconds the host wants to be asked again, where that is worth waiting for."""
    told = reply.fields.get("retry-after", "").strip()
    if reply.status not in _TOO_BUSY or not told:
        return None
    if re.fullmatch(r"[0-9]{1,6}", told):
        wait_s = float(told)
    else:
        try:
            wait_s = parsedate_to_datetime(told).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, wait_s) if wait_s <= _LONGEST_WAIT_S else None


_KEY = "model.endpoint_key"
