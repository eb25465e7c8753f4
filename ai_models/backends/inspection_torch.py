"""What a network of PyTorch takes and answers; see `ai_models.backends.inspection`.

A TorchScript file is a program: what it may call is read first, and then it is run, without a
network connection.
"""

from __future__ import annotations

import importlib
import inspect
import io
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ai_models.backends.architectures import ARCHITECTURES, build, check_architecture
from ai_models.backends.inspection import (
    NetworkFacts,
    are_boxes,
    facts_by_running,
    read_bytes,
    shown,
)
from ai_models.backends.offline import no_network
from ai_models.backends.torch_archive import check_archive
from ai_models.backends.torch_network import load_weights, prepare_torch, read_state_dict
from ai_models.backends.torch_script import check_script
from ai_models.types import FloatArray, ModelError

# What constructors call the widths of their first layer.
_WIDTHS = ("init_filters", "feature_size")


def is_torchscript(path: Path) -> bool:
    """Whether a ``.pt`` file is a program of TorchScript, and no ``state_dict``."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return any("/code/" in name for name in names) and any(
        name.endswith("/constants.pkl") for name in names
    )


def read_weights(path: Path) -> Mapping[str, Any]:
    """The tensors of a ``state_dict`` by name; others are refused in the words of the back-end.

    Raises
    ------
    ModelError
        ``model.pickle``, ``model.load_failed``, ``model.weights_missing``.
    """
    try:
        return read_state_dict(read_bytes(path), path.name)
    except ModelError:
        raise
    except Exception as error:  # torch raises plain RuntimeError, EOFError, UnpicklingError
        raise ModelError(
            f"torch cannot load {path.name}: {error}", reason="model.load_failed"
        ) from error


def inspect_torchscript(path: Path) -> NetworkFacts:
    """Runs a TorchScript file on noise of a few sizes.

    Raises
    ------
    ModelError
        ``model.load_failed``, ``model.weights_missing``, ``model.code``; as `facts_by_running`;
        ``model.network_needed``: it asked for the network.
    """
    content = read_bytes(path)
    check_script(content, path.name)
    prepare_torch()
    with no_network(path.name):
        try:
            module = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
        except RuntimeError as error:
            raise ModelError(
                f"torch cannot load {path.name}: {str(error).splitlines()[0]}",
                reason="model.load_failed",
            ) from error
        takes_list = "Tensor[]" in str(getattr(module.forward, "schema", ""))
        facts = _of_module(module, module.state_dict(), path.name, takes_list=takes_list)
    return replace(facts, told=f"TorchScript file: {facts.told}")


def inspect_torch_export(path: Path) -> NetworkFacts:
    """What a ``.pt2`` file declares, and one run of it.

    Raises
    ------
    ModelError
        ``model.load_failed``, ``model.code``, ``model.pickle``; as `facts_by_running`.
    """
    content = read_bytes(path)
    check_archive(content, path.name)
    prepare_torch()
    try:
        program = torch.export.load(io.BytesIO(content))
    except Exception as error:  # torch raises plain RuntimeError, KeyError, UnpicklingError
        raise ModelError(
            f"torch cannot load {path.name}: {error}", reason="model.load_failed"
        ) from error
    shapes = [
        node.meta["val"].shape for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    if len(shapes) != 1:
        raise ModelError(
            f"one input expected, the file has {len(shapes)}", reason="model.wrong_input"
        )
    shape = [one if isinstance(one, int) else None for one in shapes[0]]
    # Guards are lines of Python in the file.
    module: Any = program.module(check_guards=False)
    facts = facts_by_running(lambda array: _answers(module, array), shape, path.name)
    return replace(facts, told=f"torch.export file: takes {shown(shape)}, {facts.told}")


def inspect_state_dict(
    path: Path, name: str, arguments: Mapping[str, Any]
) -> tuple[NetworkFacts, dict[str, Any]]:
    """Put weights into a named architecture and run it.

    Arguments of its constructor that are not given are read off the weights, as far as they show
    there: axes, channels in and out, width of the first layer.

    Returns
    -------
    facts, arguments
        The arguments with which the weights fit.

    Raises
    ------
    ModelError
        ``model.architecture_unknown``, ``model.pickle``, ``model.load_failed``: the weights do not
        fit; as `facts_by_running`.
    """
    check_architecture(name, arguments)
    weights = read_weights(path)
    prepare_torch()
    with no_network(path.name):
        found = _arguments(name, dict(arguments), weights)
        module = _built(name, found, path.name)
        try:
            load_weights(module, weights)
        except RuntimeError as error:
            told = " ".join(str(error).split())[:400]
            raise ModelError(
                f"{path.name} does not fit {name} with {found or 'no arguments'}: give the "
                f"arguments of its constructor (--arguments). torch says: {told}",
                reason="model.load_failed",
            ) from error
        module.eval()
        facts = _of_module(module, module.state_dict(), path.name)
    count = sum(one.numel() for one in module.parameters())
    told = f"weights of {name} ({count:,} parameters): {facts.told}"
    return replace(facts, told=told), found


def _of_module(
    module: Any, weights: Mapping[str, Any], name: str, *, takes_list: bool = False
) -> NetworkFacts:
    """Runs a module whose number of axes and channels its first convolution tells."""
    shapes: list[list[int | None]] = []
    for weight in weights.values():
        if weight.ndim in (4, 5):
            axes, channels = weight.ndim - 2, int(weight.shape[1])
            # A grouped convolution has less inputs than its network.
            shapes += [[None, channels, *(None,) * axes], [None, None, *(None,) * axes]]
            break
    else:
        shapes = [[None, None, *(None,) * axes] for axes in (3, 2)]
    first: ModelError | None = None
    for shape in shapes:
        try:
            return facts_by_running(
                lambda array: _answers(module, array, takes_list=takes_list), shape, name,
                learn_edges=True,
            )
        except ModelError as error:
            first = first or error
    raise first or ModelError(f"{name} has no layers", reason="model.load_failed")


@torch.inference_mode()
def _answers(module: Any, array: FloatArray, *, takes_list: bool = False) -> Mapping[str, Any]:
    tensor = torch.from_numpy(array)
    answer = module([tensor[0]] if takes_list else tensor)
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], list):
        answer = answer[1]
    while isinstance(answer, list | tuple) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, list | tuple):
        if len(answer) == 3 and not _all_alike(answer):
            return {str(place): np.asarray(one) for place, one in enumerate(answer)}
        answer = answer[0]  # heads of deep supervision: the first is the answer
    if isinstance(answer, dict):
        if are_boxes([str(key) for key in answer]):
            return {str(key): np.asarray(one) for key, one in answer.items()}
        answer = next(iter(answer.values()))
    if not isinstance(answer, torch.Tensor):
        raise ModelError("the network answers no tensor", reason="model.wrong_output")
    return {"output": answer.float().numpy()}


def _all_alike(answers: Any) -> bool:
    return len({one.ndim for one in answers if isinstance(one, torch.Tensor)}) == 1


def _arguments(
    name: str, given: dict[str, Any], weights: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments that are given, and those that the weights show."""
    names = _parameters(name)
    convolutions = [one for one in weights.values() if one.ndim in (4, 5)]
    if "spatial_dims" in names and convolutions:
        given.setdefault("spatial_dims", convolutions[0].ndim - 2)
    channels_in = next((one for one in ("in_channels", "n_input_channels") if one in names), "")
    channels_out = next((one for one in ("out_channels", "num_classes") if one in names), "")
    likely = {key: value for key, value in ((channels_in, 1), (channels_out, 2)) if key}
    module = _built_or_none(name, {**likely, **given})
    if module is None:
        return given
    expected = {key: one for key, one in module.state_dict().items() if one.ndim > 1}
    stripped = _without_prefix(weights, expected)
    first = next((key for key, one in expected.items() if one.ndim in (4, 5)), "")
    if channels_in and first in stripped and stripped[first].ndim in (4, 5):
        given.setdefault(channels_in, int(stripped[first].shape[1]))
        for width in _WIDTHS:
            if width in names:
                given.setdefault(width, int(stripped[first].shape[0]))
    last = next(reversed(module.state_dict()), "")
    if channels_out and last in stripped:
        given.setdefault(channels_out, int(stripped[last].shape[0]))
    return {**likely, **given}


def _parameters(name: str) -> frozenset[str]:
    where = ARCHITECTURES.get(name)
    if where is None:  # a classifier of torchvision
        return frozenset({"num_classes"})
    module, _, attribute = where.partition(":")
    made = getattr(importlib.import_module(module), attribute)
    names = set(inspect.signature(made).parameters)
    for base in getattr(made, "__mro__", ())[1:]:
        # A subclass that takes **kwargs hands them on.
        names |= set(inspect.signature(getattr(base, "__init__")).parameters)  # noqa: B009
    return frozenset(names)


def _built_or_none(name: str, arguments: Mapping[str, Any]) -> Any:
    """A module with random weights; ``None`` where these arguments make none."""
    try:
        return build(name, arguments)
    except (TypeError, ValueError, RuntimeError, KeyError):
        return None


def _built(name: str, arguments: Mapping[str, Any], file: str) -> Any:
    try:
        return build(name, arguments)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"{name} cannot be made with {dict(arguments) or 'no arguments'} for {file}: give the "
            f"arguments of its constructor (--arguments): {error}", reason="model.load_failed",
        ) from error


def _without_prefix(
    weights: Mapping[str, Any], expected: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Weights by the names that the module gives them, whatever wrapper stands before."""
    for key in expected:
        for known in weights:
            if known.endswith(key):
                prefix = known.removesuffix(key)
                return {one.removeprefix(prefix): value for one, value in weights.items()}
    return weights
