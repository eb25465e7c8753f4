"""From a file, a folder or another host to a drafted card: which kind it is, and by what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_models.scaffold.bundle import describe_bundle, is_bundle
from ai_models.scaffold.draft import Copy, Draft, Wishes, new_draft, put_input, settle
from ai_models.scaffold.huggingface import describe_huggingface, put_prompt
from ai_models.scaffold.licences import licence_beside
from ai_models.scaffold.networks import describe_network
from ai_models.scaffold.nnunet import describe_nnunet, trained_folder
from ai_models.trust import Site
from ai_models.types import ModelError

_STATE_DICTS = (".safetensors", ".pth", ".pt")
_COPIED = "copied by `dicom-node models new`; where it is from was not stated"


def draft_of_source(source: Path, wishes: Wishes) -> Draft:
    """Look into a file or folder of weights and draft its card.

    Raises
    ------
    ModelError
        ``model.weights_missing``, ``model.load_failed``, ``model.pickle``, ``model.task``,
        ``model.wrong_input``, ``model.wrong_output``, ``model.source_unknown``: it is none of what
        can be looked into.
    """
    if not source.exists():
        raise ModelError(f"there is no {source}", reason="model.weights_missing")
    draft = new_draft(wishes, f"{source.name}: {_COPIED}"[:4000])
    beside = source if source.is_dir() else source.parent
    if source.is_dir():
        beside = _describe_folder(draft, wishes, source)
    else:
        _describe_file(draft, wishes, source)
    _put_licence(draft, [beside, source if source.is_dir() else source.parent])
    return draft


def draft_of_endpoint(name: str, model: str, site: Site, wishes: Wishes) -> Draft:
    """Ask a host of the settings how it describes a model, and draft its card.

    Raises
    ------
    ModelError
        ``model.endpoint_unknown``, ``model.endpoint_refused``, ``worker.endpoint_unavailable``,
        ``model.task``, ``model.wrong_input``.
    """
    from ai_models.backends.inspection_served import inspect_served

    served = inspect_served(name, model, site)
    draft = new_draft(wishes, f"{model} on the host {name}; where it is from was not stated")
    draft.found.append(served.told)
    options: dict[str, Any] = {"name": name, "model": model}
    draft.put("runtime.backend", served.backend)
    if served.facts is None:
        if wishes.task not in (None, "text"):
            raise ModelError(f"a language model has no {wishes.task}", reason="model.task")
        draft.put("task", "text")
        put_input(draft, wishes, axes=2, channels=1)
        if draft.get("input.kind") == "volume":
            draft.put("input.ndim", 3)
        draft.put("input.normalisation", "none")
        put_prompt(draft)
        settle(draft)
    else:
        describe_network(draft, wishes, served.facts)
        options |= {"input": served.facts.input_name, "outputs": list(served.facts.output_names)}
        if len(served.versions) == 1:
            options["version"] = served.versions[0]
            draft.check("runtime.endpoint.version", "without it the host takes its newest")
    draft.put("runtime.endpoint", options)
    draft.values["weights"].pop("path", None)
    return draft


def _describe_folder(draft: Draft, wishes: Wishes, folder: Path) -> Path:
    """Describe a folder; returns the one in which its licence would lie."""
    trained = trained_folder(folder)
    if trained is not None:
        describe_nnunet(draft, wishes, trained)
        return trained
    if is_bundle(folder):
        describe_bundle(draft, wishes, folder)
    elif (folder / "config.json").is_file():
        describe_huggingface(draft, wishes, folder)
    else:
        raise ModelError(
            f"{folder} is neither a trained folder of nnU-Net (plans.json, dataset.json), nor a "
            "MONAI bundle (configs/metadata.json), nor a Hugging Face folder (config.json)",
            reason="model.source_unknown",
        )
    return folder


def _describe_file(draft: Draft, wishes: Wishes, path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from ai_models.backends.inspection import inspect_onnx

        facts, backend = inspect_onnx(path), "onnx"
    elif suffix == ".pt2":
        from ai_models.backends.inspection_torch import inspect_torch_export

        facts, backend = inspect_torch_export(path), "torch_export"
    elif suffix == ".ts" or (suffix in _STATE_DICTS and _is_torchscript(path)):
        from ai_models.backends.inspection_torch import inspect_torchscript

        facts, backend = inspect_torchscript(path), "torchscript"
    elif suffix in _STATE_DICTS:
        _describe_state_dict(draft, wishes, path)
        return
    else:
        raise ModelError(
            f"{path.name} is none of .onnx, .ts, .pt, .pt2, .pth, .safetensors",
            reason="model.source_unknown",
        )
    if wishes.network is not None:
        raise ModelError(
            f"{path.name} brings its own architecture: without --network",
            reason="model.architecture_unknown",
        )
    draft.found.append(facts.told)
    draft.put("runtime.backend", backend)
    describe_network(draft, wishes, facts)
    _copy(draft, path, ".ts" if backend == "torchscript" and suffix == ".pth" else suffix)


def _describe_state_dict(draft: Draft, wishes: Wishes, path: Path) -> None:
    from ai_models.backends.inspection_torch import inspect_state_dict, read_weights

    if wishes.network is None:
        read_weights(path)
        raise ModelError(
            f"{path.name} holds weights alone: --network says which architecture they belong to "
            "(monai.SegResNet, torchvision.resnet50), --arguments those of its constructor",
            reason="model.architecture_unknown",
        )
    facts, arguments = inspect_state_dict(path, wishes.network, wishes.arguments)
    draft.found.append(facts.told)
    draft.put("runtime.backend", "state_dict")
    draft.put("runtime.network", {"name": wishes.network, "arguments": arguments})
    describe_network(draft, wishes, facts)
    _copy(draft, path, path.suffix.lower())


def _is_torchscript(path: Path) -> bool:
    from ai_models.backends.inspection_torch import is_torchscript

    return path.suffix != ".safetensors" and is_torchscript(path)


def _copy(draft: Draft, path: Path, suffix: str) -> None:
    name = f"weights{suffix}"
    draft.copies.append(Copy(path, name))
    draft.put("weights.path", name)


def _put_licence(draft: Draft, folders: Sequence[Path]) -> None:
    for folder in folders:
        spdx, name = licence_beside(folder)
        if spdx:
            draft.put("licence", spdx, f"as {name} reads: is it that of the code?")
            more = draft.checks.get("weights.licence", "")
            draft.values["weights"]["licence"] = spdx
            draft.check("weights.licence", f"as {name} reads: is it that of the weights?" + (
                f" {more}" if more.startswith("see ") else ""))
            return
        if name:
            draft.found.append(f"{name} is there, and is none of the licences known by their text")
