"""ONNX Runtime: TensorRT or CUDA where it is there and asked for, otherwise the CPU, as it says.

The file takes ``(batch, channels, *spatial)`` in 32 or 16 bits and answers
``(batch, channels, *spatial)`` of a segmentation, ``(batch, channels)`` of a classification or
regression, and boxes, scores and labels of a detection, whose input may lack the batch. The batch
axis may be fixed to any number or dynamic. All weights are inside of the file
(`ai_models.backends.onnx_runtime_file`); libraries of further operators are never loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ai_models.backends.onnx_runtime_file import refuse_external_data
from ai_models.backends.protocol import check_device, found_by_name
from ai_models.backends.signature import check_input_shape, fixed_batch
from ai_models.backends.watching import Watch
from ai_models.card import Card, DetectionCard
from ai_models.trust import Site
from ai_models.types import ModelError
from ai_models.weights import read_verified_weights

TENSORRT = "TensorrtExecutionProvider"
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
_INPUTS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_OUTPUTS = ("tensor(float)", "tensor(float16)", "tensor(double)")


class OnnxNetwork:
    """A network in an ONNX file. ``path`` and ``sha256`` name a member of an ensemble."""

    def __init__(
        self, card: Card, device: str, site: Site, path: Path | None = None, sha256: str = ""
    ) -> None:
        self.device = torch.device("cpu")
        self.fallbacks = frozenset({"batch", "offload"})
        self._card = card
        self._asked = device
        self._path = path or card.weights_path
        self._sha256 = sha256
        self._session: Any = None
        self._session_device = self.device
        self._on_cpu: Any = None
        self._uses_cpu = False
        self._has_batch = True
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._notes: tuple[str, ...] = ()
        self._watch: Watch | None = None
        self._layer = ""

    def watch(self, watch: Watch, layer: str) -> None:
        """See `ShowsLayers.watch`: the layer is an output of the file, behind the first."""
        names = [one.name for one in self._loaded().get_outputs()]
        if layer not in names[1:]:
            raise ModelError(
                f"no further output {layer}; the file has {', '.join(names[1:]) or 'one only'}",
                reason="model.wrong_layer",
            )
        self._watch, self._layer = watch, layer

    @property
    def notes(self) -> tuple[str, ...]:
        """Provider that is really active, and why when it is not the one asked for."""
        return self._notes

    def probe(self) -> None:
        """See `Network.probe`."""
        check_device(self._asked)
        import_onnxruntime()
        if not self._path.is_file():
            raise ModelError(f"no weights at {self._path}", reason="model.weights_missing")

    def load(self) -> None:
        """See `Network.load`."""
        check_device(self._asked)
        onnxruntime = import_onnxruntime()
        self.close()
        self._session = self._open(self._providers(onnxruntime.get_available_providers()))
        self._has_batch = self._check_signature()
        active = self._session.get_providers()
        if CUDA in active and torch.cuda.is_available():
            self._session_device = torch.device(self._asked)
        self.device = self._session_device
        self.fallbacks = self._able(active)
        self._notes = self._what_runs(onnxruntime.__version__, active)

    def _open(self, providers: list[Any]) -> Any:
        onnxruntime = import_onnxruntime()
        content = read_verified_weights(self._card, self._path, self._sha256)
        refuse_external_data(content, self._path.name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        # Threads that wait by spinning take the cores from the listeners and gain nothing here.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # ONNX Runtime raises its own types without a common base
            raise ModelError(
                f"ONNX Runtime cannot load {self._path.name}: {error}", reason="model.load_failed"
            ) from error

    def _providers(self, available: list[str]) -> list[Any]:
        if self._asked == "cpu" or CUDA not in available:
            return [CPU]
        number = int(self._asked.partition(":")[2])
        cuda = {
            "device_id": number,
            # A search by timing takes another algorithm, and so other digits, from run to run.
            "cudnn_conv_algo_search": "HEURISTIC",
            # Ten bits of mantissa are not the fp32 that the result says.
            "use_tf32": "0",
            # Several warm models share the device: none takes twice what it needs.
            "arena_extend_strategy": "kSameAsRequested",
        }
        providers: list[Any] = [(CUDA, cuda), CPU]
        if self._card.runtime.tensorrt and TENSORRT in available:
            # An engine is code for the device: none is read from a file that nobody verified.
            engine = {
                "device_id": number, "trt_engine_cache_enable": False,
                "trt_timing_cache_enable": False, "trt_fp16_enable": False,
            }
            providers.insert(0, (TENSORRT, engine))
        return providers

    def _check_signature(self) -> bool:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or inputs[0].type not in _INPUTS:
            found = ", ".join(f"{entry.name} {entry.type}" for entry in inputs)
            raise ModelError(
                f"one float32 input expected, the file has: {found}", reason="model.wrong_input"
            )
        detects = isinstance(self._card, DetectionCard)
        if not detects and outputs[0].type not in _OUTPUTS:
            raise ModelError(
                f"a float32 output expected, the file has: {outputs[0].name} {outputs[0].type}",
                reason="model.wrong_output",
            )
        return check_input_shape(self._card, inputs[0].shape, batched=not detects)

    def _able(self, active: list[str]) -> frozenset[str]:
        batch, *edges = self._session.get_inputs()[0].shape
        able = {"offload"}
        if not isinstance(batch, int):
            able.add("batch")
        if not any(isinstance(edge, int) for edge in edges[1:]):
            able.add("roi")
        if CUDA in active:
            able.add("cpu")
        return frozenset(able)

    def _what_runs(self, version: str, active: list[str]) -> tuple[str, ...]:
        bits = "fp32" if self._session.get_inputs()[0].type == "tensor(float)" else "fp16"
        notes = [f"onnxruntime {version}, {active[0]}, {bits}"]
        if self._asked != "cpu" and CUDA not in active:
            notes.append(f"{self._asked} was asked for, but {CUDA} is not there: ran on the CPU")
        if self._card.runtime.tensorrt and TENSORRT not in active:
            notes.append(f"TensorRT was asked for, but {TENSORRT} is not there")
        return tuple(notes)

    def run(self, windows: torch.Tensor) -> torch.Tensor:
        """See `Network.run`."""
        session = self._loaded()
        size = fixed_batch(session.get_inputs()[0].shape) or len(windows)
        logits = []
        for start in range(0, len(windows), size):
            here = windows[start : start + size]
            part = here
            if len(here) < size:
                part = here.new_zeros((size, *here.shape[1:]))
                part[: len(here)] = here
            logits.append(self._answer(part, len(here))[: len(here)])
        return torch.cat(logits) if len(logits) != 1 else logits[0]

    def detect(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `Network.detect`."""
        session = self._loaded()
        entry = session.get_inputs()[0]
        array = self._array(image if self._has_batch else image[0], entry.type)
        names = [one.name for one in session.get_outputs() if one.name != self._layer]
        answers = self._ran(session, names, {entry.name: array}, len(array))
        boxes, scores, labels = found_by_name({
            name: torch.from_numpy(np.asarray(answer))
            for name, answer in zip(names, answers, strict=True)
        })
        if boxes.ndim == 3 and len(boxes) == 1:
            boxes, scores, labels = boxes[0], scores[0], labels[0]
        return boxes.to(self.device), scores.to(self.device), labels.to(self.device)

    def settle(self, *, half: bool, cpu: bool) -> None:
        """See `Network.settle`: a file fixes its own precision; the CPU has its own session."""
        if cpu and "cpu" in self.fallbacks and self._on_cpu is None:
            self._on_cpu = self._open([CPU])
        self._uses_cpu = cpu and self._on_cpu is not None
        self.device = torch.device("cpu") if self._uses_cpu else self._session_device

    def close(self) -> None:
        """See `Network.close`."""
        self._session = self._on_cpu = None
        self.device = self._session_device = torch.device("cpu")
        self._uses_cpu = False
        self._watch, self._layer = None, ""
        self._shapes.clear()

    def _loaded(self) -> Any:
        if self._session is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        return self._on_cpu if self._uses_cpu else self._session

    def _ran(
        self, session: Any, names: list[str], feed: dict[str, npt.NDArray[Any]], count: int
    ) -> list[Any]:
        """Outputs by these names; the watch sees ``count`` inputs, the others are padding."""
        if self._watch is None:
            answers: list[Any] = session.run(names, feed)
            return answers
        *answers, seen = session.run([*names, self._layer], feed)
        self._watch.add(torch.from_numpy(np.asarray(seen)[:count]))
        return answers

    def _answer(self, windows: torch.Tensor, count: int) -> torch.Tensor:
        session = self._loaded()
        entry, answered = session.get_inputs()[0], session.get_outputs()[0]
        known = self._shapes.get(tuple(windows.shape))
        plain = entry.type == answered.type == "tensor(float)"
        # What is watched passes through the host's memory: its shape is not known before.
        if known is not None and plain and windows.device.type == "cuda" and self._watch is None:
            return run_bound(session, windows, known)
        feed = {entry.name: self._array(windows, entry.type)}
        answer = self._ran(session, [answered.name], feed, count)[0]
        self._shapes[tuple(windows.shape)] = tuple(answer.shape)
        return torch.from_numpy(np.asarray(answer, dtype=np.float32)).to(windows.device)

    @staticmethod
    def _array(windows: torch.Tensor, kind: str) -> npt.NDArray[Any]:
        return np.ascontiguousarray(windows.cpu().numpy(), dtype=_INPUTS[kind])


def run_bound(session: Any, windows: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Run a session on windows where they lie: nothing passes through the host's memory.

    Parameters
    ----------
    session
        With one float32 input and a first output that is float32.
    shape
        Of the first output, as an earlier run on windows of this shape gave it.
    """
    windows = windows.contiguous()
    logits = torch.empty(shape, dtype=torch.float32, device=windows.device)
    kind, number = windows.device.type, windows.device.index or 0
    binding = session.io_binding()
    for bind, name, tensor in (
        (binding.bind_input, session.get_inputs()[0].name, windows),
        (binding.bind_output, session.get_outputs()[0].name, logits),
    ):
        bind(name, kind, number, np.float32, tuple(tensor.shape), tensor.data_ptr())
    if kind == "cuda":
        # ONNX Runtime has a stream of its own, which does not wait for torch's.
        torch.cuda.current_stream(windows.device).synchronize()
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    return logits


def import_onnxruntime() -> Any:
    """The onnxruntime package. ModelError ``model.backend_missing`` where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            "the onnxruntime package is not installed", reason="model.backend_missing"
        ) from error
    return onnxruntime
