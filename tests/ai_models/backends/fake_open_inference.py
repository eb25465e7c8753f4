"""Hosts that serve a network by the Open Inference Protocol, over HTTP and over gRPC.

Both fail on demand. ``mode`` may be changed while they run:

    normal, not_ready, loading (the model is not ready), unknown_model, 400, 500, slow (no answer
    until the end), redirect (HTTP), malformed (no JSON; HTTP), nan, wrong_shape, missing_output,
    short (fewer bytes than numbers), text (bytes for numbers), huge, other_input, memory (500 until
    it is asked for one window)
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.ai_models.backends.loopback import Asked, Given, LoopbackServer
from tests.ports import free_port

Arrays = Mapping[str, npt.NDArray[Any]]
TYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "INT32": "<i4"}
JSON_LENGTH = "Inference-Header-Content-Length"


def threshold(windows: npt.NDArray[np.float32]) -> Arrays:
    """Channel 0 answers 0, channel 1 ``40 * (x - 0.5)``: what `threshold_onnx` answers."""
    return {"output": np.concatenate([windows * 0, 40 * (windows - np.float32(0.5))], axis=1)}


@dataclass
class Model:
    """What a host serves; datatype and shape of an output as the host declares it."""

    name: str = "bright"
    version: str = "3"
    platform: str = "onnxruntime_onnx"
    input_name: str = "input"
    input_type: str = "FP32"
    input_shape: list[int] = field(default_factory=lambda: [-1, 1, 16, 16, 16])
    outputs: dict[str, tuple[str, list[int]]] = field(
        default_factory=lambda: {"output": ("FP32", [-1, 2, 16, 16, 16])})
    run: Callable[[npt.NDArray[np.float32]], Arrays] = threshold

    def answers(self, mode: str, windows: npt.NDArray[np.float32]) -> Arrays:
        """By the model, spoiled as the mode says, in the datatypes that are declared."""
        found = {
            name: np.asarray(array).astype(TYPES.get(self.outputs[name][0], "<f4"))
            for name, array in self.run(windows).items()
        }
        first = next(iter(found))
        if mode == "nan":
            found[first].reshape(-1)[0] = np.nan
        if mode == "wrong_shape":
            found[first] = found[first][:, :, 1:]
        if mode == "missing_output":
            found = {"something": found[first]}
        return found


class FakeOpenInference(LoopbackServer):
    """Over HTTP; ``with FakeOpenInference() as host`` serves ``host.model`` below ``host.url``.

    ``binary``: whether it says and does the extension for tensors in binary.
    """

    def __init__(
        self, mode: str = "normal", *, model: Model | None = None, binary: bool = True,
        key: str = "", certificate: Path | None = None,
    ) -> None:
        super().__init__(certificate)
        self.mode, self.model, self.binary, self.key = mode, model or Model(), binary, key
        self.seen: list[npt.NDArray[np.float32]] = []

    def answer(self, asked: Asked) -> Given:
        if self.key and asked.fields.get("authorization") != f"Bearer {self.key}":
            return _given(401, {"error": "no"})
        if asked.path == "/v2":
            extensions = ["classification", *(["binary_tensor_data"] if self.binary else [])]
            return _given(200, {"name": "fake", "version": "1", "extensions": extensions})
        if asked.path == "/v2/health/ready":
            return Given(400 if self.mode == "not_ready" else 200)
        head, _, rest = asked.path.partition(f"/v2/models/{self.model.name}")
        if head or self.mode == "unknown_model":
            return _given(404, {"error": "unknown model"})
        rest = rest.removeprefix(f"/versions/{self.model.version}")
        if rest == "/ready":
            return Given(400 if self.mode == "loading" else 200)
        if rest == "":
            return _given(200, self._metadata())
        return self._infer(asked) if rest == "/infer" else _given(404, {"error": "no such path"})

    def _metadata(self) -> dict[str, Any]:
        model = self.model
        name = "other" if self.mode == "other_input" else model.input_name
        return {
            "name": model.name, "versions": [model.version], "platform": model.platform,
            "inputs": [{"name": name, "datatype": model.input_type, "shape": model.input_shape}],
            "outputs": [
                {"name": one, "datatype": datatype, "shape": shape}
                for one, (datatype, shape) in model.outputs.items()
            ],
        }

    def _infer(self, asked: Asked) -> Given:
        windows = self._windows(asked)
        self.seen.append(windows)
        if self.mode == "400":
            return _given(400, {"error": "unexpected shape for input"})
        if self.mode == "500" or (self.mode == "memory" and len(windows) > 1):
            return _given(500, {"error": "CUDA out of memory"})
        if self.mode == "redirect":
            return _given(308, {}, {"Location": "/elsewhere"})
        if self.mode == "slow":
            self.closing.wait(60)
        if self.mode == "malformed":
            return Given(200, b"{")
        if self.mode == "huge":
            return Given(200, b" " * (6 << 20))
        return self._answer(self.model.answers(self.mode, windows))

    def _windows(self, asked: Asked) -> npt.NDArray[np.float32]:
        told = asked.fields.get(JSON_LENGTH.lower())
        length = len(asked.body) if told is None else int(told)
        (tensor,) = json.loads(asked.body[:length])["inputs"]
        if told is None:
            return np.asarray(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        assert tensor["parameters"]["binary_data_size"] == len(asked.body) - length
        return np.frombuffer(asked.body[length:], dtype="<f4").reshape(tensor["shape"])

    def _answer(self, found: Arrays) -> Given:
        outputs: list[dict[str, Any]] = []
        content = b""
        for name, array in found.items():
            datatype = "BYTES" if self.mode == "text" else self.model.outputs.get(
                name, ("FP32", []))[0]
            entry: dict[str, Any] = {
                "name": name, "datatype": datatype, "shape": list(array.shape),
            }
            if self.binary:
                part = array.tobytes()[: -4 if self.mode == "short" else None]
                entry["parameters"] = {"binary_data_size": len(part)}
                content += part
            else:
                numbers = array.ravel().tolist()
                entry["data"] = numbers[:-1] if self.mode == "short" else numbers
            outputs.append(entry)
        document = {
            "model_name": self.model.name, "model_version": self.model.version,
            "outputs": outputs,
        }
        if not self.binary:
            return _given(200, document)
        head = json.dumps(document).encode()
        return Given(200, head + content, {JSON_LENGTH: str(len(head))})


class FakeGrpcInference:
    """Over gRPC; ``raw``: tensors come as bytes and not as lists of numbers."""

    def __init__(
        self, mode: str = "normal", *, model: Model | None = None, raw: bool = True, key: str = "",
        certificate: Path | None = None,
    ) -> None:
        self.certificate = certificate
        self.mode, self.model, self.raw, self.key = mode, model or Model(), raw, key
        self.seen: list[npt.NDArray[np.float32]] = []
        self.closing = threading.Event()
        self.port = free_port()
        self._server: Any = None

    @property
    def url(self) -> str:
        return f"{'grpcs' if self.certificate else 'grpc'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.closing.clear()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=2))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Service(self), self._server)
        where = f"127.0.0.1:{self.port}"
        if self.certificate:
            pair = [self.certificate.with_suffix(end).read_bytes() for end in (".key", ".crt")]
            credentials = grpc.ssl_server_credentials([(pair[0], pair[1])])
            bound = self._server.add_secure_port(where, credentials)
        else:
            bound = self._server.add_insecure_port(where)
        assert bound == self.port
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.stop(grace=None).wait()


class _Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, host: FakeGrpcInference) -> None:
        self._host = host

    def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self._check_key(context)
        return service_pb2.ServerReadyResponse(ready=self._host.mode != "not_ready")

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        if request.name != self._host.model.name or self._host.mode == "unknown_model":
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown model")
        return service_pb2.ModelReadyResponse(ready=self._host.mode != "loading")

    def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        model = self._host.model
        told = service_pb2.ModelMetadataResponse(
            name=model.name, versions=[model.version], platform=model.platform)
        name = "other" if self._host.mode == "other_input" else model.input_name
        told.inputs.add(name=name, datatype=model.input_type, shape=model.input_shape)
        for one, (datatype, shape) in model.outputs.items():
            told.outputs.add(name=one, datatype=datatype, shape=shape)
        return told

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self._check_key(context)
        host = self._host
        windows = np.frombuffer(request.raw_input_contents[0], dtype="<f4").reshape(
            request.inputs[0].shape)
        host.seen.append(windows)
        if host.mode == "400":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input")
        if host.mode == "500" or (host.mode == "memory" and len(windows) > 1):
            context.abort(grpc.StatusCode.INTERNAL, "CUDA out of memory")
        if host.mode == "slow":
            host.closing.wait(60)
        return self._answer(host.model.answers(host.mode, windows))

    def _answer(self, found: Arrays) -> Any:
        host = self._host
        answer = service_pb2.ModelInferResponse(
            model_name=host.model.name, model_version=host.model.version)
        for name, array in found.items():
            datatype = "BYTES" if host.mode == "text" else host.model.outputs.get(
                name, ("FP32", []))[0]
            entry = answer.outputs.add(name=name, datatype=datatype, shape=array.shape)
            part = array.ravel()[: -1 if host.mode == "short" else None]
            if host.mode == "huge":
                answer.raw_output_contents.append(b" " * (6 << 20))
            elif host.raw:
                answer.raw_output_contents.append(part.tobytes())
            elif datatype.startswith("INT64"):
                entry.contents.int64_contents.extend(part.tolist())
            else:
                entry.contents.fp32_contents.extend(part.tolist())
        return answer

    def _check_key(self, context: Any) -> None:
        sent = dict(context.invocation_metadata()).get("authorization", "")
        if self._host.key and sent != f"Bearer {self._host.key}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"not {sent}")


def _given(status: int, document: object, fields: dict[str, str] | None = None) -> Given:
    return Given(
        status, json.dumps(document).encode(),
        {"Content-Type": "application/json", **(fields or {})},
    )
