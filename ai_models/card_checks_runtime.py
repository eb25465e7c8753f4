"""What in ``runtime``, ``weights`` and ``trust`` of a card cannot go together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ai_models.card_abilities import ABILITIES, Ability, a_model, backends_that, listed
from ai_models.card_checks_input import axis_count
from ai_models.card_runtime import EndpointOptions
from ai_models.types import ModelError

if TYPE_CHECKING:
    from ai_models.card import Card

Problems = Iterator[tuple[str, str]]

_OPTIONS = ("network", "bundle", "nnunet", "command", "endpoint")
_NEEDED = {
    "network": "a state_dict needs the architecture it belongs to",
    "nnunet": "which folds are averaged is said here",
    "command": "the program and its arguments are said here",
    "endpoint": "who serves the model is said here",
}
_SETTLED = ("overlap", "batch", "precision", "channels_last", "compile", "tensorrt")
_TRUST = ("remote_code", "config_exec", "pickle", "program")


def runtime_problems(card: Card) -> Problems:
    """Key path and sentence of each."""
    backend = card.runtime.backend
    ability = ABILITIES[backend]
    if card.task not in ability.tasks:
        yield "runtime.backend", (
            f"{a_model(backend)} answers {listed(ability.tasks)}, the task is {card.task}"
        )
    if backend == "huggingface" and card.task != "text" and axis_count(card.input) != 2:
        yield "input.ndim", "a Hugging Face network takes images or slices: 2 expected"
    yield from _options(card, ability)
    yield from _settled(card, ability)
    yield from _windows(card, ability)
    yield from _fallbacks(card, ability)
    yield from _trust(card, ability)


def weights_problems(card: Card, folder: Path) -> Problems:
    """The same of the weights beside a card in this folder."""
    weights, backend = card.weights, card.runtime.backend
    ability = ABILITIES[backend]
    if ability.weights == "elsewhere":
        if weights.path is not None:
            yield "weights.path", f"another host has the weights of {a_model(backend)}: no path"
    elif weights.path is None:
        yield "weights.path", f"{a_model(backend)} has its weights beside the card"
    else:
        yield from _place("weights.path", weights.path, folder, backend)
        if weights.sha256 is None:
            yield "weights.sha256", (
                "required and absent: nothing is loaded that was not compared. " + _digest(
                    folder / weights.path
                )
            )
    if weights.ensemble and "ensemble" not in ability.follows:
        yield "weights.ensemble", f"{backends_that('ensemble')} expected of an ensemble"
    elif weights.ensemble and card.task == "detection":
        yield "weights.ensemble", "boxes are not averaged"
    known = [weights.path]
    for position, member in enumerate(weights.ensemble):
        here = f"weights.ensemble[{position}].path"
        yield from _place(here, member.path, folder, backend)
        if member.path in known:
            yield here, f"{member.path} is there already"
        known.append(member.path)
    folders = card.runtime.network.folders if card.runtime.network is not None else {}
    for name, part in folders.items():
        here = f"runtime.network.folders.{name}.path"
        if Path(part.path).is_absolute() or not (
            (folder / part.path).resolve().is_relative_to(folder.resolve())
        ):
            yield here, "must lie in the folder of the card"
        elif part.path in known:
            yield here, f"{part.path} is there already"
        known.append(part.path)


def _digest(weights: Path) -> str:
    """What to write, if these are the weights that were meant."""
    from ai_models.weights import file_sha256, folder_sha256

    try:
        found = folder_sha256(weights) if weights.is_dir() else file_sha256(weights)
    except ModelError as error:
        return str(error)
    return f"Of what is at {weights.name} now it is {found}"


def _place(key_path: str, path: str, folder: Path, backend: str) -> Problems:
    ability, there = ABILITIES[backend], folder / path
    if Path(path).is_absolute() or not there.resolve().is_relative_to(folder.resolve()):
        yield key_path, "must lie in the folder of the card"
    elif ability.suffixes and Path(path).suffix not in ability.suffixes:
        yield key_path, f"the file of {a_model(backend)} ends in {listed(ability.suffixes)}"
    elif ability.weights == "file" and there.is_dir():
        yield key_path, f"{a_model(backend)} is a file, this is a folder"
    elif ability.weights == "folder" and there.is_file():
        yield key_path, f"{a_model(backend)} is a folder, this is a file"


def _options(card: Card, ability: Ability) -> Problems:
    runtime = card.runtime
    for key in _OPTIONS:
        given = getattr(runtime, key) is not None
        if given and key != ability.options:
            owners = [name for name, one in ABILITIES.items() if one.options == key]
            why = "brings its own architecture" if key == "network" else "has no such part"
            yield f"runtime.{key}", f"of {listed(owners)}: {a_model(runtime.backend)} {why}"
        if not given and key == ability.options and ability.needs_options:
            yield f"runtime.{key}", f"required of {runtime.backend}: {_NEEDED[key]}"
    if runtime.endpoint is not None:
        yield from _endpoint(card, runtime.endpoint)
    paths = []
    if runtime.bundle is not None:
        paths = [(f"runtime.bundle.{key}", getattr(runtime.bundle, key)) for key in (
            "config", "weights",
        )]
    if runtime.nnunet is not None:
        paths = [("runtime.nnunet.checkpoint", runtime.nnunet.checkpoint)]
        folds = runtime.nnunet.folds
        for position, fold in enumerate(folds):
            if fold in folds[:position]:
                yield f"runtime.nnunet.folds[{position}]", f"{fold} is written twice"
    for key_path, path in paths:
        parts = PurePosixPath(path).parts
        if path.startswith("/") or any(part.startswith((".", "__pycache__")) for part in parts):
            # The digest of a folder leaves hidden files out.
            yield key_path, "a file in the folder of the weights, and no hidden one"


def _endpoint(card: Card, endpoint: EndpointOptions) -> Problems:
    backend = card.runtime.backend
    strange = {
        "openai": ("version", "input", "outputs"), "open_inference": ("temperature", "seed"),
    }
    for key in strange.get(backend, ()):
        if endpoint.gives(key):
            other = "open_inference" if backend == "openai" else "openai"
            yield f"runtime.endpoint.{key}", f"of {other}: {a_model(backend)} has none"
    if backend == "open_inference":
        wanted = 3 if card.task == "detection" else 1
        if len(endpoint.outputs) != wanted:
            what = "boxes, scores and labels" if wanted == 3 else "one name, that of the logits,"
            yield "runtime.endpoint.outputs", f"{what} expected, found {len(endpoint.outputs)}"


def _settled(card: Card, ability: Ability) -> Problems:
    runtime = card.runtime
    for key in _SETTLED:
        if not runtime.gives(key) or key in ability.follows:
            continue
        if key == "precision":
            why = (
                "an ONNX file fixes its own precision" if runtime.backend == "onnx"
                else f"{a_model(runtime.backend)} settles that itself"
            )
            yield "runtime.precision", f"{why}: fp32 expected here"
        else:
            yield f"runtime.{key}", f"of {backends_that(key)}, the back-end is {runtime.backend}"


def _windows(card: Card, ability: Ability) -> Problems:
    runtime, size = card.runtime, card.input.size
    slides = card.task in ("segmentation", "detection")
    if runtime.roi is not None:
        if "roi" not in ability.follows:
            yield "runtime.roi", f"of {backends_that('roi')}, the back-end is {runtime.backend}"
        elif not slides:
            yield "runtime.roi", (
                f"windows are for segmentation and detection: a {card.task} takes its input whole "
                "(input.size)"
            )
        elif size is not None:
            yield "runtime.roi", "input.size is there as well: one of the two expected"
    elif size is None and ability.is_network and slides:
        yield "runtime.roi", "edges of the windows expected, or of the whole in input.size"


def _fallbacks(card: Card, ability: Ability) -> Problems:
    runtime = card.runtime
    if not runtime.gives("fallbacks"):
        return
    able = () if card.task == "text" and runtime.backend == "huggingface" else ability.fallbacks
    for position, word in enumerate(runtime.fallbacks):
        here = f"runtime.fallbacks[{position}]"
        if word in runtime.fallbacks[:position]:
            yield here, f"{word} is written twice"
        elif word not in able:
            yield here, (
                f"{a_model(runtime.backend)} cannot: {listed(able) or 'an empty list'} expected"
            )
        elif word == "roi" and runtime.roi is None and ability.is_network:
            yield here, "there is no runtime.roi that could be halved"
        elif word == "half" and runtime.precision != "fp32":
            yield here, f"runtime.precision is {runtime.precision} already"


def _trust(card: Card, ability: Ability) -> Problems:
    model = a_model(card.runtime.backend)
    for key in _TRUST:
        asked = getattr(card.trust, key)
        if asked and key not in ability.trust:
            yield f"trust.{key}", f"{model} does not need it: false expected"
        if not asked and key == ability.needed_trust:
            yield f"trust.{key}", (
                f"{model} does not run without: true expected, and its folder in "
                "models.trusted_folders of the node"
            )
