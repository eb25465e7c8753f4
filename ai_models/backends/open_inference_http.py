"""The Open Inference Protocol over HTTP, in binary where the host says that it reads it.

The binary extension is Triton's (``binary_tensor_data``): JSON first, its length in a header
field, then the tensors' bytes. Without it, numbers are written out in JSON, which takes five times
as long and loses nothing: a float32 written as a double comes back as it was.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import numpy as np

from ai_models.backends.http_endpoint import (
    REFUSED,
    UNAVAILABLE,
    WRONG_OUTPUT,
    HttpEndpoint,
    Reply,
    clean,
    read_object,
)
from ai_models.backends.open_inference_tensors import (
    Declared,
    Inferred,
    Served,
    Tensor,
    declared_of,
    tensor_of_bytes,
    tensor_of_numbers,
)
from ai_models.card_entries import EndpointOptions
from ai_models.trust import Endpoint
from ai_models.types import FloatArray, ModelError

_JSON_LENGTH = "Inference-Header-Content-Length"


class HttpTransport:
    """Speaks to one model of one host; ``who`` names the host in messages."""

    name = "HTTP"

    def __init__(
        self, endpoint: Endpoint, options: EndpointOptions, who: str, at_most: int
    ) -> None:
        self._host = HttpEndpoint(endpoint, who)
        self._options = options
        self._who = who
        self._at_most = at_most
        self._binary = False
        version = f"/versions/{quote(options.version, safe='')}" if options.version else ""
        self._model = f"/v2/models/{quote(options.model, safe='')}{version}"

    def open(self) -> None:
        """See `Transport.open`."""
        self._host.open()

    def look(self) -> Served:
        """See `Transport.look`."""
        server = self._host.get("/v2")
        if server.status == 404:
            raise ModelError(
                f"{self._who} does not speak the Open Inference Protocol below its url",
                reason=REFUSED,
            )
        self._host.refuse_failure(server)
        extensions = server.document(self._who).get("extensions")
        self._binary = isinstance(extensions, list) and "binary_tensor_data" in extensions
        self._refuse_unready(self._host.get("/v2/health/ready"), "itself")
        self._refuse_unready(self._host.get(f"{self._model}/ready"), self._options.model)
        reply = self._host.get(self._model)
        self._host.refuse_failure(reply)
        told = reply.document(self._who)
        versions = told.get("versions")
        return Served(
            tuple(clean(one, 32) for one in versions[:64]) if isinstance(versions, list) else (),
            clean(told.get("platform", ""), 32),
            self._declared(told.get("inputs")), self._declared(told.get("outputs")),
        )

    def infer(self, windows: FloatArray) -> Inferred:
        """See `Transport.infer`."""
        content, fields = self._request(windows)
        reply = self._host.post(
            f"{self._model}/infer", content, fields, at_most=self._at_most
        )
        document, rest = self._parts(reply)
        outputs = document.get("outputs")
        tensors: dict[str, Tensor] = {}
        for one in outputs if isinstance(outputs, list) else ():
            name, tensor, rest = self._tensor(one, rest)
            tensors[name] = tensor
        return Inferred(clean(document.get("model_version") or "", 32), tensors)

    def close(self) -> None:
        """See `Transport.close`."""
        self._host.close()

    def _refuse_unready(self, reply: Reply, what: str) -> None:
        """The protocol says 4xx of a model that is not ready, and it may be so in a minute."""
        if reply.status == 404 and what != "itself":
            raise ModelError(f"{self._who} does not know {what}", reason=REFUSED)
        if 400 <= reply.status < 500 and reply.status not in (401, 403):
            raise ModelError(
                f"{self._who} says that {what} is not ready ({reply.status})", reason=UNAVAILABLE
            )
        self._host.refuse_failure(reply)

    def _declared(self, entries: object) -> tuple[Declared, ...]:
        return tuple(
            declared_of(one.get("name"), one.get("datatype"), one.get("shape"), self._who)
            for one in (entries[:64] if isinstance(entries, list) else ())
            if isinstance(one, dict)
        )

    def _request(self, windows: FloatArray) -> tuple[bytes, dict[str, str]]:
        array = np.ascontiguousarray(windows, dtype="<f4")
        tensor: dict[str, Any] = {
            "name": self._options.input, "shape": list(array.shape), "datatype": "FP32",
        }
        outputs: list[dict[str, Any]] = [{"name": name} for name in self._options.outputs]
        document = {"inputs": [tensor], "outputs": outputs}
        if not self._binary:
            tensor["data"] = array.ravel().tolist()
            return json.dumps(document).encode(), {"Content-Type": "application/json"}
        tensor["parameters"] = {"binary_data_size": array.nbytes}
        for one in outputs:
            one["parameters"] = {"binary_data": True}
        head = json.dumps(document).encode()
        fields = {"Content-Type": "application/octet-stream", _JSON_LENGTH: str(len(head))}
        return head + array.tobytes(), fields

    def _parts(self, reply: Reply) -> tuple[dict[str, Any], bytes]:
        told = reply.fields.get(_JSON_LENGTH.lower())
        if told is None:
            return reply.document(self._who), b""
        length = int(told) if told.isascii() and told.isdecimal() and len(told) < 12 else -1
        if not 0 < length <= len(reply.body):
            raise ModelError(
                f"{self._who} says that its JSON has {clean(told, 20)} bytes of "
                f"{len(reply.body)}", reason=WRONG_OUTPUT,
            )
        return read_object(reply.body[:length], self._who), reply.body[length:]

    def _tensor(self, entry: object, rest: bytes) -> tuple[str, Tensor, bytes]:
        """Name and tensor of one output, and the bytes that belong to the next ones."""
        if not isinstance(entry, dict):
            raise ModelError(f"{self._who} gives an output that is none", reason=WRONG_OUTPUT)
        declared = declared_of(
            entry.get("name"), entry.get("datatype"), entry.get("shape"), self._who
        )
        parameters = entry.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            return declared.name, tensor_of_numbers(declared, entry.get("data"), self._who), rest
        if not isinstance(size, int) or not 0 <= size <= len(rest):
            raise ModelError(
                f"{self._who} gives {clean(size, 20)} bytes of {declared.name} and sends "
                f"{len(rest)}", reason=WRONG_OUTPUT,
            )
        return declared.name, tensor_of_bytes(declared, rest[:size], self._who), rest[size:]
