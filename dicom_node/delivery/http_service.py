"""One HTTP connection to a configured service: requests of any size, answers of a bounded one.

Nothing but the host and port of the settings is ever connected to: no redirect is followed and
no proxy of the environment is used. Every wait has an end: connecting, each piece of a body, and
the whole answer together, so that one that drips does not hold a thread.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from dicom_node.delivery.open_sockets import OpenSockets
from dicom_node.errors import PeerUnavailable

if TYPE_CHECKING:
    from dicom_node.config import PeerSettings
    from dicom_node.config_peers import DicomWebSettings

# A STOW-RS answer for one object is some hundred bytes.
LONGEST_ANSWER_BYTES = 1 << 20
_LONGEST_TOKEN_BYTES = 1 << 14
_LONGEST_PAUSE_S = 900.0
_LOST = "peer.connection_lost"


@dataclass(frozen=True)
class Answer:
    """What came back; ``retry_after_s`` is 0 where the service asked for no pause."""

    status: int
    content_type: str
    body: bytes
    retry_after_s: float = 0.0


class HttpService:
    """A connection that is opened when it is needed and kept while the service keeps it.

    A context manager; every method raises `PeerUnavailable` when the service is not there.

    Parameters
    ----------
    peer
        Its ``dicomweb`` says where the service is.
    sockets
        Keeps an eye on the connection, so that another thread can end it.
    connect_s
        How long to wait for TCP and for TLS.
    """

    def __init__(self, peer: PeerSettings, sockets: OpenSockets, connect_s: float) -> None:
        if peer.dicomweb is None:
            raise PeerUnavailable(f"{peer.name} has no DICOMweb service", reason="peer.dicomweb")
        self._name = peer.name
        self._web: DicomWebSettings = peer.dicomweb
        self._sockets = sockets
        self._connect_s = connect_s
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._has_answered = False

    def __enter__(self) -> Self:
        self._authorization()
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def connect(self) -> None:
        """Open the connection, where it is not open."""
        if self._is_usable():
            return
        self._close()
        connection = self._new_connection()
        try:
            connection.connect()
        except TimeoutError as error:
            raise self.unavailable("does not answer", "peer.timeout") from error
        except ssl.SSLError as error:
            raise self.unavailable(f"cannot be trusted: {error.reason}", "peer.tls") from error
        except (OSError, UnicodeError) as error:
            said = getattr(error, "strerror", None) or type(error).__name__
            raise self.unavailable(f"cannot be reached: {said}", "peer.unreachable") from error
        connection.sock.settimeout(self._web.timeout_s)
        self._sockets.add(connection.sock)
        self._connection, self._socket = connection, connection.sock
        self._has_answered = False

    def _is_usable(self) -> bool:
        """Whether the connection is there, and nothing lies in it: such as that it was closed."""
        if self._connection is None or self._connection.sock is None:
            return False
        watched = select.poll()
        watched.register(self._connection.sock, select.POLLIN)
        return not watched.poll(0)

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Callable[[], Iterable[bytes]] = tuple,
    ) -> Answer:
        """Send one request below the service's URL and return its answer, whatever its status.

        Parameters
        ----------
        method, path, headers
            ``path`` begins with a slash. ``headers`` give the body's Content-Length.
        body
            Gives its pieces, each time that it is called; what iterating raises comes through,
            and the connection is closed. A connection that the service closed meanwhile is opened
            anew and the whole sent once more.

        Raises
        ------
        PeerUnavailable
            No answer, or none that ends in time and size: nothing is known about what was sent.
        """
        if self._has_answered and self._is_usable():
            try:
                return self._exchange(method, path, headers, body())
            except PeerUnavailable as error:
                # Closed by habit after the answer before, or while this was on its way.
                if error.reason != _LOST:
                    raise
        self.connect()
        return self._exchange(method, path, headers, body())

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: Iterable[bytes]
    ) -> Answer:
        try:
            return self._send_and_receive(method, path, headers, body)
        # Whatever it was: a connection with half a request on it is of no more use.
        except BaseException:
            self._close()
            raise

    def _send_and_receive(
        self, method: str, path: str, headers: Mapping[str, str], body: Iterable[bytes]
    ) -> Answer:
        connection = self._connection
        if connection is None:
            raise self.unavailable("is gone", _LOST)
        whole = self._send_head(connection, method, path, headers)
        for piece in body if whole else ():
            if not self._send(connection, piece):
                whole = False
                break
        answer = self._receive(connection)
        if whole:
            return answer
        # It answered before it had everything, so it is no verdict on the whole.
        if answer.status < http.HTTPStatus.BAD_REQUEST:
            raise self.unavailable("closed the connection", _LOST)
        self._close()
        return answer

    def _send_head(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
    ) -> bool:
        connection.putrequest(method, urlsplit(self._web.url).path.rstrip("/") + path)
        for name, value in {**headers, **self._authorization()}.items():
            connection.putheader(name, value)
        try:
            connection.endheaders()
        except TimeoutError as error:
            raise self.unavailable("takes no data", "peer.timeout") from error
        except OSError:
            return False
        return True

    def _send(self, connection: http.client.HTTPConnection, piece: bytes) -> bool:
        try:
            connection.send(piece)
        except TimeoutError as error:
            raise self.unavailable("takes no data", "peer.timeout") from error
        except OSError:
            # It may have said why before it closed.
            return False
        return True

    def _receive(self, connection: http.client.HTTPConnection) -> Answer:
        timed_out = threading.Event()
        watch = threading.Timer(self._web.timeout_s, self._cut_off, [timed_out])
        watch.daemon = True
        watch.start()
        try:
            response = connection.getresponse()
            body = response.read(LONGEST_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if timed_out.is_set() or isinstance(error, TimeoutError):
                raise self.unavailable("does not answer", "peer.timeout") from error
            reason = _LOST if isinstance(error, OSError) else "peer.protocol"
            raise self.unavailable("gave no answer that can be read", reason) from error
        finally:
            watch.cancel()
        self._has_answered = True
        if timed_out.is_set():
            raise self.unavailable("does not answer", "peer.timeout")
        if len(body) > LONGEST_ANSWER_BYTES:
            raise self.unavailable("answers without end", "peer.protocol")
        return Answer(
            response.status,
            response.headers.get_content_type(),
            body,
            _pause_s(response.headers.get("Retry-After", "")),
        )

    def _cut_off(self, timed_out: threading.Event) -> None:
        timed_out.set()
        with contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def _new_connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._web.url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            plain = http.client.HTTPConnection(host, parts.port, timeout=self._connect_s)
            plain.auto_open = False
            return plain
        try:
            context = ssl.create_default_context(cafile=self._web.ca_file)
        except OSError as error:
            raise self.unavailable(
                "cannot be trusted: dicomweb.ca_file cannot be read", "peer.ca_file"
            ) from error
        connection = http.client.HTTPSConnection(
            host, parts.port, timeout=self._connect_s, context=context
        )
        connection.auto_open = False
        return connection

    def _authorization(self) -> dict[str, str]:
        if self._web.token_file is None:
            return {}
        try:
            with self._web.token_file.open("rb") as file:
                token = file.read(_LONGEST_TOKEN_BYTES + 1).strip().decode("ascii")
        except (OSError, ValueError):
            token = ""
        if not 1 <= len(token) <= _LONGEST_TOKEN_BYTES or not token.isprintable() or " " in token:
            raise self.unavailable(
                "needs a token, and dicomweb.token_file holds none", "peer.token_file"
            )
        return {"Authorization": f"Bearer {token}"}

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        opened, self._socket = self._socket, None
        if connection is not None:
            connection.close()
        if opened is not None:
            self._sockets.close_one(opened)

    def unavailable(self, what: str, reason: str, retry_after_s: float = 0.0) -> PeerUnavailable:
        """The error that says what this service did."""
        error = PeerUnavailable(f"{self._name} ({self._web.url}) {what}", reason=reason)
        error.retry_after_s = retry_after_s
        return error


def _pause_s(retry_after: str) -> float:
    """RFC 9110 10.2.3: seconds or a date; no more than the node would wait by itself."""
    try:
        if retry_after.strip().isdigit():
            pause_s = float(retry_after)
        else:
            pause_s = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
    return min(max(pause_s, 0.0), _LONGEST_PAUSE_S)
