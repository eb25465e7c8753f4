"""An object store on loopback (moto), which can be made to be slow, busy, full, or to hang up."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from dicom_node.config_storage import S3Settings
from dicom_node.spool.store import Store

Environ = dict[str, Any]
Fault = Callable[[Environ], "tuple[int, str] | None"]
_numbers = count()


class ObjectStore:
    """The server, and what it does wrong.

    ``faults`` are asked about every request, in order: one that returns a status and a code is
    answered so. They may also wait, or call `hang_up`. ``after`` are called when a request was
    done, before its answer goes out.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        # moto looks whether there is an object and then writes it: two at once must not.
        self._one_at_a_time = threading.Lock()
        self.faults: list[Fault] = []
        self.after: list[Fault] = []
        self.asked: list[str] = []
        self.url = ""

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"images-{next(_numbers)}"
        environ: Environ = {"REQUEST_METHOD": "PUT", "PATH_INFO": f"/{name}"}
        status: list[str] = []
        list(self._app(_request(environ), lambda line, *_: status.append(line)))
        assert status[0].startswith("200"), status
        return name

    def settings(self, **other: Any) -> S3Settings:
        """As a node has them; the credentials stand in the environment."""
        return S3Settings(endpoint_url=self.url, **{"timeout_s": 5.0, **other})

    def store(self, bucket: str, **other: Any) -> Store:
        """A connection of its own."""
        return Store(bucket, "node", self.settings(**other))

    def __call__(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"] = io.BytesIO(_content(environ))
        said = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        self.asked.append(said)
        for fault in self.faults:
            if (wrong := fault(environ)) is not None:
                return _refusal(start, *wrong)
        if (digest := environ.get("HTTP_CONTENT_MD5")) is not None:
            content = environ["wsgi.input"].getvalue()
            found = hashlib.md5(content, usedforsecurity=False).digest()
            if base64.b64encode(found).decode() != digest:
                return _refusal(start, 400, "BadDigest")
        with self._one_at_a_time:
            answer = list(self._app(environ, start))
        for fault in self.after:
            fault(environ)
        return answer


def hang_up(environ: Environ) -> None:
    """Cut the connection that this request came over."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def is_put(environ: Environ, part: str = "/instances/") -> bool:
    """Whether a request stores something of this kind."""
    return environ["REQUEST_METHOD"] == "PUT" and part in environ["PATH_INFO"]


def _content(environ: Environ) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    return bytes(environ["wsgi.input"].read(length)) if length else b""


def _request(environ: Environ) -> Environ:
    return {
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "QUERY_STRING": "",
        "HTTP_HOST": "127.0.0.1", "HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256 Credential=a/20260101/"
        "us-east-1/s3/aws4_request, SignedHeaders=host, Signature=b", **environ,
    }


def _refusal(start: Callable[..., Any], status: int, code: str) -> list[bytes]:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>so it is</Message></Error>"
    start(f"{status} made", [("Content-Type", "application/xml")])
    return [text.encode()]


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A store that runs until the end of the block, in threads of this process."""
    from moto.server import create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    store = ObjectStore(create_backend_app("s3"))
    server = make_server("127.0.0.1", 0, store, threaded=True)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
