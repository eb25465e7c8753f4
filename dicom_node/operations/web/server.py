"""The embedded web server: uvicorn in a thread of the node, without signals and access log."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from dicom_node.config_web import WebSettings
from dicom_node.errors import ConfigurationError
from dicom_node.events import Events
from dicom_node.operations.web.connections import MOST_CONNECTIONS, Connection

_STOPPED_WITHIN_S = 5
_BACKLOG = 128
_TRIED_AGAIN_AFTER_S = 30.0


class WebServer:
    """A `Care` that serves the page.

    Parameters
    ----------
    settings
        Where to listen, and with which certificate.
    build
        Makes the application when the server starts; raises ConfigurationError.
    events
        Where the node tells what happens.
    must_serve
        Whether there is nothing else to do: then what is wrong is raised at the start. Otherwise
        it is told, and tried again every half a minute.
    """

    def __init__(
        self, settings: WebSettings, build: Callable[[], ASGIApp], events: Events, *,
        must_serve: bool,
    ) -> None:
        self._settings = settings
        self._build = build
        self._events = events
        self._must_serve = must_serve
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._listening: socket.socket | None = None
        self._certificates: tuple[int, int] | None = None
        self._next_try_s = 0.0

    @property
    def port(self) -> int | None:
        """The port on which it listens, useful when the settings say 0; ``None`` while on none."""
        return int(self._listening.getsockname()[1]) if self._listening is not None else None

    def start(self) -> None:
        """Listen.

        Raises
        ------
        ConfigurationError
            With ``must_serve``: the address is taken or none of this host, or a file of the
            settings cannot be used.
        """
        try:
            self._open()
        except ConfigurationError as error:
            if self._must_serve:
                raise
            self._next_try_s = time.monotonic() + _TRIED_AGAIN_AFTER_S
            self._events.node_changed("cannot serve its page", problem=str(error))

    def tick(self) -> None:
        """Take up a renewed certificate; begin again where it is not served and should be."""
        if self._server is None:
            if 0 < self._next_try_s <= time.monotonic():
                self.start()
            return
        if self._server.should_exit or self._thread is None:
            return
        if self._seen() != self._certificates:
            self._renew(self._server)
        if not self._thread.is_alive():
            # It takes its socket with it.
            self._server, self._must_serve = None, False
            self._next_try_s = time.monotonic()

    def stop(self) -> None:
        """Answer what was asked, take nothing new."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOPPED_WITHIN_S + 1)
        if self._listening is not None:
            self._listening.close()

    def _open(self) -> None:
        application = self._build()
        listening = _bound(self._settings)
        config = uvicorn.Config(
            application, http=Connection, ws="none", lifespan="off", interface="asgi3",
            log_config=None, access_log=False, server_header=False, proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS + 50, timeout_keep_alive=15,
            timeout_graceful_shutdown=_STOPPED_WITHIN_S,
            ssl_certfile=self._settings.certificate_file, ssl_keyfile=self._settings.key_file,
        )
        try:
            config.load()
        except (OSError, ValueError) as error:
            listening.close()
            raise ConfigurationError(
                f"cannot be used: {getattr(error, 'strerror', None) or type(error).__name__}",
                key_path="web.certificate_file", file=str(self._settings.certificate_file or ""),
            ) from error
        self._listening = listening
        self._certificates = self._seen()
        self._run(config)
        self._events.node_changed("serves its page", host=self._settings.host, port=self.port)

    def _run(self, config: uvicorn.Config) -> None:
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [self._listening]}, name="web", daemon=True
        )
        self._thread.start()

    def _renew(self, server: uvicorn.Server) -> None:
        self._certificates = self._seen()
        context, certificate = server.config.ssl, self._settings.certificate_file
        if context is None or certificate is None:
            return
        try:
            context.load_cert_chain(certificate, self._settings.key_file)
            self._events.node_changed("took up a renewed certificate", of="web page")
        except OSError as error:
            # Between the writing of the one file and of the other: the next change mends it.
            self._events.node_changed("keeps its former certificate", of="web page",
                                      reason=type(error).__name__)

    def _seen(self) -> tuple[int, int] | None:
        files = (self._settings.certificate_file, self._settings.key_file)
        if files[0] is None or files[1] is None:
            return None
        return _changed_ns(files[0]), _changed_ns(files[1])


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _bound(settings: WebSettings) -> socket.socket:
    host = settings.host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
            key_path="web.port",
        ) from error
    return listening
