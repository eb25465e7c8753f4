"""PyTorch: TorchScript and ``torch.export`` files, and weights alone of a named architecture.

A TorchScript file is a program: it is held to computing before `torch.jit.load` runs it. A
``state_dict`` is data: it is read with ``weights_only`` (or safetensors), and its architecture
comes from a table; a ``.pt2`` is held to tensor operations before it is opened. Nothing here
reaches for a network.
"""

from __future__ import annotations

import importlib
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ai_models.backends.architectures import build, check_architecture
from ai_models.backends.offline import no_network
from ai_models.backends.protocol import check_device, found_by_name
from ai_models.backends.signature import check_input_shape, fixed_batch
from ai_models.backends.tiled import is_flat
from ai_models.backends.torch_archive import check_archive
from ai_models.backends.torch_script import check_script
from ai_models.backends.watching import Watch, hook
from ai_models.card import Card, DetectionCard
from ai_models.trust import Site
from ai_models.types import ModelError
from ai_models.weights import read_verified_weights, verified_folders

_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", None: "fp32"}
# Where training frameworks put the weights, and what wrappers write before their names.
_INNER = ("state_dict", "model_state_dict", "model", "net", "network_weights")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")


class TorchNetwork:
    """A network that PyTorch runs. ``path`` and ``sha256`` name a member of an ensemble."""

    def __init__(
        self, card: Card, device: str, site: Site, path: Path | None = None, sha256: str = ""
    ) -> None:
        self.device = torch.device("cpu")
        self.fallbacks: frozenset[str] = frozenset()
        self._card = card
        self._asked = device
        self._path = path or card.weights_path
        self._sha256 = sha256
        self._home = self.device
        self._program: Any = None
        self._module: Any = None
        self._compiled: Any = None
        self._batch: int | None = None
        self._dtype: torch.dtype | None = None
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Device and precision that are really used."""
        what = f"torch {torch.__version__}, {self.device}, {_NAMES[self._dtype]}"
        return (what, *self._notes)

    def watch(self, watch: Watch, layer: str) -> None:
        """See `ShowsLayers.watch`."""
        hook(self.module, watch, layer)

    @property
    def module(self) -> torch.nn.Module:
        """The network itself, for who looks inside; ModelError before `load`."""
        if self._module is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        module: torch.nn.Module = self._module
        return module

    def probe(self) -> None:
        """See `Network.probe`."""
        check_device(self._asked)
        if not self._path.is_file():
            raise ModelError(f"no weights at {self._path}", reason="model.weights_missing")
        network = self._card.runtime.network
        if network is not None:
            check_architecture(network.name, network.arguments, network.folders)
            for part in network.folders.values():
                if not (self._card.folder / part.path / "config.json").is_file():
                    raise ModelError(
                        f"no config.json in {self._card.folder / part.path}",
                        reason="model.weights_missing",
                    )

    def load(self) -> None:
        """See `Network.load`."""
        self.probe()
        self.close()
        content = read_verified_weights(self._card, self._path, self._sha256)
        prepare_torch()
        self._home = torch.device(self._asked)
        notes = []
        if self._home.type == "cuda" and not torch.cuda.is_available():
            self._home = torch.device("cpu")
            notes.append(f"{self._asked} was asked for, but torch sees no CUDA: ran on the CPU")
        try:
            self._open(content)
        except ModelError:
            raise
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # torch raises plain RuntimeError, KeyError, UnpicklingError
            # Only what happened: behind it stands advice to load without a look at what is loaded.
            what = " ".join(str(error).partition("In PyTorch")[0].split())[:500]
            raise ModelError(
                f"torch cannot load {self._path.name}: {what}", reason="model.load_failed"
            ) from error
        asked = self._card.runtime.precision
        if asked != _NAMES[self._dtype]:
            notes.append(f"{asked} was asked for: this device computes in {_NAMES[self._dtype]}")
        self._notes = tuple(notes)
        self.fallbacks = self._able()

    def _open(self, content: bytes) -> None:
        backend, network = self._card.runtime.backend, self._card.runtime.network
        if backend == "torch_export":
            check_archive(content, self._path.name)
            self._program = torch.export.load(io.BytesIO(content))
            self._batch = self._check_program()
        elif network is None:
            check_script(content, self._path.name)
            self._module = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
        else:
            with no_network(self._card.id):
                self._module = build(
                    network.name, network.arguments, verified_folders(self._card)
                )
            load_weights(self._module, read_state_dict(content, self._path.name))
            self._module.eval()
        self._place(self._home)
        self._dtype = self._precision(half=False, cpu=False)
        if self._card.runtime.compile:
            self._compiled = torch.compile(self._module)

    def _place(self, device: torch.device) -> None:
        if self._program is not None:
            from torch.export.passes import move_to_device_pass

            self._program = move_to_device_pass(self._program, str(device))
            # Guards are lines of Python in the file.
            self._module = self._program.module(check_guards=False)
        else:
            self._module = self._module.to(device)
            if self._card.runtime.channels_last:
                self._module = self._module.to(memory_format=self._memory_format())
        self.device = device

    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last if is_flat(self._card) else torch.channels_last_3d

    def _check_program(self) -> int | None:
        shapes = [
            node.meta["val"].shape for node in self._program.graph.nodes
            if node.op == "placeholder"
            and node.name in self._program.graph_signature.user_inputs
        ]
        if len(shapes) != 1:
            raise ModelError(
                f"one input expected, the file has {len(shapes)}", reason="model.wrong_input"
            )
        check_input_shape(self._card, shapes[0], batched=not isinstance(self._card, DetectionCard))
        return fixed_batch(shapes[0])

    def _able(self) -> frozenset[str]:
        network = self._card.runtime.network
        able = {"batch", "half"}
        # Networks with a position for every voxel take one size of window only.
        if self._program is None and not (network and "img_size" in network.arguments):
            able.add("roi")
        if self._batch is not None:
            able.discard("batch")
        if self._dtype is not None:
            able.discard("half")
        if self._home.type != "cpu":
            able |= {"offload", "cpu"}
        return frozenset(able)

    def _precision(self, *, half: bool, cpu: bool) -> torch.dtype | None:
        on_cpu = cpu or self._home.type == "cpu"
        has_bf16 = on_cpu or torch.cuda.is_bf16_supported(including_emulation=False)
        if half:
            return torch.bfloat16 if has_bf16 else torch.float16
        asked = _AUTOCAST.get(self._card.runtime.precision)
        # A fall-back to the CPU is for memory: 16 bits would only be slower there.
        if on_cpu and (cpu or asked == torch.float16):
            return None
        return None if asked == torch.bfloat16 and not has_bf16 else asked

    def run(self, windows: torch.Tensor) -> torch.Tensor:
        """See `Network.run`."""
        size = self._batch or len(windows)
        if size == len(windows):
            return _logits(self._forward(windows))
        logits = []
        for start in range(0, len(windows), size):
            here = windows[start : start + size]
            part = here.new_zeros((size, *here.shape[1:]))
            part[: len(here)] = here
            logits.append(_logits(self._forward(part))[: len(here)])
        return torch.cat(logits)

    def detect(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `Network.detect`."""
        schema = str(getattr(getattr(self.module, "forward", None), "schema", ""))
        # torchvision's detectors take a list of inputs without a batch.
        answer = self._forward([image[0]] if "Tensor[]" in schema else image)
        if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], list):
            answer = answer[1]
        if isinstance(answer, list | tuple) and len(answer) == 1:
            answer = answer[0]
        if isinstance(answer, list | tuple):
            answer = {str(position): one for position, one in enumerate(answer)}
        if not isinstance(answer, dict):
            raise ModelError(
                "the network answers one tensor: boxes, scores and labels expected",
                reason="model.wrong_output",
            )
        boxes, scores, labels = found_by_name(answer)
        if boxes.ndim == 3 and len(boxes) == 1:
            return boxes[0], scores[0], labels[0]
        return boxes, scores, labels

    @torch.inference_mode()
    def _forward(self, windows: Any) -> Any:
        module = self.module
        if self._compiled is not None and self.device == self._home:
            module = self._compiled
        if isinstance(windows, torch.Tensor):
            last = self._card.runtime.channels_last and self._program is None
            windows = windows.contiguous(
                memory_format=self._memory_format() if last else torch.contiguous_format
            )
        with torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype is not None):
            return module(windows)

    def settle(self, *, half: bool, cpu: bool) -> None:
        """See `Network.settle`."""
        if self._module is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        device = torch.device("cpu") if cpu else self._home
        if device != self.device:
            self._place(device)
        self._dtype = self._precision(half=half, cpu=cpu)

    def close(self) -> None:
        """See `Network.close`."""
        self._module = self._program = self._compiled = None
        self._batch = None
        self.device = self._home = torch.device("cpu")


