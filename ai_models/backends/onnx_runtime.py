"""ONNX Runtime: CUDA where it is there and asked for, otherwise the CPU, and it says which.

The model is read from the verified bytes, so tensors kept in a second file are not found: export
with all weights inside. The file takes ``(batch, 1, *roi)`` float32 and answers
``(batch, channels, *roi)``; the batch axis may be fixed to the card's ``batch`` or dynamic.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from ai_models.backends.protocol import check_device
from ai_models.card import Card
from ai_models.trust import Site
from ai_models.types import ModelError
from ai_models.weights import read_verified_weights

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


class OnnxNetwork:
    """A network in an ONNX file."""

    fallbacks = frozenset({"batch", "offload"})

    def __init__(self, card: Card, device: str, site: Site) -> None:
        self.device = torch.device("cpu")
        self._card = card
        self._device = device
        self._session: Any = None
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Provider that is really active, and why when it is not the one asked for."""
        return self._notes

    def probe(self) -> None:
        """See `Network.probe`."""
        check_device(self._device)
        _import_onnxruntime()
        if not self._card.weights_path.is_file():
            raise ModelError(
                f"no weights at {self._card.weights_path}", reason="model.weights_missing"
            )

    def load(self) -> None:
        """See `Network.load`."""
        check_device(self._device)
        onnxruntime = _import_onnxruntime()
        content = read_verified_weights(self._card)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        # Threads that wait by spinning take the cores from the listeners and gain nothing here.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=self._providers(onnxruntime.get_available_providers())
            )
        except Exception as error:  # ONNX Runtime raises its own types without a common base
            raise ModelError(
                f"ONNX Runtime cannot load {self._card.weights_path.name}: {error}",
                reason="model.load_failed",
            ) from error
        self._check_signature()
        self._notes = self._what_runs(onnxruntime.__version__)

    def _providers(self, available: list[str]) -> list[Any]:
        if self._device == "cpu" or CUDA not in available:
            return [CPU]
        return [(CUDA, {"device_id": int(self._device.partition(":")[2])}), CPU]

    def _check_signature(self) -> None:
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{entry.name} {entry.type}" for entry in inputs)
            raise ModelError(
                f"one float32 input expected, the file has: {found}", reason="model.wrong_input"
            )
        expected = (1, *(self._card.runtime.roi or ()))
        fixed = tuple(inputs[0].shape)[1:]
        if len(fixed) != len(expected) or any(
            isinstance(length, int) and length != wanted
            for length, wanted in zip(fixed, expected, strict=True)
        ):
            raise ModelError(
                f"the file takes {list(inputs[0].shape)}, the card gives windows of "
                f"{list(expected)}", reason="model.wrong_input",
            )

    def _what_runs(self, version: str) -> tuple[str, ...]:
        active = self._session.get_providers()[0]
        notes = [f"onnxruntime {version}, {active}, fp32"]
        if self._device != "cpu" and active != CUDA:
            notes.append(f"{self._device} was asked for, but {CUDA} is not there: ran on the CPU")
        return tuple(notes)

    def run(self, windows: torch.Tensor) -> torch.Tensor:
        """See `Network.run`."""
        if self._session is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        batch = windows.numpy()
        entry = self._session.get_inputs()[0]
        size = entry.shape[0] if isinstance(entry.shape[0], int) else len(batch)
        logits = []
        for start in range(0, len(batch), size):
            part = np.zeros((size, *batch.shape[1:]), dtype=np.float32)
            here = batch[start : start + size]
            part[: len(here)] = here
            logits.append(self._session.run(None, {entry.name: part})[0][: len(here)])
        return torch.from_numpy(np.asarray(np.concatenate(logits), dtype=np.float32))

    def settle(self, *, half: bool, cpu: bool) -> None:
        """See `Network.settle`: a file fixes its own precision, and a session its device."""

    def close(self) -> None:
        """See `Network.close`."""
        self._session = None


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            "the onnxruntime package is not installed", reason="model.backend_missing"
        ) from error
    return onnxruntime
