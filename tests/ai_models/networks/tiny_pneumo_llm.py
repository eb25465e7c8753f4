"""A CLIP and a LLaMA of a few thousand weights, and the network that hangs on them."""

from __future__ import annotations

from typing import Any

import torch

from ai_models.networks.pneumo_llm import PneumoLlm

EDGE = 28
CLIP = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4,
    "image_size": EDGE, "patch_size": 7, "projection_dim": 16,
}
LLAMA = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 16, "max_position_embeddings": 64,
}


def tiny_clip(attention: str = "sdpa", **changed: Any) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return CLIPVisionModel(
        CLIPVisionConfig(**{**CLIP, **changed}, attn_implementation=attention)
    )


def tiny_llama(attention: str = "sdpa", **changed: Any) -> Any:
    from transformers import LlamaConfig, LlamaModel

    return LlamaModel(LlamaConfig(**{**LLAMA, **changed}, attn_implementation=attention))


def tiny_network(attention: str = "sdpa", seed: int = 5, **arguments: Any) -> PneumoLlm:
    """Six layers of CLIP, every second of which gives a token, and three layers of LLaMA."""
    torch.manual_seed(seed)
    clip, llama = tiny_clip(attention), tiny_llama(attention)
    return PneumoLlm(clip, llama, **{"every": 2, **arguments}).eval()


def random_adapters(network: PneumoLlm, seed: int = 6) -> PneumoLlm:
    """The same network as training may leave it: no adapter does nothing."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in network.trainable().values():
            one.copy_(torch.randn(one.shape, generator=random) * 0.2)
    return network


def picture(count: int = 2, seed: int = 7) -> torch.Tensor:
    return torch.randn(count, 3, EDGE, EDGE, generator=torch.Generator().manual_seed(seed))
