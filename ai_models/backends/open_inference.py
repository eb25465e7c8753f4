"""A network that another host serves by the Open Inference Protocol, over HTTP or gRPC.

Windows go there, logits come back; geometry, activation and labels stay here. A request holds an
array and the names of the card, and nothing else. The host says which version of the model
answered; two versions never make one result.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ai_models.backends.http_endpoint import UNAVAILABLE, WRONG_OUTPUT, import_httpx, read_key
from ai_models.backends.open_inference_grpc import GrpcTransport, import_grpc
from ai_models.backends.open_inference_http import HttpTransport
from ai_models.backends.open_inference_tensors import (
    Inferred,
    Served,
    Transport,
    check_served,
    largest_answer_bytes,
)
from ai_models.backends.protocol import check_device, found_by_name
from ai_models.backends.reach import address_of, endpoint_of
from ai_models.backends.signature import fixed_batch
from ai_models.card import Card
from ai_models.card_entries import EndpointOptions
from ai_models.trust import Site
from ai_models.types import ModelError


class OpenInferenceNetwork:
    """A network of another host. ``path`` and ``sha256`` must be empty: it has no files here."""

    # The host may have too little memory as well, and says so.
    fallbacks = frozenset({"batch"})

    def __init__(
        self, card: Card, device: str, site: Site, path: Path | None = None, sha256: str = ""
    ) -> None:
        self.device = torch.device("cpu")
        self._card = card
        self._asked = device
        self._site = site
        self._is_member = path is not None or bool(sha256)
        self._transport: Transport | None = None
        self._has_batch = True
        self._batch: int | None = None
        self._version = ""
        self._served = Served((), "", (), ())
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Which model in which version on which host, and that nobody here saw its weights."""
        return self._notes

    @property
    def served_version(self) -> str:
        """Which version answered last; empty where the host does not say."""
        return self._version

    def probe(self) -> None:
        """See `Network.probe`: the host is configured; it is not asked."""
        check_device(self._asked)
        if self._is_member:
            raise ModelError(
                "a model of another host has no weights.ensemble here", reason="model.task"
            )
        endpoint = endpoint_of(self._card, self._site)
        if address_of(endpoint).scheme in ("grpc", "grpcs"):
            import_grpc()
        else:
            import_httpx()
        read_key(endpoint, self._who())
        self._new_transport()

    def load(self) -> None:
        """See `Network.load`: host and model are ready and fit the card."""
        self.probe()
        self.close()
        transport = self._new_transport()
        transport.open()
        try:
            served = transport.look()
            self._has_batch = check_served(self._card, self._options(), served, self._who())
        except ModelError:
            transport.close()
            raise
        self._batch = fixed_batch(served.inputs[0].shape) if self._has_batch else None
        self._transport, self._served, self._version = transport, served, ""
        self._notes = self._what_runs(self._options().version)

    def run(self, windows: torch.Tensor) -> torch.Tensor:
        """See `Network.run`."""
        size = self._batch or len(windows)
        name = self._options().outputs[0]
        logits = []
        for start in range(0, len(windows), size):
            here = windows[start : start + size]
            part = here
            if len(here) < size:
                part = here.new_zeros((size, *here.shape[1:]))
                part[: len(here)] = here
            answer = self._infer(part).tensors[name]
            if answer.ndim < 1 or len(answer) != size:
                raise ModelError(
                    f"{self._who()} gives {name} {list(answer.shape)} for {size} windows",
                    reason=WRONG_OUTPUT,
                )
            logits.append(torch.from_numpy(np.array(answer[: len(here)], dtype=np.float32)))
        return torch.cat(logits)

    def detect(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `Network.detect`."""
        inferred = self._infer(image if self._has_batch else image[0])
        boxes, scores, labels = found_by_name({
            name: torch.from_numpy(np.array(inferred.tensors[name], dtype=np.float32))
            for name in self._options().outputs
        })
        if boxes.ndim == 3 and len(boxes) == 1:
            boxes, scores, labels = boxes[0], scores[0], labels[0]
        return boxes, scores, labels

    def settle(self, *, half: bool, cpu: bool) -> None:
        """See `Network.settle`: what the host computes in, and on, is its own affair."""

    def close(self) -> None:
        """See `Network.close`."""
        if self._transport is not None:
            self._transport.close()
        self._transport = None

    def _options(self) -> EndpointOptions:
        if self._card.runtime.endpoint is None:
            raise ModelError(
                f"{self._card.id} names no runtime.endpoint", reason="model.endpoint_unknown"
            )
        return self._card.runtime.endpoint

    def _who(self) -> str:
        return f"the host {self._options().name}"

    def _new_transport(self) -> Transport:
        endpoint = endpoint_of(self._card, self._site)
        is_grpc = address_of(endpoint).scheme in ("grpc", "grpcs")
        kind = GrpcTransport if is_grpc else HttpTransport
        return kind(endpoint, self._options(), self._who(), largest_answer_bytes(self._card))

    def _infer(self, windows: torch.Tensor) -> Inferred:
        if self._transport is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        array = windows.detach().cpu().numpy()
        if not np.isfinite(array).all():
            raise ModelError("the input holds NaN or infinity", reason="input.not_finite")
        inferred = self._transport.infer(array)
        missing = [name for name in self._options().outputs if name not in inferred.tensors]
        if missing:
            raise ModelError(f"{self._who()} does not give {missing[0]}", reason=WRONG_OUTPUT)
        self._keep_version(inferred.version)
        return inferred

    def _keep_version(self, version: str) -> None:
        """Refuse an answer of another version than the one before, and go on with the new one.

        The job that was under way is tried again, and is then of one version from its first
        window on.
        """
        wanted, before = self._options().version, self._version
        if wanted and version and version != wanted:
            raise ModelError(
                f"{self._who()} answers with version {version}, the card says {wanted}",
                reason=WRONG_OUTPUT,
            )
        if version == before:
            return
        self._version = version
        self._notes = self._what_runs(version)
        if before:
            raise ModelError(
                f"{self._who()} went from version {before} of {self._options().model} to "
                f"{version or 'one it does not name'} meanwhile", reason=UNAVAILABLE,
            )

    def _what_runs(self, version: str) -> tuple[str, ...]:
        options, served = self._options(), self._served
        kind = HttpTransport.name if self._transport is None else self._transport.name
        which = f" version {version}" if version else ""
        platform = f" ({served.platform})" if served.platform else ""
        return (
            f"{options.model}{which} on the host {options.name}{platform}, by {kind}, fp32",
            "its weights lie on that host: their SHA-256 was not checked here",
        )
