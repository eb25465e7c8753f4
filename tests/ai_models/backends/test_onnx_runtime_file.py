"""An ONNX file that is not all of its model is refused before anything reads the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ai_models.backends.onnx_runtime import OnnxNetwork
from ai_models.backends.onnx_runtime_file import refuse_external_data
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.backends.tiny_onnx import (
    boxes_onnx,
    channel_sum_onnx,
    declared,
    external_tensor,
    mean_onnx,
    model_bytes,
)
from tests.ai_models.tiny_models import threshold_onnx, write_model

SHAPE = ["batch", 1, 16, 16, 16]
IMAGE, LOGITS = declared("image", SHAPE), declared("logits", SHAPE)
SHIFT = external_tensor("shift", "numbers.bin", 1)


def model_with(node: Any, *constants: Any, functions: tuple[Any, ...] = ()) -> bytes:
    last = helper.make_node("Add", ["image", "shift"], ["logits"])
    nodes = [last] if node is None else [node, last]
    return model_bytes(nodes, [IMAGE], [LOGITS], constants, functions)


def branches() -> Any:
    """``If`` with a constant in each branch, the second one's in another file."""
    inside = numpy_helper.from_array(np.ones(1, dtype=np.float32), "shift")
    first, second = (
        helper.make_graph(
            [helper.make_node("Constant", [], [name], value=value)], name, [],
            [declared(name, [1])],
        )
        for name, value in (("a", inside), ("b", SHIFT))
    )
    return helper.make_node("If", ["yes"], ["shift"], then_branch=first, else_branch=second)


def function() -> Any:
    constant = helper.make_node("Constant", [], ["out"], value=SHIFT)
    return helper.make_function(
        "tiny", "Shift", [], ["out"], [constant], [helper.make_opsetid("", 17)])


def sparse_constant() -> Any:
    values = external_tensor("values", "numbers.bin", 1)
    indices = numpy_helper.from_array(np.zeros((1, 1), dtype=np.int64), "indices")
    sparse = helper.make_sparse_tensor(values, indices, [1])
    return helper.make_node("Constant", [], ["shift"], sparse_value=sparse)


YES = numpy_helper.from_array(np.array(True), "yes")
ELSEWHERE = {
    "weights": model_with(None, SHIFT),
    "constant": model_with(helper.make_node("Constant", [], ["shift"], value=SHIFT)),
    "sparse": model_with(sparse_constant()),
    "branch": model_with(branches(), YES),
    "function": model_with(
        helper.make_node("Shift", [], ["shift"], domain="tiny"), functions=(function(),)),
}


@pytest.mark.parametrize("place", ELSEWHERE)
def test_tensor_in_another_file_is_refused(place: str) -> None:
    with pytest.raises(ModelError, match=r"weights\.onnx keeps a tensor in another") as caught:
        refuse_external_data(ELSEWHERE[place], "weights.onnx")
    assert caught.value.reason == "model.external_data"
    assert "torch.onnx.export(..., external_data=False)" in str(caught.value)


def test_file_beside_the_process_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ONNX Runtime alone takes it: it looks in the current directory."""
    monkeypatch.chdir(tmp_path)
    np.ones(1, dtype=np.float32).tofile("numbers.bin")
    card = load_card(write_model(tmp_path / "m", ELSEWHERE["weights"]))
    with pytest.raises(ModelError, match="all weights inside") as caught:
        OnnxNetwork(card, "cpu", Site()).load()
    assert caught.value.reason == "model.external_data"


def test_location_alone_makes_a_tensor_external() -> None:
    tensor = TensorProto(name="shift", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError) as caught:
        refuse_external_data(model_with(None, tensor), "x.onnx")
    assert caught.value.reason == "model.external_data"


def test_compiled_engine_in_another_file_is_refused() -> None:
    node = helper.make_node(
        "EPContext", ["image"], ["logits"], domain="com.microsoft", embed_mode=0,
        ep_cache_context="engine.bin")
    with pytest.raises(ModelError, match="a compiled engine") as caught:
        refuse_external_data(model_bytes([node], [IMAGE], [LOGITS]), "x.onnx")
    assert caught.value.reason == "model.external_data"


@pytest.mark.parametrize("content", [
    threshold_onnx(0.5, convolutions=2), channel_sum_onnx(["s", 16, "c"], channels=3),
    mean_onnx([8, 8]), boxes_onnx(np.zeros((0, 6)), [], [], shape=SHAPE),
], ids=["threshold", "sum", "mean", "boxes"])
def test_file_that_is_all_of_its_model_is_taken(content: bytes) -> None:
    refuse_external_data(content, "x.onnx")


@pytest.mark.parametrize("content", [
    b"not a network", b"\x3a\x7f", b"\x3a", b"\x38\x01", b"\x00", b"\x0f", b"\x09\x01",
    b"\x08" + b"\xff" * 11, threshold_onnx(0.5)[:-3],
])
def test_bytes_that_are_no_message_are_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="no ONNX file") as caught:
        refuse_external_data(content, "x.onnx")
    assert caught.value.reason == "model.load_failed"


def test_graphs_within_graphs_end_somewhere() -> None:
    """Model > graph > node > attribute > graph > node ..., deeper than any model."""
    def field(number: int, content: bytes) -> bytes:
        length, parts = len(content), b""
        while length > 0x7F:
            parts += bytes([length & 0x7F | 0x80])
            length >>= 7
        return bytes([number << 3 | 2]) + parts + bytes([length]) + content

    graph = b""
    for _ in range(400):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(ModelError) as caught:
        refuse_external_data(field(7, graph), "x.onnx")
    assert caught.value.reason == "model.load_failed"
