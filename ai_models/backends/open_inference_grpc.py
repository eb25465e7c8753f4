"""The Open Inference Protocol over gRPC, by the generated messages of the tritonclient package.

gRPC's core makes its own connections: the refusal of sockets in an inference worker does not see
them, so the address comes from the site's settings and from nowhere else, and neither a proxy of
the environment nor a service configuration in DNS is asked for.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ai_models.backends.http_endpoint import REFUSED, UNAVAILABLE, WRONG_OUTPUT, clean, read_key
from ai_models.backends.open_inference_tensors import (
    Declared,
    Inferred,
    Served,
    Tensor,
    declared_of,
    tensor_of_bytes,
    tensor_of_numbers,
)
from ai_models.backends.reach import address_of
from ai_models.card_entries import EndpointOptions
from ai_models.trust import Endpoint
from ai_models.types import FloatArray, ModelError

# Codes of gRPC that mean the next time as well; all others may be over in a minute.
_FOR_EVER = (
    "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED",
    "FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED",
)
# Of a certificate that is not trusted, and of one for another name.
_UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification", "peer certificate")
# Where Debian, Red Hat and Alpine keep the certificates that the system trusts.
_TRUSTED = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
)
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents",
    "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
}


class GrpcTransport:
    """Speaks to one model of one host; ``who`` names the host in messages."""

    name = "gRPC"

    def __init__(
        self, endpoint: Endpoint, options: EndpointOptions, who: str, at_most: int
    ) -> None:
        self._endpoint = endpoint
        self._address = address_of(endpoint)
        if self._address.path:
            raise ModelError(
                f"{who} is asked over gRPC: its url ends with the port",
                reason="model.endpoint_wrong",
            )
        self._options = options
        self._who = who
        self._at_most = at_most
        self._key = ""
        self._channel: Any = None
        self._stub: Any = None

    def open(self) -> None:
        """See `Transport.open`."""
        grpc, _, services = import_grpc()
        self.close()
        self._key = read_key(self._endpoint, self._who)
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.dns_enable_srv_queries", 0),
            # A channel of an earlier load may be waiting before it tries to connect again.
            ("grpc.use_local_subchannel_pool", 1),
            # The node itself waits before it asks again: the channel need not do so too.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.max_receive_message_length", self._at_most),
            ("grpc.max_send_message_length", -1),
        ]
        where = self._address.authority
        if self._address.is_encrypted:
            trusted = grpc.ssl_channel_credentials(root_certificates=_trusted_certificates())
            self._channel = grpc.secure_channel(where, trusted, options)
        else:
            self._channel = grpc.insecure_channel(where, options)
        self._stub = services.GRPCInferenceServiceStub(self._channel)

    def look(self) -> Served:
        """See `Transport.look`."""
        _, messages, _ = import_grpc()
        name = {"name": self._options.model, "version": self._options.version}
        if not self._call("ServerReady", messages.ServerReadyRequest()).ready:
            raise ModelError(f"{self._who} says that it is not ready", reason=UNAVAILABLE)
        if not self._call("ModelReady", messages.ModelReadyRequest(**name)).ready:
            raise ModelError(
                f"{self._who} says that {self._options.model} is not ready", reason=UNAVAILABLE
            )
        told = self._call("ModelMetadata", messages.ModelMetadataRequest(**name))
        return Served(
            tuple(clean(one, 32) for one in told.versions[:64]), clean(told.platform, 32),
            self._declared(told.inputs), self._declared(told.outputs),
        )

    def infer(self, windows: FloatArray) -> Inferred:
        """See `Transport.infer`."""
        _, messages, _ = import_grpc()
        array = np.ascontiguousarray(windows, dtype="<f4")
        request = messages.ModelInferRequest(
            model_name=self._options.model, model_version=self._options.version
        )
        request.inputs.add(name=self._options.input, datatype="FP32", shape=array.shape)
        for name in self._options.outputs:
            request.outputs.add(name=name)
        request.raw_input_contents.append(array.tobytes())
        answer = self._call("ModelInfer", request)
        raw = list(answer.raw_output_contents)
        if raw and len(raw) != len(answer.outputs):
            raise ModelError(
                f"{self._who} gives {len(answer.outputs)} outputs and sends {len(raw)}",
                reason=WRONG_OUTPUT,
            )
        tensors: dict[str, Tensor] = {}
        for number, (one, declared) in enumerate(
            zip(answer.outputs, self._declared(answer.outputs), strict=True)
        ):
            tensors[declared.name] = (
                tensor_of_bytes(declared, raw[number], self._who) if raw
                else tensor_of_numbers(declared, _contents(one), self._who)
            )
        return Inferred(clean(answer.model_version, 32), tensors)

    def close(self) -> None:
        """See `Transport.close`."""
        if self._channel is not None:
            self._channel.close()
        self._channel = self._stub = None
        self._key = ""

    def _declared(self, entries: Any) -> tuple[Declared, ...]:
        return tuple(
            declared_of(one.name, one.datatype, list(one.shape), self._who) for one in entries
        )

    def _call(self, method: str, request: Any) -> Any:
        if self._stub is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        grpc, _, _ = import_grpc()
        call: Callable[..., Any] = getattr(self._stub, method)
        key = (("authorization", f"Bearer {self._key}"),) if self._key else ()
        try:
            return call(request, timeout=self._endpoint.timeout_s, metadata=key)
        except grpc.RpcError as error:
            raise self._meant(error) from error

    def _meant(self, error: Any) -> ModelError:
        code = str(error.code().name)
        words = str(error.details() or "")
        if self._key:
            words = words.replace(self._key, "***")
        if any(sign in words for sign in _UNTRUSTED):
            return ModelError(f"the certificate of {self._who} is not trusted", reason=REFUSED)
        words = clean(words, 200)
        if code == "RESOURCE_EXHAUSTED" and "larger than max" in words:
            return ModelError(
                f"{self._who} answers more than {self._at_most} bytes", reason=WRONG_OUTPUT
            )
        if code == "DEADLINE_EXCEEDED":
            return ModelError(
                f"{self._who} did not answer within {self._endpoint.timeout_s:g} s",
                reason=UNAVAILABLE,
            )
        if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            words = "it does not take the key of this endpoint"
        reason = REFUSED if code in _FOR_EVER else UNAVAILABLE
        return ModelError(f"{self._who} answers {code}: {words}", reason=reason)


def import_grpc() -> tuple[Any, Any, Any]:
    """gRPC, the protocol's messages and its services.

    Raises
    ------
    ModelError
        ``model.backend_missing``: tritonclient[grpc] is not installed.
    """
    try:
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc
    except (ImportError, RuntimeError) as error:  # RuntimeError: what tritonclient makes of it
        raise ModelError(
            "the tritonclient[grpc] package is not installed (dicom-node[endpoints])",
            reason="model.backend_missing",
        ) from error
    return grpc, service_pb2, service_pb2_grpc


def _contents(entry: Any) -> Any:
    """The numbers of an output that did not come as bytes."""
    numbers = getattr(entry.contents, _CONTENTS.get(entry.datatype, "fp32_contents"))
    return np.array(numbers) if len(numbers) else []


def _trusted_certificates() -> bytes | None:
    """What the system trusts, as TLS over HTTP does too; gRPC would take a list of its own."""
    for path in (ssl.get_default_verify_paths().cafile, *_TRUSTED):
        if path and Path(path).is_file():
            return Path(path).read_bytes()
    return None
