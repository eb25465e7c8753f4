"""What fine-tuning on 4 bit saves of a GPU's memory beside that of every weight."""

from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from ai_models.training.language.tuning import tune
from ai_models.training.language.tuning_settings import TuningSettings
from tests.gpu.device import DEVICE, GIB, needs_gpu

pytestmark = [pytest.mark.gpu, needs_gpu, pytest.mark.timeout(540)]
_WORDS, _TOKENS = 32_000, 512
# Weights, gradients and AdamW of 32 bit are 16 bytes a parameter; 4 bit are half a byte.
_MOST_OF_FULL = 0.4


def write_llama(folder: Path) -> int:
    """A random Llama with the layers of a published one of a billion; how many parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    llama: Any = LlamaForCausalLM
    with torch.device(DEVICE):
        module = llama(LlamaConfig(
            vocab_size=_WORDS, hidden_size=2048, num_hidden_layers=16, intermediate_size=8192,
            num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True,
            eos_token_id=1, pad_token_id=0, bos_token_id=None,
        )).to(torch.bfloat16)
    module.save_pretrained(folder)
    return sum(one.numel() for one in module.parameters())


def peak_bytes(base: Path, checkpoints: Path, settings: TuningSettings) -> int:
    chance = random.Random(2)
    rows = [[chance.randrange(2, _WORDS) for _ in range(_TOKENS)] for _ in range(6)]
    examples = [{"input_ids": row, "labels": row} for row in rows]
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(DEVICE)
    tuned = tune(base, examples[:4], examples[4:], 0, checkpoints, settings)
    peak = int(torch.cuda.max_memory_allocated(DEVICE))
    assert all(loss == loss for loss in tuned.losses)
    tuned.close()
    return peak


def test_qlora_of_a_billion_weights_takes_a_fraction_of_the_memory_of_all_of_them(
    tmp_path: Path,
) -> None:
    pytest.importorskip("bitsandbytes", reason="4 bit needs bitsandbytes (dicom-node[qlora])")
    many = write_llama(tmp_path / "base")
    assert many > 0.95e9
    settings = TuningSettings(
        "full", steps=2, batch=2, at_once=1, precision="bf16", checkpoint_every=1000,
    )
    full = peak_bytes(tmp_path / "base", tmp_path / "full", settings)
    four_bit = peak_bytes(
        tmp_path / "base", tmp_path / "qlora",
        TuningSettings("qlora", steps=2, batch=2, at_once=1, precision="bf16",
                       checkpoint_every=1000),
    )

    print(f"{many / 1e9:.2f} billion weights, {_TOKENS} tokens: peak {full / GIB:.2f} GiB full, "
          f"{four_bit / GIB:.2f} GiB by QLoRA: {four_bit / full:.2f}")
    assert four_bit / full <= _MOST_OF_FULL