def prepare_torch() -> None:
    """As many threads as this process may use, and the same digits from run to run."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    # A search by timing takes another algorithm from run to run.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # Ten bits of mantissa are not the fp32 that the result says.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    # The fuser of TorchScript rewrites a network after its first runs, and with it the digits.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.set_fusion_strategy([("DYNAMIC", 0)])


def read_state_dict(content: bytes, name: str) -> Mapping[str, Any]:
    """The tensors by name of a ``.safetensors``, or of what `torch.save` wrote of tensors alone.

    Raises
    ------
    ModelError
        ``model.pickle``: the file holds other objects, and only running its code would read it;
        ``model.load_failed``; ``model.backend_missing``.
    """
    if name.endswith(".safetensors"):
        try:
            load_safetensors = importlib.import_module("safetensors.torch").load
        except ImportError as error:
            raise ModelError(
                "the safetensors package is not installed", reason="model.backend_missing"
            ) from error
        tensors: Mapping[str, Any] = load_safetensors(content)
        return tensors
    # Numbers of numpy, which training frameworks leave beside the weights, are data as well.
    scalar = importlib.import_module("numpy._core.multiarray").scalar
    numbers: list[Any] = [scalar, np.dtype, *_number_types()]
    try:
        with torch.serialization.safe_globals(numbers):
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what it raises is named after the module that it protects from
        found = str(error).partition("GLOBAL ")[2].split(" ")[0]
        if not found:
            raise
        raise ModelError(
            f"{name} holds Python objects ({found}), and reading them would run what its author "
            "wrote: save the state_dict alone, or as .safetensors", reason="model.pickle",
        ) from error
    return _tensors(loaded, name)


def _number_types() -> list[type]:
    return [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")]


def _tensors(loaded: Any, name: str) -> Mapping[str, Any]:
    for key in ("", *_INNER):
        inner = loaded.get(key) if key and isinstance(loaded, dict) else loaded
        if isinstance(inner, dict) and inner and all(
            isinstance(one, torch.Tensor) for one in inner.values()
        ):
            return inner
    raise ModelError(f"{name} holds no state_dict", reason="model.load_failed")


def load_weights(module: Any, weights: Mapping[str, Any]) -> None:
    """Put all weights into a module, whatever wrapper they were saved from; it raises as torch."""
    expected = set(module.state_dict())
    for prefix in _PREFIXES:
        if set(weights) == {f"{prefix}{name}" for name in expected}:
            weights = {name.removeprefix(prefix): one for name, one in weights.items()}
            break
        if expected == {f"{prefix}{name}" for name in weights}:
            # Of the network alone, where the module is a detector around it.
            weights = {f"{prefix}{name}": one for name, one in weights.items()}
            break
    module.load_state_dict(weights, strict=True)


def _logits(answer: Any) -> torch.Tensor:
    """The logits: of networks that answer more (heads of deep supervision), the first."""
    while isinstance(answer, list | tuple | dict) and answer:
        answer = next(iter(answer.values())) if isinstance(answer, dict) else answer[0]
    if not isinstance(answer, torch.Tensor):
        raise ModelError("the network answers no tensor", reason="model.wrong_output")
    return answer.float()
