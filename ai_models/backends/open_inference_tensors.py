"""Tensors of the Open Inference Protocol: what a host declares, sends and is believed.

The protocol is version 2 of KServe's inference protocol, which Triton, KServe, MLServer, OpenVINO
Model Server and others speak (github.com/kserve/open-inference-protocol); tensors lie row by row,
in little-endian numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ai_models.backends.http_endpoint import clean
from ai_models.backends.signature import check_input_shape, input_shape
from ai_models.backends.tiled import answered_channels
from ai_models.card import Card, ClassificationCard, DetectionCard, RegressionCard, SegmentationCard
from ai_models.card_entries import EndpointOptions
from ai_models.types import FloatArray, ModelError

Tensor = npt.NDArray[Any]
_FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
_TYPES = {
    **_FLOATS, "BOOL": "|b1", "INT8": "|i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "|u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
}
# A number takes at most 8 bytes in binary and about 25 characters in JSON.
_BYTES_EACH = 32
_BYTES_MORE = 1 << 20
_MOST_BYTES = (1 << 31) - 1
_DETECTION_BYTES = 64 << 20


@dataclass(frozen=True)
class Declared:
    """A tensor as a host says that it takes or gives it; -1 is an axis of any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Served:
    """A model as a host describes it."""

    versions: tuple[str, ...]
    platform: str
    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...]


@dataclass(frozen=True)
class Inferred:
    """An answer: which version of the model gave it (empty: not said), and tensors by name."""

    version: str
    tensors: Mapping[str, Tensor]


class Transport(Protocol):
    """One way to speak the protocol. ModelError whenever something is not as it should be."""

    name: str

    def open(self) -> None:
        """Read the key and prepare connections."""

    def look(self) -> Served:
        """Ask whether host and model are ready, and how the host describes the model."""

    def infer(self, windows: FloatArray) -> Inferred:
        """Send windows as the card's input and take the card's outputs."""

    def close(self) -> None:
        """Close connections and forget the key."""


def check_served(card: Card, options: EndpointOptions, served: Served, who: str) -> bool:
    """Compare what a host says of its model with the card; whether there is a batch axis.

    Raises
    ------
    ModelError
        ``model.endpoint_refused`` (no such version), ``model.wrong_input``, or
        ``model.wrong_output``.
    """
    if options.version and served.versions and options.version not in served.versions:
        raise ModelError(
            f"{who} has no version {options.version} of {options.model}, it has "
            f"{', '.join(served.versions)}", reason="model.endpoint_refused",
        )
    takes = ", ".join(f"{one.name} {one.datatype}" for one in served.inputs) or "nothing it names"
    named = [one for one in served.inputs if one.name == options.input]
    if len(served.inputs) != 1 or not named or named[0].datatype != "FP32":
        raise ModelError(
            f"{who} takes {takes}; one input {options.input} FP32 expected",
            reason="model.wrong_input",
        )
    gives = {one.name: one for one in served.outputs}
    for name in options.outputs:
        if name not in gives:
            raise ModelError(
                f"{who} gives {', '.join(gives) or 'nothing it names'}; {name} expected",
                reason="model.wrong_output",
            )
        if gives[name].datatype not in _TYPES:
            raise ModelError(
                f"{who} gives {name} as {gives[name].datatype}, which are no numbers",
                reason="model.wrong_output",
            )
    detects = isinstance(card, DetectionCard)
    if not detects and gives[options.outputs[0]].datatype not in _FLOATS:
        raise ModelError(
            f"{who} gives {options.outputs[0]} as {gives[options.outputs[0]].datatype}; FP32 "
            "expected", reason="model.wrong_output",
        )
    return check_input_shape(card, named[0].shape, batched=not detects)


def tensor_of_bytes(declared: Declared, content: bytes, who: str) -> Tensor:
    """A tensor from its bytes. ModelError ``model.wrong_output``: they are not its numbers."""
    kind = _kind(declared, who)
    count = _count(declared, who)
    if len(content) != count * np.dtype(kind).itemsize:
        raise ModelError(
            f"{who} gives {declared.name} {list(declared.shape)} {declared.datatype} in "
            f"{len(content)} bytes", reason="model.wrong_output",
        )
    return _checked(np.frombuffer(content, dtype=kind).reshape(declared.shape), declared, who)


def tensor_of_numbers(declared: Declared, numbers: Any, who: str) -> Tensor:
    """A tensor from a list of numbers, flat or nested."""
    kind = _kind(declared, who)
    count = _count(declared, who)
    try:
        found = np.asarray(numbers)
    except (ValueError, OverflowError) as error:  # lists of different lengths, huge numbers
        raise ModelError(
            f"{who} gives {declared.name} as something that is no tensor",
            reason="model.wrong_output",
        ) from error
    if found.size != count or (found.size and found.dtype.kind not in "iufb"):
        raise ModelError(
            f"{who} gives {declared.name} {list(declared.shape)} {declared.datatype} in "
            f"{found.size} values", reason="model.wrong_output",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        array = found.astype(kind).reshape(declared.shape)
    return _checked(array, declared, who)


def declared_of(name: object, datatype: object, shape: object, who: str) -> Declared:
    """A declaration, of whatever another host may have sent."""
    told = list(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else [None]
    lengths = [one for one in told if isinstance(one, int) and not isinstance(one, bool)]
    if len(lengths) != len(told):
        raise ModelError(f"{who} gives a tensor of no shape", reason="model.wrong_output")
    return Declared(clean(name, 128), clean(datatype, 16), tuple(lengths))


def largest_answer_bytes(card: Card) -> int:
    """How long an answer to one batch of windows may be; longer ones are not read."""
    if isinstance(card, DetectionCard):
        return _DETECTION_BYTES
    if isinstance(card, ClassificationCard | RegressionCard):
        numbers: int = card.output.channels * card.runtime.batch
    elif isinstance(card, SegmentationCard):
        edges = [edge for edge in input_shape(card)[1:] if edge is not None]
        if len(edges) < 2:
            return _MOST_BYTES
        numbers = math.prod(edges) * answered_channels(card) * card.runtime.batch
    else:
        numbers = 0
    return min(_MOST_BYTES, numbers * _BYTES_EACH + _BYTES_MORE)


def _kind(declared: Declared, who: str) -> str:
    if declared.datatype not in _TYPES:
        raise ModelError(
            f"{who} gives {declared.name} as {declared.datatype}, which are no numbers",
            reason="model.wrong_output",
        )
    return _TYPES[declared.datatype]


def _count(declared: Declared, who: str) -> int:
    if len(declared.shape) > 8 or not all(0 <= one <= _MOST_BYTES for one in declared.shape):
        raise ModelError(
            f"{who} gives {declared.name} of the shape {list(declared.shape)[:9]}",
            reason="model.wrong_output",
        )
    return math.prod(declared.shape)


def _checked(array: Tensor, declared: Declared, who: str) -> Tensor:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelError(
            f"{who} gives NaN or infinity in {declared.name}", reason="model.not_finite"
        )
    return array
