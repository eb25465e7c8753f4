"""What a MONAI bundle's configuration makes: network, preprocessing, inferer, postprocessing.

A configuration is a program: ``$`` marks Python that MONAI evaluates, and ``_target_`` names any
function to call. Nothing here makes that safe. It is called for folders only that the site trusts.

A few things are changed in what the configuration says. Steps that read or write files are taken
out, since arrays come and go through memory. ``pretrained`` is false, since every weight comes from
the bundle's own file. Arguments that MONAI dropped without replacement are dropped. ``device`` and
``bundle_root`` are those of this node.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle.config_parser import ConfigParser
from monai.inferers.inferer import Inferer, SimpleInferer
from monai.transforms.compose import Compose
from monai.transforms.post.dictionary import Invertd

from ai_models.backends.checkpoint import read_checkpoint
from ai_models.card_entries import BundleOptions
from ai_models.types import ModelError

_FILE_STEPS = ("LoadImage", "SaveImage", "SaveClassification", "EnsureChannelFirst")
_LOADS = "LoadImage"
_DISCRETE = ("AsDiscrete", "KeepLargestConnected", "FillHoles", "RemoveSmallObjects", "Lambda")
_NESTED = ("state_dict", "model", "network")
# Arguments that MONAI no longer has, and that changed nothing in the network.
_GONE = {"SwinUNETR": ("img_size",)}
_SCRIPTS = "scripts"
_KEYS = "keys_of_what_is_read"
DETECTOR, DETECTOR_STEPS = "detector", "detector_ops"


@dataclass
class BundleParts:
    """A bundle that was loaded.

    Attributes
    ----------
    network
        In evaluation mode, with the bundle's weights, on the device.
    preprocessing
        Without reading. Its input is a dictionary with one image, ``image_key``.
    inferer
        Called with ``(inputs, network)``.
    postprocessing
        Steps in their order, without writing; they work on ``answer_key``.
    detector
        A MONAI detector around the network, where the configuration has one.
    scales
        Names of preprocessing steps that change intensities.
    """

    network: torch.nn.Module
    preprocessing: Compose
    inferer: Inferer
    postprocessing: list[Any] = field(default_factory=list)
    image_key: str = "image"
    answer_key: str = "pred"
    detector: Any = None
    scales: tuple[str, ...] = ()

    def has(self, *names: str) -> bool:
        """Whether a step of the postprocessing begins with one of these names."""
        return any(name_of(step).startswith(names) for step in self.postprocessing)

    def undecided(self) -> list[Any]:
        """The postprocessing without the steps that decide: it leaves probabilities."""
        kept = []
        decided = False
        for step in self.postprocessing:
            decided = decided or name_of(step).startswith(_DISCRETE)
            if not decided or name_of(step) == "Invertd":
                kept.append(step)
        return kept


def name_of(step: Any) -> str:
    """The class of a transform, as configurations write it."""
    return type(step).__name__.replace("Dict", "d")


def read_parts(
    folder: Path, options: BundleOptions, device: torch.device, *, task: str, own_code: bool
) -> BundleParts:
    """Evaluate the configuration of a trusted bundle, and load its weights.

    ``task`` is the card's. ``own_code``: Python files beside the configuration may be imported.

    Raises
    ------
    ModelError
        ``model.load_failed``, ``model.weights_missing``, ``model.remote_code``,
        ``model.bundle_incomplete``, ``model.wrong_input``, ``model.pickle``.
    """
    parser = _parser(inside(folder, options.config))
    for name, what in ((options.network, "network"), (options.preprocessing, "preprocessing")):
        if name not in parser:
            raise ModelError(
                f"the configuration has no {name}: the bundle's {what} is not said",
                reason=_INCOMPLETE,
            )
    _adapt(parser, folder, device)
    with _scripts_of(folder, own_code):
        network = _network(parser, options.network)
        parts = BundleParts(network, *_chain(parser, options.preprocessing))
        parts.image_key = _image_key(parser, parts.preprocessing)
        if task == "detection":
            parts.detector = _detector(parser, network)
        elif options.inferer in parser:
            parts.inferer = _part(parser, options.inferer)
        if options.postprocessing in parser and task != "detection":
            parts.postprocessing = [
                step for step in _steps(_part(parser, options.postprocessing))
                if not name_of(step).startswith(_FILE_STEPS)
            ]
    load_weights(network, inside(folder, options.weights))
    network.eval().to(device)
    _settle(parts, inverts=task == "segmentation")
    return parts


def network_of(folder: Path, config: str, name: str = "network_def") -> torch.nn.Module:
    """The network of a trusted bundle alone, with the weights it was made with, on the CPU.

    Raises
    ------
    ModelError
        As `read_parts`.
    """
    parser = _parser(inside(folder, config))
    _adapt(parser, folder, torch.device("cpu"))
    return _network(parser, name)


def inside(folder: Path, name: str) -> Path:
    """A file of the bundle.

    Raises
    ------
    ModelError
        ``model.weights_missing``: it is not there, or not in the folder.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise ModelError(f"the bundle has no {name}", reason="model.weights_missing")
    return path


