"""What an ONNX file would read besides itself, seen before anything loads it.

ONNX Runtime reads tensors that a model keeps in a second file from the current directory when the
model comes from memory, and a compiled engine from wherever an ``EPContext`` node says: both are
weights that nobody compared with the card. So the file is walked here as the Protocol Buffers
message that it is (onnx.proto of ONNX 1.18; the numbers of its fields never change), without the
onnx package, which a node does not have.
"""

from __future__ import annotations

from collections.abc import Iterator

from ai_models.types import ModelError

# Fields that hold messages in which a tensor or a node may be, by the message they are part of.
_INSIDE = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse",
    },
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_OPERATOR, _EXTERNAL_DATA, _DATA_LOCATION = 4, 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 64


def refuse_external_data(content: bytes, name: str) -> None:
    """Refuse an ONNX file that is not all there is to the model.

    Raises
    ------
    ModelError
        ``model.external_data``; ``model.load_failed`` where it is no ONNX file.
    """
    try:
        outside = next(_outside(memoryview(content), "Model", 0), None)
    except (ValueError, IndexError) as error:
        raise ModelError(
            f"ONNX Runtime cannot load {name}: it is no ONNX file", reason="model.load_failed"
        ) from error
    if outside is not None:
        raise ModelError(
            f"{name} keeps {outside} in another file, which no SHA-256 of the card covers: export "
            "it with all weights inside, torch.onnx.export(..., external_data=False)",
            reason="model.external_data",
        )


def _outside(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("graphs within graphs beyond all bounds")
    for number, value in _fields(message):
        if kind == "Tensor" and (number == _EXTERNAL_DATA or _is_elsewhere(number, value)):
            yield "a tensor"
        elif kind == "Node" and number == _OPERATOR and isinstance(value, memoryview):
            if value.tobytes() == b"EPContext":
                yield "a compiled engine"
        elif number in _INSIDE[kind]:
            if not isinstance(value, memoryview):
                raise ValueError(f"field {number} of {kind} is no message")
            yield from _outside(value, _INSIDE[kind][number], depth + 1)


def _is_elsewhere(number: int, value: memoryview | int) -> bool:
    return number == _DATA_LOCATION and value == 1


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of every field (developers.google.com/protocol-buffers, "Encoding")."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field without a number")
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield number, value
        elif wire == _BYTES:
            length, place = _varint(message, place)
            if length > len(message) - place:
                raise ValueError("a field longer than its message")
            yield number, message[place : place + length]
            place += length
        elif wire in (_FIXED32, _FIXED64):
            place += 4 if wire == _FIXED32 else 8
            if place > len(message):
                raise ValueError("a field longer than its message")
        else:
            raise ValueError(f"wire type {wire}")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number beyond 64 bits")
