"""A language model of this machine writes by its digest, with an adapter or without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ai_models.drafting.folder_writer import FolderWriter, open_writer
from ai_models.drafting.impression import impression
from ai_models.drafting.writer_card import load_writer_card
from ai_models.trust import Site
from ai_models.weights import folder_sha256
from tests.ai_models.drafting.test_impression import TOLD
from tests.ai_models.drafting.writers import writer_folder

DRAFT = '{"impression": [{"text": "Pleural effusion is present.", "evidence": ["E2"]}]}'
# transformers takes a dozen seconds to be imported.
LOADED = pytest.mark.long
WORDS = ["<pad>", "<end>", "[unknown]", *dict.fromkeys(DRAFT.split())]


def write_model(folder: Path, words: list[str]) -> Any:
    """A tiny Llama that says ``words`` from the third on, whatever it is asked."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    size = len(words)
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[unknown]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    fast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", unk_token="[unknown]",
    ).save_pretrained(folder)
    llama: Any = LlamaForCausalLM
    module = llama(LlamaConfig(
        vocab_size=size, hidden_size=size, num_hidden_layers=1, intermediate_size=8,
        num_attention_heads=1, head_dim=4, eos_token_id=1, pad_token_id=0, bos_token_id=None,
        tie_word_embeddings=False,
    ))
    head = torch.zeros(size, size)
    for number in range(size):
        head[1 if number == size - 1 else number + 1, number] = 50.0
    for name, tensor in module.state_dict().items():
        if name.endswith("embed_tokens.weight"):
            tensor.copy_(torch.eye(size))
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()
        elif name.endswith("lm_head.weight"):
            tensor.copy_(head)
    module.save_pretrained(folder)
    return module


def writer_in(folder: Path, **changes: object) -> FolderWriter:
    if "weights" not in changes:
        changes["weights"] = {
            "path": "model", "sha256": folder_sha256(folder / "model"), "licence": "MIT",
            "source": "test",
        }
    card = load_writer_card(writer_folder(folder, **{
        "writer": "huggingface", "endpoint": None, "max_tokens": 64, **changes,
    }))
    writer = open_writer(card, Site())
    assert isinstance(writer, FolderWriter)
    return writer


def test_folder_that_is_another_one_or_none_is_a_fallback(tmp_path: Path) -> None:
    weights = {"path": "model", "sha256": "0" * 64, "licence": "MIT", "source": "test"}
    writer = writer_in(tmp_path, weights=weights)
    assert impression(TOLD, writer, "en").fallback == "model.weights_missing"
    (tmp_path / "model").mkdir()
    assert impression(TOLD, writer, "en").fallback == "model.hash_mismatch"


def test_too_little_memory_is_a_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FolderWriter, "_loaded", short)
    weights = {"path": "model", "sha256": "0" * 64, "licence": "MIT", "source": "test"}
    made = impression(TOLD, writer_in(tmp_path, weights=weights), "en")
    assert made.fallback == "worker.out_of_memory"


def test_words_are_those_of_the_draft() -> None:
    assert " ".join(WORDS[3:]) == DRAFT
    assert json.loads(DRAFT)


@LOADED
def test_folder_writes_and_its_digest_is_told(tmp_path: Path) -> None:
    write_model(tmp_path / "model", WORDS)
    made = impression(TOLD, writer := writer_in(tmp_path), "en")
    assert made.sentences[0].text == "Pleural effusion is present."
    assert made.writer.sha256 == folder_sha256(tmp_path / "model")
    assert "cpu, fp32" in made.notes[0]
    writer.close()


@LOADED
def test_adapter_is_put_on_the_model(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    module = write_model(tmp_path / "model", WORDS)
    get_peft_model(module, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
        str(tmp_path / "adapter")
    )
    digest = folder_sha256(tmp_path / "adapter")
    writer = writer_in(tmp_path, adapter={"path": "adapter", "sha256": digest})
    made = impression(TOLD, writer, "en")
    assert made.is_drafted
    assert "with an adapter" in made.notes[0]
    assert made.writer.sha256.endswith(f"+{digest}")


@LOADED
@pytest.mark.parametrize(("changes", "reason"), [
    ({"adapter": {"path": "nowhere", "sha256": "0" * 64}}, "model.weights_missing"),
    ({"max_tokens": 16, "precision": "nf4"}, "model.backend_missing"),
])
def test_what_cannot_be_loaded_is_a_fallback(
    tmp_path: Path, changes: dict[str, object], reason: str,
) -> None:
    write_model(tmp_path / "model", WORDS)
    assert impression(TOLD, writer_in(tmp_path, **changes), "en").fallback == reason


@LOADED
def test_draft_that_is_cut_off_is_not_taken(tmp_path: Path) -> None:
    write_model(tmp_path / "model", [*WORDS, *(f"word{n}" for n in range(64))])
    made = impression(TOLD, writer_in(tmp_path), "en")
    assert made.fallback == "model.wrong_output"
    assert "cut off" in made.why


@LOADED
def test_model_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "model", WORDS)
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoConfig": "x.Y"}}))
    assert impression(TOLD, writer_in(tmp_path), "en").fallback == "model.remote_code"


def write_adapter(folder: Path, module: Any, *, tensors: Any = None, **settings: Any) -> Any:
    """A LoRA of ``module`` with these ``settings`` and what ``tensors`` makes of its tensors."""
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    get_peft_model(module, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(folder))
    if tensors is not None:
        path = folder / "adapter_model.safetensors"
        save_file({k: v.contiguous() for k, v in tensors(load_file(path)).items()}, path)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return {"path": folder.name, "sha256": folder_sha256(folder)}


@LOADED
@pytest.mark.parametrize("changes", [
    {"tensors": lambda found: {k.replace("q_proj", "nowhere"): v for k, v in found.items()}},
    {"tensors": lambda _: {"another": torch.zeros(1)}},
    {"target_modules": ["q_proj", "v_proj"]},
    {"target_modules": ["nothing"]},
    {"r": 50_000}, {"r": -1}, {"r": "two"}, {"rank_pattern": {"q_proj": 60_000}},
], ids=[
    "tensors of another model", "no tensors of it", "some tensors missing", "no layer", "rank",
    "no rank", "rank in words", "rank of a layer",
])
def test_adapter_that_does_not_fit_is_refused_and_not_left_out(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """The library left it out, and the draft of the model alone was told as the adapter's."""
    adapter = write_adapter(
        tmp_path / "adapter", write_model(tmp_path / "model", WORDS), **changes)
    made = impression(TOLD, writer_in(tmp_path, adapter=adapter), "en")
    assert made.fallback == "model.load_failed", made.why


@LOADED
def test_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", [*WORDS, "more", "words"])
    write_model(tmp_path / "model", WORDS)
    adapter = write_adapter(tmp_path / "adapter", other)
    made = impression(TOLD, writer_in(tmp_path, adapter=adapter), "en")
    assert made.fallback == "model.load_failed"


@LOADED
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_words_without_a_number_are_not_written(tmp_path: Path, value: float) -> None:
    """Of NaN the first word of the list is the likeliest, and may be the one that ends a draft."""
    from safetensors.torch import load_file, save_file

    write_model(tmp_path / "model", WORDS)
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"][0, 0] = value
    save_file(weights, path, metadata={"format": "pt"})
    made = impression(TOLD, writer_in(tmp_path), "en")
    assert made.fallback == "model.not_finite", made.why