def load_weights(network: torch.nn.Module, path: Path) -> None:
    """Put the weights of a file into a network: all of them, and no others.

    Raises
    ------
    ModelError
        ``model.load_failed``, ``model.pickle`` or ``model.weights_missing``.
    """
    weights = read_checkpoint(path)
    while isinstance(weights, dict):
        inner = [weights[name] for name in _NESTED if isinstance(weights.get(name), dict)]
        if not inner:
            break
        weights = inner[0]
    if not isinstance(weights, dict) or not weights:
        raise ModelError(f"{path.name} holds no weights by name", reason=_FAILED)
    if all(str(name).startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    try:
        network.load_state_dict(weights, strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{path.name} does not fit the network: {text}", reason=_FAILED) from error


def _parser(path: Path) -> ConfigParser:
    parser = ConfigParser()
    try:
        parser.read_config(str(path))
    except Exception as error:  # JSON, YAML and MONAI's own checks have no type in common
        raise ModelError(f"{path.name} cannot be read: {error}", reason=_FAILED) from error
    values: Any = parser.config  # a plain mapping, whatever MONAI's annotation says
    if not isinstance(values, dict):
        raise ModelError(f"{path.name} holds no configuration", reason=_FAILED)
    return parser


def _adapt(parser: ConfigParser, folder: Path, device: torch.device) -> None:
    removed: list[Any] = []
    _trim(parser.config, removed)
    parser[_KEYS] = [step["keys"] for step in removed if _step(step) == _LOADS and "keys" in step]
    parser["device"] = f"$torch.device('{device}')"
    parser["bundle_root"] = str(folder)


def _network(parser: ConfigParser, name: str) -> torch.nn.Module:
    network = _part(parser, name)
    if not isinstance(network, torch.nn.Module):
        raise ModelError(f"{name} of the bundle is no network", reason=_FAILED)
    return network


def _step(values: Any) -> str:
    """Which step on files a part of a configuration is, if any."""
    target = values.get("_target_") if isinstance(values, Mapping) else None
    name = target.rpartition(".")[2] if isinstance(target, str) else ""
    return next((step for step in _FILE_STEPS if name.startswith(step)), "")


def _trim(values: Any, removed: list[Any]) -> None:
    if isinstance(values, dict):
        if "_target_" in values and values.get("pretrained") is True:
            values["pretrained"] = False
        for gone in _GONE.get(str(values.get("_target_")).rpartition(".")[2], ()):
            values.pop(gone, None)
        for value in values.values():
            _trim(value, removed)
    elif isinstance(values, list):
        removed += [value for value in values if _step(value)]
        values[:] = [value for value in values if not _step(value)]
        for value in values:
            _trim(value, removed)


@contextmanager
def _scripts_of(folder: Path, own_code: bool) -> Iterator[None]:
    """Let this bundle import its own Python files, and never those of the bundle before it."""
    if not own_code:
        yield
        return
    _forget_scripts()
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    # Of what is compiled beside the sources no digest tells: it is neither read nor written.
    before = sys.pycache_prefix, sys.dont_write_bytecode
    sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True
    try:
        yield
    finally:
        sys.pycache_prefix, sys.dont_write_bytecode = before
        sys.path.remove(str(folder))
        _forget_scripts()


def _forget_scripts() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == _SCRIPTS]:
        del sys.modules[name]


def _part(parser: ConfigParser, name: str) -> Any:
    try:
        return parser.get_parsed_content(name)
    except Exception as error:  # a configuration is a program: it may raise anything
        text = told(error)
        if f"{_SCRIPTS}." in text or f"'{_SCRIPTS}'" in text:
            raise ModelError(
                f"{name} of the bundle needs Python files of its own ({_SCRIPTS}), which are not "
                "there or which trust.remote_code of the card does not allow",
                reason="model.remote_code",
            ) from error
        raise ModelError(f"{name} of the bundle cannot be made: {text}", reason=_FAILED) from error


def told(error: BaseException) -> str:
    """What went wrong at the bottom of a chain of errors: MONAI wraps each in what it was given."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _steps(found: Any) -> list[Any]:
    return list(found.flatten().transforms if isinstance(found, Compose) else found)


def _chain(parser: ConfigParser, name: str) -> tuple[Compose, Inferer]:
    found = _part(parser, name)
    if not isinstance(found, Compose | list | tuple):
        raise ModelError(f"{name} is no chain of transforms", reason=_INCOMPLETE)
    kept = [step for step in _steps(found) if not name_of(step).startswith(_FILE_STEPS)]
    for step in kept:
        if not callable(step):
            raise ModelError(f"{name} has a step that is no transform", reason=_INCOMPLETE)
        if type(step).__module__.endswith(".array") and type(step).__module__.startswith("monai."):
            raise ModelError(
                f"{name} works on bare arrays ({name_of(step)}), which carry no position",
                reason=_INCOMPLETE,
            )
    return Compose(kept), SimpleInferer()


def _image_key(parser: ConfigParser, preprocessing: Compose) -> str:
    keys = {key for one in _part(parser, _KEYS) for key in ([one] if isinstance(one, str) else one)}
    if not keys:
        first = next((step for step in preprocessing.transforms if hasattr(step, "keys")), None)
        keys = set(first.keys[:1]) if first is not None else {"image"}
    if len(keys) != 1:
        raise ModelError(
            f"the bundle takes several inputs ({', '.join(sorted(keys))}), one is there",
            reason="model.wrong_input",
        )
    return str(keys.pop())


def _detector(parser: ConfigParser, network: torch.nn.Module) -> Any:
    if DETECTOR not in parser:
        raise ModelError(f"the configuration has no {DETECTOR}", reason=_INCOMPLETE)
    detector = _part(parser, DETECTOR)
    if getattr(detector, "network", None) is not network:
        raise ModelError(
            f"{DETECTOR} of the bundle is none around its network", reason=_INCOMPLETE
        )
    if DETECTOR_STEPS in parser:
        _part(parser, DETECTOR_STEPS)
    return detector.eval()


def _settle(parts: BundleParts, *, inverts: bool) -> None:
    parts.scales = tuple(
        name_of(step) for step in parts.preprocessing.transforms
        if name_of(step).startswith(("ScaleIntensity", "NormalizeIntensity", "ThresholdIntensity"))
    )
    keys = next((step.keys for step in parts.postprocessing if hasattr(step, "keys")), ("pred",))
    parts.answer_key = str(keys[0])
    for step in parts.postprocessing:
        if isinstance(step, Invertd):
            step.transform = parts.preprocessing
    if inverts and not parts.has("Invertd"):
        # Nothing happens where the preprocessing leaves the grid alone.
        parts.postprocessing.append(Invertd(
            parts.answer_key, parts.preprocessing, orig_keys=parts.image_key,
            nearest_interp=parts.has(*_DISCRETE),
        ))


_FAILED = "model.load_failed"
_INCOMPLETE = "model.bundle_incomplete"
