"""The folder of a writer, made of a fine-tuned model: card, safetensors, digests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ai_models.drafting.writer_card import WRITER_CARD_NAME, WriterCard, load_writer_card
from ai_models.folder_copy import copy_beside
from ai_models.training.language.tuning_settings import TuningSettings
from ai_models.weights import folder_sha256

# What a folder of weights has besides safetensors and JSON, and no writer may need.
NOT_COPIED = ("*.bin", "*.pt", "*.pth", "*.py", "*.msgpack", "*.h5", "*.gguf", ".*", "original")
_MODEL, _ADAPTER = "model", "adapter"


@dataclass(frozen=True)
class WriterWords:
    """What the card says that no training can know.

    Attributes
    ----------
    licence
        Of the base's weights, by its SPDX name; empty where there is none, and then a clinical
        site refuses the writer.
    source
        Where the base is from.
    """

    id: str
    name: str
    licence: str = ""
    source: str = "a local folder"
    version: str = "1.0"
    max_tokens: int = 1024


def merged(base: Path, adapter: Path, folder: Path, settings: TuningSettings) -> None:
    """Write base and adapter as one model: added in 32 bit, then rounded once to what is kept.

    Raises
    ------
    ModelError
        As `tuning.load_base`.
    """
    import torch
    from peft import PeftModel

    from ai_models.training.language.tuning import load_base

    whole = load_base(base, TuningSettings(method="full"))
    module: Any = PeftModel.from_pretrained(whole, str(adapter), is_trainable=False)
    module = module.merge_and_unload()
    if settings.precision == "bf16":
        module = module.to(torch.bfloat16)
    module.save_pretrained(str(folder))


def write_writer(
    output: Path, base: Path, words: WriterWords, settings: TuningSettings, *, merge: bool,
    tokenizer: Any,
) -> WriterCard:
    """Complete ``output``, where the trained weights lie in ``model`` or ``adapter``, to a writer.

    An adapter has a copy of its base beside it, or is added to it with ``merge``. The writer is a
    demonstration until somebody who measured it says otherwise on the card.

    Raises
    ------
    ModelError
        ``model.load_failed``: the base cannot be copied, such as for a link in it.
    """
    model, adapter = output / _MODEL, output / _ADAPTER
    is_whole = settings.method == "full" or merge
    if settings.method != "full" and merge:
        merged(base, adapter, model, settings)
    if is_whole:
        tokenizer.save_pretrained(str(model))
    else:
        copy_beside(base, model, NOT_COPIED, "model.load_failed")
    four_bit = settings.method == "qlora" and not merge
    card: dict[str, Any] = {
        "id": words.id, "version": words.version, "name": words.name,
        "intended_use": "DEMONSTRATION, NOT FOR CLINICAL USE. Drafts the impression of a report.",
        "demonstration": True, "licence": "Apache-2.0", "writer": "huggingface",
        "weights": {
            "path": _MODEL, "sha256": folder_sha256(model), "licence": words.licence,
            "source": f"fine-tuned ({settings.method}) from {words.source}",
        },
        "max_tokens": words.max_tokens,
        "precision": "nf4" if four_bit else settings.precision,
    }
    if not is_whole:
        card["adapter"] = {"path": _ADAPTER, "sha256": folder_sha256(adapter)}
    (output / WRITER_CARD_NAME).write_text(yaml.safe_dump(card, sort_keys=False))
    return load_writer_card(output)
