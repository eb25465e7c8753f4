"""Pneumoconiosis on chest radiographs: tokens of a frozen CLIP, read by a frozen LLaMA.

The network of PneumoLLM (Medical Image Analysis 2024, arXiv 2312.03490), on the CLIP and the LLaMA
of transformers as they are: what is trained hangs on them as hooks. No text goes in and none comes
out. Where the published training differs from the paper, both ways can be had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

Pool = Literal["all", "diagnosis"]
CLASSES = ("sick", "healthy")
"""What the two logits mean."""
FROZEN = ("clip.", "llama.")
"""How names of weights begin that are not trained, and not among those that are saved."""
_ENGINE_WIDTH = 12


class Adapter(nn.Module):
    """``x + up(dropout(down(x)))`` of tokens ``(batch, tokens, width)``; at first nothing but x.

    Parameters
    ----------
    width
        Of a token.
    rank
        Of what lies between.
    groups
        Into which the way up is split.
    dropout
        Of what lies between, in training.
    """

    def __init__(self, width: int, rank: int = 8, groups: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.down = nn.Conv1d(width, rank, 1)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Conv1d(rank, width, 1, groups=groups)
        nn.init.xavier_uniform_(self.down.weight)
        for one in (self.down.bias, self.up.weight, self.up.bias):
            if one is not None:
                nn.init.zeros_(one)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """``(batch, tokens, width)`` to the same."""
        # Frozen layers may count in 16 bits, and steps of training would be lost in them.
        own = tokens.to(self.down.weight.dtype).transpose(1, 2)
        change: torch.Tensor = self.up(self.dropout(self.down(own)))
        return tokens + change.transpose(1, 2).to(tokens.dtype)

    def after(self, _layer: nn.Module, _inputs: Any, normed: torch.Tensor) -> torch.Tensor:
        """The hook behind a normalisation. A method, so that a copy of the network has its own."""
        adapted: torch.Tensor = self(normed)
        return adapted


class TokenEngine(nn.Module):
    """Diagnosis tokens, each a weighted mean of the source tokens.

    Parameters
    ----------
    width
        Of a source token.
    tokens
        How many are made.
    """

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, _ENGINE_WIDTH)
        self.linear2 = nn.Linear(_ENGINE_WIDTH, tokens)

    def forward(self, sources: torch.Tensor) -> torch.Tensor:
        """``(batch, sources, width)`` to ``(batch, tokens, width)``."""
        said = self.linear2(torch.relu(self.linear1(sources)))
        share = torch.softmax(said.transpose(1, 2), dim=-1)
        return share @ sources


class Projector(nn.Module):
    """From the width of CLIP to that of LLaMA, by way of a narrow one."""

    def __init__(self, width: int, between: int, out: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, between)
        self.up = nn.Linear(between, out)
        for layer in (self.down, self.up):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """``(batch, tokens, width)`` to ``(batch, tokens, out)``."""
        projected: torch.Tensor = self.up(nn.functional.silu(self.down(tokens)))
        return projected


class PneumoLlm(nn.Module):
    """Two logits, `CLASSES`, of a radiograph ``(batch, 3, edge, edge)`` normalised as of ImageNet.

    `state_dict` has what is trained and nothing of CLIP or LLaMA, and takes the same.

    Parameters
    ----------
    clip, llama
        A ``CLIPVisionModel`` and a ``LlamaModel`` with their weights. They are frozen here.
    tokens
        Diagnosis tokens.
    every
        The class token of each so many layers of CLIP is a source token.
    rank, groups, dropout
        Of the adapters.
    projector
        Width between CLIP and LLaMA.
    pool
        Whose mean is classified: of ``all`` tokens, as the published code does, or of the
        ``diagnosis`` tokens, as the paper says.
    train_engine
        Whether the token engine learns. The published training left it at its random beginning,
        by an error of its loop over parameters.

    Raises
    ------
    ValueError
        CLIP has fewer than ``every`` layers, or numbers do not go together.
    """

    emitter: torch.Tensor

    def __init__(
        self,
        clip: nn.Module,
        llama: nn.Module,
        tokens: int = 4,
        every: int = 4,
        rank: int = 8,
        groups: int = 2,
        dropout: float = 0.1,
        projector: int = 128,
        pool: Pool = "all",
        train_engine: bool = True,
    ) -> None:
        super().__init__()
        clip_layers, llama_layers = _layers_of_clip(clip), _layers_of_llama(llama)
        if not 1 <= every <= len(clip_layers) or tokens < 1:
            raise ValueError(
                f"every {every}th of {len(clip_layers)} layers and {tokens} diagnosis tokens: "
                "at least one of each is needed"
            )
        if pool not in ("all", "diagnosis"):
            raise ValueError(f"pool is {pool!r}: all or diagnosis expected")
        inner, outer = int(_config(clip).hidden_size), int(_config(llama).hidden_size)
        self.every, self.tokens, self.pool = every, tokens, pool
        self.clip: Any = clip
        self.llama: Any = llama
        # Tokens of words are never looked up, and are a good part of the memory.
        self.llama.embed_tokens = nn.Identity()
        _freeze(self.clip, self.llama)
        self.clip_adapters = _adapters(
            [layer.layer_norm1 for layer in clip_layers], inner, rank, groups, dropout
        )
        self.llama_adapters = _adapters(
            [layer.input_layernorm for layer in llama_layers], outer, rank, groups, dropout
        )
        self.engine = TokenEngine(inner, tokens).requires_grad_(train_engine)
        self.projector = Projector(inner, projector, outer)
        self.head = nn.Linear(outer, len(CLASSES), bias=False)
        sources = len(clip_layers) // every
        self.register_buffer("emitter", emitter_mask(sources, tokens), persistent=False)
        whole: Any = self  # torch has no types for these two
        whole.register_state_dict_post_hook(_without_frozen)
        whole.register_load_state_dict_post_hook(_missing_frozen_is_right)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(batch, 3, edge, edge)`` to logits ``(batch, 2)``."""
        sources = self.source_tokens(image)
        read = self.read(torch.cat((sources, self.engine(sources)), dim=1))
        asked = read if self.pool == "all" else read[:, -self.tokens :]
        logits: torch.Tensor = self.head(asked.mean(dim=1))
        return logits

    def source_tokens(self, image: torch.Tensor) -> torch.Tensor:
        """Class tokens ``(batch, sources, width of CLIP)`` of every so many layers, shallow first;
        before the normalisation that CLIP ends with."""
        seen: Any = self.clip(
            pixel_values=image.to(_dtype(self.clip)), output_hidden_states=True
        ).hidden_states
        chosen = torch.stack([states[:, 0] for states in seen[self.every :: self.every]], dim=1)
        return chosen.to(self.head.weight.dtype)

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Source and diagnosis tokens ``(batch, tokens, width of CLIP)`` as LLaMA leaves them,
        ``(batch, tokens, width of LLaMA)``, normalised."""
        kind = _dtype(self.llama)
        shown = self.projector(tokens).to(kind)
        emitter = self.emitter.to(kind).expand(len(tokens), 1, -1, -1)
        said = self.llama(inputs_embeds=shown, attention_mask=emitter, use_cache=False)
        states: torch.Tensor = said.last_hidden_state
        return states.to(self.head.weight.dtype)

    def train(self, mode: bool = True) -> PneumoLlm:
        """As of every module; CLIP and LLaMA stay as they answer."""
        super().train(mode)
        self.clip.eval()
        self.llama.eval()
        return self

    def trainable(self) -> Mapping[str, nn.Parameter]:
        """What is trained, by name."""
        return {name: one for name, one in self.named_parameters() if one.requires_grad}


def emitter_mask(sources: int, tokens: int) -> torch.Tensor:
    """What is added to the attention, float32 ``(1, 1, all, all)``: 0, and -inf at each diagnosis
    token, which nobody reads, not even itself. Sources read each other in both directions."""
    count = sources + tokens
    mask = torch.zeros(1, 1, count, count)
    mask[..., sources:] = float("-inf")
    return mask


def _adapters(
    norms: list[nn.Module], width: int, rank: int, groups: int, dropout: float
) -> nn.ModuleList:
    made = nn.ModuleList()
    for norm in norms:
        one = Adapter(width, rank, groups, dropout)
        norm.register_forward_hook(one.after)
        made.append(one)
    return made


def _layers_of_clip(clip: Any) -> list[Any]:
    # transformers 5 has no ``vision_model`` between.
    return list(getattr(clip, "vision_model", clip).encoder.layers)


def _layers_of_llama(llama: Any) -> list[Any]:
    return list(llama.layers)


def _config(model: Any) -> Any:
    return model.config


def _dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def _freeze(*models: nn.Module) -> None:
    for model in models:
        model.requires_grad_(False)
        model.eval()


def _without_frozen(
    _module: nn.Module, weights: dict[str, Any], prefix: str, _metadata: Any
) -> None:
    for name in [one for one in weights if one.removeprefix(prefix).startswith(FROZEN)]:
        del weights[name]


def _missing_frozen_is_right(_module: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [one for one in keys.missing_keys if not one.startswith(FROZEN)]
