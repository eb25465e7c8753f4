"""What a language model of transformers writes: greedily, whole, and of numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ai_models.backends.huggingface_folder import import_transformers
from ai_models.backends.openai import clean_text
from ai_models.types import ModelError


def written_by(
    module: Any, reader: Any, asked: Mapping[str, Any], max_tokens: int, limit: str
) -> str:
    """The likeliest word each time, until the model ends.

    Parameters
    ----------
    reader
        Tokenizer or processor: its ``decode`` makes words of tokens.
    asked
        What the model is given; ``input_ids`` is ``(1, tokens)``. Some models answer with it first.
    limit
        What people call ``max_tokens``.

    Raises
    ------
    ModelError
        ``model.not_finite``; ``model.wrong_output``: it is empty, or was cut off.
    """
    ends = end_tokens(module)
    checks = import_transformers().LogitsProcessorList([_Finite()])
    with torch.inference_mode():
        written = module.generate(
            **asked, do_sample=False, num_beams=1, max_new_tokens=max_tokens,
            pad_token_id=next(iter(ends), 0), logits_processor=checks,
        )[0]
    prompt = asked["input_ids"][0]
    if torch.equal(written[: len(prompt)], prompt):
        written = written[len(prompt) :]
    if len(written) >= max_tokens and int(written[-1]) not in ends:
        raise ModelError(
            f"the text was cut off at {limit}, and half a text is not taken",
            reason="model.wrong_output",
        )
    text = clean_text(reader.decode(written, skip_special_tokens=True))
    if not text:
        raise ModelError("the model wrote an empty text", reason="model.wrong_output")
    return text


def end_tokens(module: Any) -> list[int]:
    """The tokens that end a text; none where the folder does not say."""
    ends = module.generation_config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


class _Finite:
    """Stops where a word has no number: the likeliest of NaN is the first word of the list."""

    def __call__(self, _written: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # What must not be written has minus infinity.
        if bool((torch.isnan(scores) | torch.isposinf(scores)).any()):
            raise ModelError("the model answered NaN or infinity", reason="model.not_finite")
        return scores
