"""Networks that are built on folders of transformers, whose weights they do not change.

A folder has ``config.json`` and safetensors, of the vision part of a CLIP or a whole one, and of a
LLaMA with or without the layer that names words. Nothing in it is run, nothing is fetched, and
what transformers would make up for a tensor that is not there is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ai_models.backends.builds import why_no_torchvision
from ai_models.backends.huggingface_folder import import_transformers, names_code, read_settings
from ai_models.backends.protocol import is_out_of_memory
from ai_models.networks.pneumo_llm import PneumoLlm
from ai_models.types import ModelError

_LONGEST_REASON = 600
# A network is made before its weights are looked at: one of ten million layers would take all
# memory and hours first. Several times the largest that there are.
_LARGEST: Mapping[str, int] = {
    "num_hidden_layers": 512, "num_attention_heads": 1024, "num_key_value_heads": 1024,
    "hidden_size": 1 << 16, "intermediate_size": 1 << 19, "vocab_size": 1 << 21,
    "image_size": 4096, "patch_size": 4096,
}
_TYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
}
_ATTENTION = ("sdpa", "eager")


@dataclass(frozen=True)
class _Part:
    """What a folder must be: kinds by ``model_type``, and the classes of transformers."""

    kinds: tuple[str, ...]
    model: str
    config: str


_CLIP = _Part(("clip", "clip_vision_model"), "CLIPVisionModel", "CLIPVisionConfig")
_LLAMA = _Part(("llama",), "LlamaModel", "LlamaConfig")


def build_pneumo_llm(
    clip: Path, llama: Path, frozen: str = "fp32", attention: str = "sdpa", **arguments: Any
) -> PneumoLlm:
    """`PneumoLlm` on two folders.

    Parameters
    ----------
    clip, llama
        Folders.
    frozen
        What their weights are kept in: ``fp32``, ``bf16`` or ``fp16``. A LLaMA of 7 billion takes
        26 GB in fp32 and half of it in 16 bits.
    attention
        ``sdpa`` or ``eager``: two ways to compute the same.
    arguments
        Further ones of `PneumoLlm`.

    Raises
    ------
    ModelError
        As `check_part`; ``model.load_failed``: a tensor is missing or of another shape, or the
        arguments are none of the network's.
    """
    _check_choices(frozen, attention)
    for folder, part in ((clip, _CLIP), (llama, _LLAMA)):
        check_part(folder, part)
    return _hung_on(
        _loaded(clip, _CLIP, _TYPES[frozen], attention),
        _loaded(llama, _LLAMA, _TYPES[frozen], attention), arguments,
    )


def outline_pneumo_llm(clip: Path, llama: Path, **arguments: Any) -> PneumoLlm:
    """The same without any weights, of the settings of the folders alone: names and shapes.

    Raises
    ------
    ModelError
        As `build_pneumo_llm`, of what the settings say.
    """
    library = import_transformers()
    given = {key: one for key, one in arguments.items() if key not in ("frozen", "attention")}
    with torch.device("meta"):
        models = []
        for folder, part in ((clip, _CLIP), (llama, _LLAMA)):
            settings = _settings(folder, part)
            settings = settings.get("vision_config", settings) if part is _CLIP else settings
            try:
                config = getattr(library, part.config)(**{
                    key: one for key, one in settings.items() if not key.startswith("_")
                })
                models.append(getattr(library, part.model)(config))
            except Exception as error:  # of a wrong setting the library raises what comes
                raise ModelError(
                    f"config.json of {folder.name}: {_said(error)}", reason="model.load_failed"
                ) from error
        return _hung_on(models[0], models[1], given)


def image_edge(clip: Path, llama: Path) -> int:
    """Pixels of an edge of the pictures that ``clip`` takes, where both folders are what they say.

    Raises
    ------
    ModelError
        As `check_part`.
    """
    check_part(clip, _CLIP)
    check_part(llama, _LLAMA)
    settings = _settings(clip, _CLIP)
    return int(settings.get("vision_config", settings).get("image_size", 224))


def check_part(folder: Path, part: _Part) -> None:
    """Refuse a folder that is of another model, brings code, or keeps its weights otherwise.

    Raises
    ------
    ModelError
        ``model.weights_missing``, ``model.remote_code``, ``model.pickle``, ``model.load_failed``.
    """
    _settings(folder, part)
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder.name} holds an adapter: merge it into its model", reason="model.load_failed"
        )
    if culprit := names_code(folder):
        raise ModelError(
            f"{culprit} of {folder.name} asks for code of its own", reason="model.remote_code"
        )
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        raise ModelError(
            f"the weights in {folder.name} are pickled: save them as safetensors" if pickled
            else f"no safetensors in {folder}",
            reason="model.pickle" if pickled else "model.weights_missing",
        )


def _check_choices(frozen: str, attention: str) -> None:
    for key, value, known in (
        ("frozen", frozen, tuple(_TYPES)), ("attention", attention, _ATTENTION),
    ):
        if value not in known:
            raise ModelError(
                f"runtime.network.arguments.{key}: {' or '.join(known)} expected, found {value!r}",
                reason="model.load_failed",
            )


def _settings(folder: Path, part: _Part) -> Mapping[str, Any]:
    if not (folder / "config.json").is_file():
        raise ModelError(f"no config.json in {folder}", reason="model.weights_missing")
    settings = read_settings(folder / "config.json")
    kind = settings.get("model_type")
    if kind not in part.kinds:
        raise ModelError(
            f"{folder.name} is a folder of {kind!r} by its config.json, {' or '.join(part.kinds)} "
            "expected", reason="model.load_failed",
        )
    if settings.get("quantization_config"):
        raise ModelError(
            f"the weights in {folder.name} are quantised, which nothing here reads",
            reason="model.load_failed",
        )
    for key, value in (settings.get("vision_config") or settings).items():
        if key in _LARGEST and value is not None:
            _check_size(folder.name, key, value)
    return settings


def _check_size(name: str, key: str, value: object) -> None:
    is_size = isinstance(value, int) and not isinstance(value, bool)
    if not is_size or not 0 < int(str(value)) <= _LARGEST[key]:
        raise ModelError(
            f"{key} in config.json of {name}: a whole number from 1 to {_LARGEST[key]} expected",
            reason="model.load_failed",
        )


def _loaded(folder: Path, part: _Part, dtype: torch.dtype, attention: str) -> nn.Module:
    library = import_transformers()
    # It reports the words of CLIP and LLaMA, which are left out on purpose; what is missing is
    # refused below.
    logging = library.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        module, told = getattr(library, part.model).from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True,
            weights_only=True, dtype=dtype, attn_implementation=attention,
            output_loading_info=True,
        )
    except Exception as error:  # the library raises OSError, ValueError, KeyError and more
        if is_out_of_memory(error):
            raise
        why = why_no_torchvision() if "Could not import module" in str(error) else ""
        raise ModelError(
            f"transformers cannot load {folder.name}: {_said(error)}" + (why and f". {why}"),
            reason="model.backend_missing" if why else "model.load_failed",
        ) from error
    finally:
        logging.set_verbosity(before)
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if told.get(what):
            names = ", ".join(sorted(str(one) for one in told[what])[:4])
            raise ModelError(
                f"the weights in {folder.name} are not those of {part.model}: "
                f"{what.replace('_', ' ')} {names}", reason="model.load_failed",
            )
    loaded: nn.Module = module
    return loaded


def _hung_on(clip: nn.Module, llama: nn.Module, arguments: Mapping[str, Any]) -> PneumoLlm:
    try:
        return PneumoLlm(clip, llama, **arguments)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"runtime.network.arguments: {_said(error)}", reason="model.load_failed"
        ) from error


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:_LONGEST_REASON]
