"""ONNX files of every shape that a card can ask for, whose answer is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Axis = int | str


def model_bytes(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any],
    constants: Sequence[Any] = (), functions: Sequence[Any] = (),
) -> bytes:
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), list(constants))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("tiny", 1)]
    model = helper.make_model(graph, opset_imports=imports, functions=list(functions))
    model.ir_version = 8
    return bytes(model.SerializeToString())


def declared(name: str, shape: Sequence[Axis], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def channel_sum_onnx(
    spatial: Sequence[Axis], *, channels: int = 1, answers: int = 2, batch: Axis = "batch",
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """Answer ``n`` is ``n`` times the sum of all channels, voxel by voxel."""
    number = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    weights = np.ones((answers, channels, *(1 for _ in spatial)), dtype=number)
    weights *= np.arange(answers).reshape(-1, *(1 for _ in weights.shape[1:])).astype(number)
    return model_bytes(
        [helper.make_node("Conv", ["image", "weights"], ["logits"])],
        [declared("image", [batch, channels, *spatial], kind)],
        [declared("logits", [batch, answers, *spatial], kind)],
        [numpy_helper.from_array(weights, "weights")],
    )


def mean_onnx(spatial: Sequence[Axis], *, channels: int = 1, answers: int = 2) -> bytes:
    """``(batch, answers)``: answer ``n`` is ``n + 1`` times the mean of the first channel."""
    weights = np.zeros((channels, answers), dtype=np.float32)
    weights[0] = np.arange(answers) + 1
    return model_bytes(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        ],
        [declared("image", ["batch", channels, *spatial])],
        [declared("logits", ["batch", answers])],
        [numpy_helper.from_array(weights, "weights")],
    )


def boxes_onnx(
    boxes: Any, scores: Any, labels: Any, *, shape: Sequence[Axis],
    names: tuple[str, str, str] = ("boxes", "scores", "labels"),
    order: tuple[int, int, int] = (0, 1, 2),
) -> bytes:
    """A detector that finds the same whatever it is shown; ``order`` is that of its outputs."""
    found = [
        np.asarray(boxes, dtype=np.float32), np.asarray(scores, dtype=np.float32),
        np.asarray(labels, dtype=np.int64),
    ]
    kinds = [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64]
    nodes = [
        helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Add", ["found0", "zero"], [names[0]]),
        helper.make_node("Identity", ["found1"], [names[1]]),
        helper.make_node("Identity", ["found2"], [names[2]]),
    ]
    constants = [numpy_helper.from_array(one, f"found{n}") for n, one in enumerate(found)]
    constants.append(numpy_helper.from_array(np.array(0, dtype=np.float32), "nothing"))
    outputs = [declared(names[n], found[n].shape, kinds[n]) for n in order]
    return model_bytes(nodes, [declared("image", shape)], outputs, constants)


def external_tensor(name: str, location: str, count: int) -> Any:
    """A tensor whose numbers lie in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[count])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor
