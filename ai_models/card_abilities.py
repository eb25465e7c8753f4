"""What a card may ask of which back-end. It is said here once, and held to the back-ends by tests.

A key that a back-end would not follow is refused rather than passed over: whoever wrote it
believes that it does something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_NETWORK_TASKS = ("segmentation", "classification", "regression", "detection")
_TILED = ("roi", "overlap", "batch", "mirror", "calibration")
_TORCH = (*_TILED, "precision", "ensemble")


@dataclass(frozen=True)
class Ability:
    """What one back-end does.

    Attributes
    ----------
    tasks
        The tasks that it answers.
    weights
        ``file`` or ``folder`` beside the card, ``any`` of both, or ``elsewhere``: another host's.
    suffixes
        How a file of weights ends.
    follows
        Keys that it follows; for ``grad_cam`` and ``monitor.layer`` it must show the layers of its
        network.
    fallbacks
        What it can try when memory does not suffice.
    trust
        What it may need, and what it does not run without.
    options
        Its block in ``runtime``, and whether it must be there.
    is_network
        Whether it is a plain network: it takes windows of one size, or everything at once, and
        answers channels.
    """

    tasks: tuple[str, ...] = _NETWORK_TASKS
    weights: Literal["file", "folder", "any", "elsewhere"] = "file"
    suffixes: tuple[str, ...] = ()
    follows: tuple[str, ...] = _TILED
    fallbacks: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    needed_trust: str = ""
    options: str = ""
    needs_options: bool = False
    is_network: bool = False


ABILITIES: dict[str, Ability] = {
    "onnx": Ability(
        suffixes=(".onnx",), follows=(*_TILED, "ensemble", "tensorrt", "monitor.layer"),
        fallbacks=("batch", "offload", "roi", "cpu"), is_network=True,
    ),
    "torchscript": Ability(
        suffixes=(".ts", ".pt"), follows=(*_TORCH, "channels_last"),
        fallbacks=("batch", "offload", "roi", "half", "cpu"), is_network=True,
    ),
    "state_dict": Ability(
        suffixes=(".pt", ".pth", ".safetensors"),
        follows=(*_TORCH, "channels_last", "compile", "grad_cam", "monitor.layer"),
        fallbacks=("batch", "offload", "roi", "half", "cpu"),
        options="network", needs_options=True, is_network=True,
    ),
    "torch_export": Ability(
        suffixes=(".pt2",), follows=(*_TORCH, "compile"),
        fallbacks=("batch", "offload", "half", "cpu"), is_network=True,
    ),
    "monai_bundle": Ability(
        weights="folder", follows=("roi", "overlap", "batch", "precision"),
        fallbacks=("batch", "offload", "roi", "half", "cpu"),
        trust=("remote_code", "config_exec"), needed_trust="config_exec", options="bundle",
    ),
    "nnunet": Ability(
        ("segmentation",), weights="folder", follows=("mirror",),
        fallbacks=("offload", "cpu"),
        trust=("pickle",), options="nnunet", needs_options=True,
    ),
    "huggingface": Ability(
        ("segmentation", "classification", "regression", "text"), weights="folder",
        follows=(*_TILED, "precision", "grad_cam"),
        fallbacks=("batch", "offload", "half", "cpu"), trust=("remote_code", "pickle"),
    ),
    "command": Ability(
        (*_NETWORK_TASKS, "text"), weights="any", follows=(), fallbacks=("cpu",),
        trust=("program",), needed_trust="program", options="command", needs_options=True,
    ),
    "open_inference": Ability(
        weights="elsewhere", fallbacks=("batch",), options="endpoint", needs_options=True,
        is_network=True,
    ),
    "openai": Ability(
        ("text",), weights="elsewhere", follows=(), options="endpoint", needs_options=True,
    ),
}


def a_model(backend: str) -> str:
    """``a command model``, ``an onnx model``."""
    return f"{'an' if backend.startswith(('o', 'nn')) else 'a'} {backend} model"


def backends_that(word: str) -> str:
    """The back-ends that follow a key, in a sentence."""
    return listed([name for name, one in ABILITIES.items() if word in one.follows])


def listed(words: list[str] | tuple[str, ...]) -> str:
    """``one``, ``one or two``, ``one, two or three``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} or {words[-1]}"
