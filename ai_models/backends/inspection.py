"""What a network takes and answers, found out by reading its file and running it on noise.

For whoever writes the card of a model that has none yet. A shape that the file declares is
believed; the rest is learned from a few runs of small inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ai_models.backends.onnx_runtime import import_onnxruntime
from ai_models.backends.onnx_runtime_file import refuse_external_data
from ai_models.types import FloatArray, ModelError

Edges = tuple[int | None, ...]
Run = Callable[[FloatArray], Mapping[str, Any]]
# What networks are trained with, the likeliest and the quick ones first.
_EDGES = {
    3: (64, 96, 32, 128, 48, 160),
    2: (224, 256, 64, 512, 96, 128, 384, 299, 320, 448),
}
_OTHER_EDGES = {3: (32, 96, 128), 2: (64, 256, 320)}
_CHANNELS = (1, 3, 2, 4)
_NOISE = 3.0
_BOX_NAMES = ("box", "score", "label")


@dataclass(frozen=True)
class NetworkFacts:
    """A network from outside.

    Attributes
    ----------
    channels
        That it takes.
    edges
        Its input's spatial axes: a fixed length, or ``None`` for any.
    tried
        Edges of an input that it answered; where lengths are free, a size that works.
    answers
        ``voxels``: a value for each voxel and channel; ``numbers``: one for each channel;
        ``boxes``: boxes, scores and labels.
    answered
        Channels, or numbers, that it answers; 0 of boxes.
    looks
        Of answers to noise: ``exclusive`` probabilities (they sum to 1 over the channels),
        ``independent`` ones (between 0 and 1), or neither (``logits``).
    input_name, output_names
        As the file, or a host, calls them.
    told
        One line for people.
    """

    channels: int
    edges: Edges
    tried: tuple[int, ...]
    answers: Literal["voxels", "numbers", "boxes"]
    answered: int
    looks: Literal["exclusive", "independent", "logits"]
    input_name: str = "input"
    output_names: tuple[str, ...] = ("output",)
    told: str = ""


def inspect_onnx(path: Path) -> NetworkFacts:
    """What an ONNX file says of itself, and one run of it.

    Raises
    ------
    ModelError
        ``model.backend_missing``, ``model.weights_missing``, ``model.load_failed``,
        ``model.external_data``; ``model.wrong_input``, ``model.wrong_output``: no card can
        describe it.
    """
    onnxruntime = import_onnxruntime()
    content = read_bytes(path)
    refuse_external_data(content, path.name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime raises its own types without a common base
        raise ModelError(
            f"ONNX Runtime cannot load {path.name}: {error}", reason="model.load_failed"
        ) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    if len(inputs) != 1 or inputs[0].type not in kinds:
        found = ", ".join(f"{entry.name} {entry.type}" for entry in inputs)
        raise ModelError(
            f"one float32 input expected, the file has: {found}", reason="model.wrong_input"
        )
    names = [entry.name for entry in outputs]
    kind, has_batch = kinds[inputs[0].type], True
    shape = [one if isinstance(one, int) and one > 0 else None for one in inputs[0].shape]
    if are_boxes(names) and len(shape) == _box_axes(outputs) + 1:
        has_batch, shape = False, [None, *shape]  # a detector that takes one input alone

    def run(array: FloatArray) -> Mapping[str, Any]:
        given = array.astype(kind)
        return dict(zip(names, session.run(names, {
            inputs[0].name: given if has_batch else given[0],
        }), strict=True))

    facts = facts_by_running(run, shape, path.name)
    declared = "; ".join(f"{one.name} {shown(one.shape)}" for one in outputs)
    return replace(
        facts, input_name=inputs[0].name, output_names=tuple(names),
        told=f"ONNX file: takes {inputs[0].name} {shown(inputs[0].shape)}, answers {declared}",
    )


def facts_by_running(
    run: Run, shape: Sequence[int | None], name: str, *, learn_edges: bool = False
) -> NetworkFacts:
    """Run a network on noise until it answers.

    Parameters
    ----------
    run
        Noise ``(batch, channels, *spatial)`` to arrays by name; it raises what it likes.
    shape
        ``(batch, channels, *spatial)``; ``None`` where the length is not known. A batch that is
        fixed is kept.
    learn_edges
        Whether unknown edges may be fixed all the same: then other ones are tried as well.

    Raises
    ------
    ModelError
        ``model.wrong_input``: it answers none of what was tried; ``model.wrong_output``: no card
        can say what it answers.
    """
    axes = len(shape) - 2
    if axes not in _EDGES:
        raise ModelError(
            f"{name} takes {shown(shape)}: batch, channels and two or three axes expected",
            reason="model.wrong_input",
        )
    batch, told, answers = shape[0] or 1, "", None
    for channels, edges in _attempts(shape):
        try:
            answers = run(_noise((batch, channels, *edges)))
        except Exception as error:  # noqa: BLE001 - whatever a library says of a wrong shape
            told = told or " ".join(str(error).split())[:200]
            continue
        break
    if answers is None:
        raise ModelError(
            f"{name} answers none of the sizes that were tried; of the first it said: {told}",
            reason="model.wrong_input",
        )
    kind, answered, looks = _judged(answers, edges, name)
    free = [fixed is None for fixed in shape[2:]]
    if learn_edges and any(free) and not _takes_other(run, batch, channels, edges):
        free = [False] * axes
    lengths = tuple(
        None if one else edge for one, edge in zip(free, edges, strict=True)
    )
    names = tuple(str(one) for one in answers)
    return NetworkFacts(
        channels, lengths, edges, kind, answered, looks, "input", names,
        f"takes {channels} channel(s) of {shown(lengths)}, answers {answered} ({kind})",
    )


def _attempts(shape: Sequence[int | None]) -> Iterator[tuple[int, tuple[int, ...]]]:
    axes = len(shape) - 2
    channels = (shape[1],) if shape[1] else _CHANNELS
    for edge in _EDGES[axes] if None in shape[2:] else (0,):
        for one in channels:
            yield one, tuple(fixed or edge for fixed in shape[2:])


def _takes_other(run: Run, batch: int, channels: int, edges: tuple[int, ...]) -> bool:
    """Whether a size other than the one that worked works as well."""
    return any(
        _answers(run, (batch, channels, *(edge for _ in edges)))
        for edge in _OTHER_EDGES[len(edges)] if edge not in edges
    )


def _answers(run: Run, shape: Sequence[int]) -> bool:
    try:
        run(_noise(shape))
    except Exception:  # noqa: BLE001 - whatever a library says of a wrong shape
        return False
    return True


def _judged(
    answers: Mapping[str, Any], edges: tuple[int, ...], name: str
) -> tuple[Any, int, Any]:
    """Kind, channels and look of an answer."""
    if are_boxes(list(answers)) or (len(answers) == 3 and _has_boxes(answers)):
        return "boxes", 0, "logits"
    first = np.asarray(next(iter(answers.values()), np.empty(0)))
    if first.ndim == len(edges) + 2 and first.shape[2:] == edges:
        return "voxels", first.shape[1], _look(first)
    if first.ndim >= 2 and first.size == first.shape[0] * first.shape[1]:
        return "numbers", first.shape[1], _look(first.reshape(first.shape[:2]))
    raise ModelError(
        f"{name} answers {shown(first.shape)} to {shown(edges)}: as many voxels as it was given, "
        "or numbers (batch, channels), expected", reason="model.wrong_output",
    )


def _look(answer: FloatArray) -> str:
    if not np.isfinite(answer).all() or answer.min() < 0 or answer.max() > 1:
        return "logits"
    if answer.shape[1] > 1 and np.allclose(answer.sum(axis=1), 1, atol=1e-3):
        return "exclusive"
    return "independent"


def are_boxes(names: Sequence[str]) -> bool:
    """Whether outputs are named as those of a detector."""
    return len(names) >= 3 and all(any(part in one.lower() for one in names) for part in _BOX_NAMES)


def _has_boxes(answers: Mapping[str, Any]) -> bool:
    shapes = [np.asarray(one).shape for one in answers.values()]
    return any(shape[-1:] in ((4,), (6,)) and len(shape) in (2, 3) for shape in shapes)


def _box_axes(outputs: Sequence[Any]) -> int:
    widths = [one.shape[-1] for one in outputs if "box" in one.name.lower() and one.shape]
    return 2 if 4 in widths else 3


def _noise(shape: Sequence[int]) -> FloatArray:
    random = np.random.default_rng(0)
    return np.asarray(_NOISE * random.standard_normal(shape), dtype=np.float32)


def read_bytes(path: Path) -> bytes:
    """A file. ModelError ``model.weights_missing`` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}", reason="model.weights_missing"
        ) from error


def shown(shape: Sequence[object]) -> str:
    """A shape for people: ``[batch, 1, 96, 96, 96]``, ``any`` where nothing is said."""
    told = [
        "any" if one is None or (isinstance(one, int) and one < 0) else str(one) for one in shape
    ]
    return f"[{', '.join(told)}]"
