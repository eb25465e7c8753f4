"""A published PneumoLLM checkpoint as a model folder:
``python -m ai_models.training.import_pneumollm FILE.pth --clip DIR --llama DIR --output DIR``.

A checkpoint has what was trained, by the names of its authors, beside the optimizer's state and
their settings. It is read as tensors and plain values, compared by names and shapes in both
directions with the network that the two folders make, and written as safetensors with a card. The
published weights have no licence and were trained on the first LLaMA, which is for research: the
card says so, and a clinical site refuses it.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save as save_safetensors

from ai_models.backends.checkpoint import checkpoint_in
from ai_models.backends.frozen_parts import outline_pneumo_llm
from ai_models.card import CARD_NAME, Card, load_card
from ai_models.training.beside import put_folders
from ai_models.training.settings import TrainingError
from ai_models.types import CardError, ModelError

WEIGHTS = "weights.safetensors"
# Of the authors, and of `ai_models.networks.pneumo_llm`.
_NAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), ours) for pattern, ours in (
        (r"layers\.(\d+)\.adapter_attn\.conv_A\.(weight|bias)", r"llama_adapters.\1.down.\2"),
        (r"layers\.(\d+)\.adapter_attn\.conv_D\.(weight|bias)", r"llama_adapters.\1.up.\2"),
        (r"backbone\.visual\.transformer\.resblocks\.(\d+)\.adapter_attn\.conv_A\.(weight|bias)",
         r"clip_adapters.\1.down.\2"),
        (r"backbone\.visual\.transformer\.resblocks\.(\d+)\.adapter_attn\.conv_D\.(weight|bias)",
         r"clip_adapters.\1.up.\2"),
        (r"adapter_proj\.conv_A\.(weight|bias)", r"projector.down.\1"),
        (r"adapter_proj\.conv_B\.(weight|bias)", r"projector.up.\1"),
        (r"adapter_output_cls\.(weight)", r"head.\1"),
        (r"prompt_meta_net\.linear([12])\.(weight|bias)", r"engine.linear\1.\2"),
    )
)
_WRAPPERS = ("module.", "_orig_mod.")
_EXAMPLES = 4


def read_published(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by the names of `PneumoLlm`, bit by bit (16 bits become 32).

    Raises
    ------
    TrainingError
        It cannot be read, holds no weights by name, one that is not known or twice there, or
        values that are no numbers.
    ModelError
        ``model.pickle``, ``model.load_failed``: reading it would run code, or it is torn.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from error
    # Settings of a training are kept as one: a bag of names and plain values.
    with torch.serialization.safe_globals([argparse.Namespace]):
        loaded = checkpoint_in(content, path.name)
    inner = loaded.get("model", loaded) if isinstance(loaded, dict) else None
    if not isinstance(inner, dict) or not inner or not all(
        isinstance(name, str) and isinstance(one, torch.Tensor) for name, one in inner.items()
    ):
        raise TrainingError(f"{path.name} holds no weights by name under 'model'")
    found: dict[str, torch.Tensor] = {}
    for name, tensor in inner.items():
        ours = _our_name(name)
        if ours is None:
            raise TrainingError(f"{path.name} is no checkpoint of PneumoLLM: {name} is not known")
        if ours in found:
            raise TrainingError(f"{path.name} has two tensors for {ours}")
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise TrainingError(f"{path.name}: {name} holds values that are no numbers")
        found[ours] = tensor.float().contiguous()
    return found


def fitted(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], file: str
) -> dict[str, torch.Tensor]:
    """The same tensors, held to names and shapes of ``expected``; a layer that was a convolution
    over single tokens becomes the linear one that it is.

    Raises
    ------
    TrainingError
        One is missing, one too many, or of another shape; with counts and names.
    """
    flat = {
        name: one.squeeze(-1) if name.startswith("projector.") and one.ndim == 3 else one
        for name, one in tensors.items()
    }
    missing, strange = sorted(expected.keys() - flat.keys()), sorted(flat.keys() - expected.keys())
    other = sorted(
        f"{name} {tuple(flat[name].shape)} for {tuple(expected[name].shape)}"
        for name in expected.keys() & flat.keys() if flat[name].shape != expected[name].shape
    )
    said = [
        f"{len(names)} {what}: {', '.join(names[:_EXAMPLES])}"
        f"{' and others' if len(names) > _EXAMPLES else ''}"
        for what, names in (
            ("tensors are missing", missing), ("are of no such layer", strange),
            ("have another shape", other),
        ) if names
    ]
    if said:
        raise TrainingError(
            f"{file} is not of the network that these folders make ({len(expected)} tensors, the "
            f"file has {len(flat)}): {'; '.join(said)}"
        )
    return flat


def write_model(
    checkpoint: Path, clip: Path, llama: Path, output: Path, *,
    llama_licence: str = "LLaMA 1, non-commercial research only", crop: Path | None = None,
    crop_labels: tuple[int, ...] = (1, 2), pool: str = "all", frozen: str = "fp32",
    every: int = 4,
) -> Card:
    """Weights, card and folders in ``output``.

    Parameters
    ----------
    llama_licence
        Of the LLaMA: a later one has another.
    crop, crop_labels
        Folder of a model that outlines lungs in radiographs, and its labels; without one the
        whole image is looked at.
    pool, frozen, every
        As `PneumoLlm` and `build_pneumo_llm` take them.

    Raises
    ------
    TrainingError, ModelError
        As `read_published` and `fitted`; a folder is of another model, or cannot be put there.
    """
    # The authors have the layers of CLIP by their number: where ``every`` is another, the count of
    # tensors is the same, and only who trained it knows.
    arguments = {"pool": pool, "every": every, "frozen": frozen}
    outline = outline_pneumo_llm(clip, llama, **arguments)
    weights = fitted(read_published(checkpoint), outline.state_dict(), checkpoint.name)
    content = save_safetensors(weights)
    output.mkdir(parents=True, exist_ok=True)
    (output / WEIGHTS).write_bytes(content)
    values = card_values(hashlib.sha256(content).hexdigest(), arguments, llama_licence)
    folders = values["runtime"]["network"]["folders"]
    folders["clip"]["path"], folders["llama"]["path"] = str(clip.absolute()), str(llama.absolute())
    edge = int(getattr(outline.clip.config, "image_size", 224))
    values["input"]["size"]["edges"] = [edge, edge]
    if crop is not None:
        values["input"]["crop"] = {"model": str(crop.absolute()), "labels": list(crop_labels)}
    put_folders(values, output, output)
    (output / CARD_NAME).write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return load_card(output)


def _our_name(name: str) -> str | None:
    while prefix := next((one for one in _WRAPPERS if name.startswith(one)), ""):
        name = name.removeprefix(prefix)
    for pattern, ours in _NAMES:
        if (found := pattern.fullmatch(name)) is not None:
            return found.expand(ours)
    return None


def card_values(
    sha256: str, arguments: Mapping[str, Any], llama_licence: str
) -> dict[str, Any]:
    """A card of PneumoLLM, whose folders have no paths yet."""
    return {
        "id": "pneumollm",
        "version": "1.0.0",
        "name": "PneumoLLM: pneumoconiosis in chest radiographs",
        "task": "classification",
        "intended_use": (
            "Research only, NOT FOR CLINICAL USE. Gives a probability of pneumoconiosis in a "
            "postero-anterior chest radiograph of an adult."
        ),
        "not_for": ["diagnosis or any other decision about a patient", "lateral projections",
                    "grading by the ILO classification"],
        "demonstration": True,
        "manufacturer": "the authors of PneumoLLM",
        "licence": "Apache-2.0",
        "evidence": {"validated_on": "not validated by this node"},
        "input": {
            "kind": "image", "modality": ["CR", "DX"], "body_part": ["CHEST", "THORAX", "LUNG"],
            "views": ["PA"], "size": {"edges": [224, 224], "fit": "stretch"},
            "intensity": {"unit": "displayed", "clip": [0.0, 1.0], "scale_to": [0.0, 1.0]},
            "repeat": 3, "normalisation": "imagenet",
        },
        "output": {
            "activation": "softmax", "channels": 2,
            "scores": [{"name": "pneumoconiosis", "channel": 0}],
        },
        "weights": {
            "path": WEIGHTS, "sha256": sha256, "licence": "none, all rights reserved",
            "source": "a checkpoint of its authors (arXiv 2312.03490), by its tensors alone",
        },
        "runtime": {
            "backend": "state_dict",
            "network": {
                "name": "PneumoLLM", "arguments": dict(arguments),
                "folders": {
                    "clip": {"path": "", "licence": "MIT", "source": "CLIP of OpenAI"},
                    "llama": {"path": "", "licence": llama_licence, "source": "a LLaMA of Meta"},
                },
            },
            "deadline_s": 1800.0,
        },
        "report": "chest_radiograph",
    }


def main(arguments: list[str] | None = None) -> int:
    """Import one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--llama", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--llama-licence", default="LLaMA 1, non-commercial research only")
    parser.add_argument("--crop", type=Path, help="folder of a model that outlines lungs")
    parser.add_argument("--crop-labels", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--pool", choices=("all", "diagnosis"), default="all")
    parser.add_argument("--frozen", choices=("fp32", "bf16", "fp16"), default="bf16")
    options = parser.parse_args(arguments)
    try:
        card = write_model(
            options.checkpoint, options.clip, options.llama, options.output,
            llama_licence=options.llama_licence, crop=options.crop,
            crop_labels=tuple(options.crop_labels), pool=options.pool, frozen=options.frozen,
        )
    except (TrainingError, ModelError, CardError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{card.id} in {options.output}, for research only")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
