"""The folder of a PneumoLLM: a card, what was trained, and a CLIP and a LLaMA beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ai_models.networks.pneumo_llm import PneumoLlm
from ai_models.weights import folder_sha256
from tests.ai_models.networks.tiny_pneumo_llm import (
    CLIP,
    EDGE,
    LLAMA,
    random_adapters,
    tiny_network,
)
from tests.ai_models.tiny_models import write_model

ARGUMENTS: dict[str, Any] = {"every": 2}
INPUT: dict[str, Any] = {
    "kind": "image", "modality": ["DX", "CR"], "repeat": 3, "normalisation": "imagenet",
    "intensity": {"unit": "displayed"}, "size": {"edges": [EDGE, EDGE], "fit": "stretch"},
}
OUTPUT: dict[str, Any] = {
    "activation": "softmax", "channels": 2, "scores": [{"name": "pneumoconiosis", "channel": 0}],
}


def write_parts(folder: Path, *, whole: bool = True) -> PneumoLlm:
    """Write ``clip`` and ``llama`` below ``folder``; returns the network that hangs on them.

    With ``whole`` they are a CLIP that reads words as well, and a LLaMA that names them, as they
    are published.
    """
    from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM

    network = tiny_network()
    clip, llama = network.clip, network.llama
    if whole:
        words = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                 "num_attention_heads": 2, "vocab_size": 16, "max_position_embeddings": 8,
                 "projection_dim": 16, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        clip = CLIPModel(CLIPConfig(text_config=words, vision_config=CLIP, projection_dim=16))
        clip.vision_model.load_state_dict(_plain(network.clip))
        llama = LlamaForCausalLM(LlamaConfig(**LLAMA, bos_token_id=1, eos_token_id=2))
        kept = dict(llama.model.state_dict())
        llama.model.load_state_dict({**kept, **_plain(network.llama)})
    clip.save_pretrained(folder / "clip")
    llama.save_pretrained(folder / "llama")
    return random_adapters(network)


def write_pneumo_model(folder: Path, **changes: object) -> PneumoLlm:
    """The whole folder with its card; returns the network that it holds."""
    network = write_parts(folder)
    write_model(folder, save(dict(network.state_dict())), **{
        "task": "classification", "input": INPUT, "output": OUTPUT, "runtime": runtime(folder),
        "weights__path": "weights.safetensors", "report": "chest_radiograph", **changes,
    })
    return network


def runtime(folder: Path, **arguments: Any) -> dict[str, Any]:
    parts = {
        name: {"path": name, "sha256": folder_sha256(folder / name), "licence": licence,
               "source": "a test"}
        for name, licence in (("clip", "MIT"), ("llama", "Apache-2.0"))
    }
    return {"backend": "state_dict", "network": {
        "name": "PneumoLLM", "arguments": {**ARGUMENTS, **arguments}, "folders": parts,
    }}


def _plain(model: Any) -> dict[str, torch.Tensor]:
    """Weights without hooks' names."""
    return {name: one.clone() for name, one in model.state_dict().items()}
