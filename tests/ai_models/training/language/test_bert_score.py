"""BERTScore by a local encoder: one for the same text, and symmetric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ai_models.training.language.bert_score import BertScore
from ai_models.types import ModelError

pytestmark = pytest.mark.long


def write_encoder(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["<pad>", "[unknown]", "no", "nodule", "in", "the", "left", "lung", "effusion"]
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[unknown]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=made, pad_token="<pad>", unk_token="[unknown]").save_pretrained(folder)
    torch.manual_seed(5)
    encoder: Any = BertModel
    encoder(BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16,
    )).save_pretrained(folder)
    return folder


def test_same_text_has_one_another_text_less(tmp_path: Path) -> None:
    score = BertScore(write_encoder(tmp_path / "encoder"))
    one, other = "no nodule in the left lung", "effusion in the lung"
    assert score.f_measure(one, one) == pytest.approx(1.0, abs=1e-5)
    assert score.f_measure(one, other) < 0.999
    assert score.f_measure(one, other) == pytest.approx(score.f_measure(other, one))
    assert score.f_measure("", one) == 0.0


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as raised:
        BertScore(tmp_path)
    assert raised.value.reason == "model.weights_missing"
