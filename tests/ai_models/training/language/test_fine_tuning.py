"""A tiny Llama learns generated pairs, whole and by LoRA, and becomes a writer without a name."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ai_models.backends.causal_language import CausalLanguageModel, LanguageFolder
from ai_models.drafting.writer_card import load_writer_card
from ai_models.training.language import tuning
from ai_models.training.language.fine_tuning import RECORD_NAME, Request, fine_tune
from ai_models.training.language.pairs import read_pairs
from ai_models.training.language.prompts import MASKED, messages_of, tokenized
from ai_models.training.language.tuning_settings import TuningSettings, zero3_configuration
from ai_models.training.language.written import WriterWords
from ai_models.training.settings import Diverged, TrainingError
from ai_models.types import ModelError
from ai_models.weights import folder_sha256
from tests.ai_models.training.language.pair_files import (
    PLANTED,
    lines,
    with_identifiers,
    write_base,
    write_pairs,
)

# transformers takes a dozen seconds to be imported.
pytestmark = pytest.mark.long
WORDS = WriterWords("tiny", "Tiny", "MIT", "random numbers", max_tokens=24)
FULL = TuningSettings(
    "full", steps=30, batch=8, at_once=4, rate=3e-3, checkpoint_every=10, held_back=0.2,
)
LORA = replace(FULL, method="lora", rank=8, alpha=16, rate=1e-2)


@pytest.fixture
def request_of(tmp_path: Path) -> Request:
    data = write_pairs(tmp_path / "pairs.jsonl", [
        with_identifiers(one) if number % 3 == 0 else one
        for number, one in enumerate(lines(40))
    ] + lines(0, 10))
    base = write_base(tmp_path / "base", data)
    return Request(data, base, tmp_path / "writer", WORDS, FULL, measure=4)


def falls(losses: list[float]) -> bool:
    return sum(losses[-5:]) < 0.7 * sum(losses[:5])


def logits_of(folder: Path, adapter: Path | None, asked: torch.Tensor) -> torch.Tensor:
    model = CausalLanguageModel(
        LanguageFolder(folder, folder_sha256(folder)),
        None if adapter is None else LanguageFolder(adapter, folder_sha256(adapter)),
    )
    model.load()
    with torch.inference_mode():
        found: torch.Tensor = model._module(input_ids=asked).logits
    return found


def everything_in(folder: Path) -> str:
    """All files but the words of the tokenizer, which the base brought along."""
    return "".join(
        path.read_bytes().decode("latin-1") for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "tokenizer.json"
    )


def test_every_weight_learns_and_the_writer_loads(
    request_of: Request, capsys: pytest.CaptureFixture[str],
) -> None:
    record = fine_tune(request_of)
    assert falls(record["losses"])
    assert len(record["losses"]) == 30
    card = load_writer_card(request_of.output)
    assert card.demonstration
    assert card.adapter is None
    assert record["writer"]["sha256"] == folder_sha256(request_of.output / "model")
    assert record["held_back"]["all"]["drafts"] == 4
    assert not (request_of.output / "checkpoints").exists()
    told = capsys.readouterr()
    assert "identifiers replaced" in told.out
    record_text = (request_of.output / RECORD_NAME).read_text()
    for name in (*PLANTED, "patient-"):
        assert name not in told.out + told.err
        assert name not in record_text
        assert name not in everything_in(request_of.output)
    assert record["data"]["identifiers_replaced"]["name"] == 28
    assert record["data"]["split_by"] == "patient"
    with pytest.raises(TrainingError, match="writer already"):
        fine_tune(request_of)


def test_no_identifier_is_among_the_tokens(request_of: Request) -> None:
    tokenizer = tuning.load_tokenizer(request_of.base)
    for name in PLANTED:
        assert tokenizer.unk_token_id not in tokenizer(name)["input_ids"]
    examples, left_out = tokenized(read_pairs(request_of.data).pairs, tokenizer, 4096)
    assert left_out == 0
    text = " ".join(tokenizer.decode(one["input_ids"]) for one in examples)
    assert "[NAME]" in text
    for name in PLANTED:
        assert name not in text


@pytest.mark.parametrize("template", [False, True])
def test_model_is_trained_on_the_very_tokens_that_it_is_asked_with(
    request_of: Request, tmp_path: Path, template: bool,
) -> None:
    base = write_base(tmp_path / "other", request_of.data, template=template)
    tokenizer = tuning.load_tokenizer(base)
    model = CausalLanguageModel(LanguageFolder(base, folder_sha256(base)))
    model.load()
    for pair in read_pairs(request_of.data).pairs[::7]:
        (example,), _ = tokenized([pair], tokenizer, 4096)
        asked = model._asked(messages_of(pair))["input_ids"][0].tolist()
        masked = example["labels"].count(MASKED)
        assert example["input_ids"][:masked] == asked
        assert example["labels"][masked:] == example["input_ids"][masked:]
        assert example["labels"][-1] == tokenizer.eos_token_id


def test_lora_learns_and_merged_weights_answer_as_the_adapter_does(request_of: Request) -> None:
    both = replace(request_of, settings=LORA, merge=True)
    record = fine_tune(both)
    assert falls(record["losses"])
    adapter = both.output / "adapter"
    asked = torch.arange(3, 43)[None]
    plain = logits_of(both.base, None, asked)
    with_adapter = logits_of(both.base, adapter, asked)
    whole = logits_of(both.output / "model", None, asked)
    apart = float((with_adapter - whole).abs().max())
    print(f"merged and adapter differ by {apart:.2e} at most, of {float(whole.abs().max()):.2f}")
    assert apart < 1e-4
    assert float((plain - whole).abs().max()) > 0.1


def test_adapter_lies_beside_a_copy_of_its_base(request_of: Request) -> None:
    record = fine_tune(replace(request_of, settings=replace(LORA, steps=3, precision="bf16")))
    card = load_writer_card(request_of.output)
    assert card.adapter is not None
    assert card.precision == "bf16"
    assert folder_sha256(request_of.output / "model") == folder_sha256(request_of.base)
    assert record["held_back"]["all"]["drafts"] == 4
    assert str(request_of.base) not in everything_in(request_of.output)


@pytest.mark.parametrize("settings", [replace(FULL, steps=12, checkpoint_every=4),
                                      replace(LORA, steps=12, checkpoint_every=4)])
def test_resumed_run_is_the_uninterrupted_one(
    request_of: Request, tmp_path: Path, settings: TuningSettings,
) -> None:
    examples, _ = tokenized(
        read_pairs(request_of.data).pairs, tuning.load_tokenizer(request_of.base), 4096
    )

    def run(folder: Path, **more: Any) -> tuning.Tuned:
        return tuning.tune(request_of.base, examples[8:], examples[:8], 0, folder, settings, **more)

    def killed(step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    straight = run(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "resumed", after_step=killed)
    # What a kill in the middle of writing leaves.
    (tmp_path / "resumed" / "checkpoint-6").mkdir()
    seen: list[int] = []
    resumed = run(tmp_path / "resumed", after_step=seen.append)
    assert seen[0] == 5
    assert resumed.losses == straight.losses
    assert resumed.held_back_loss == straight.held_back_loss
    ones, others = straight.module.state_dict(), resumed.module.state_dict()
    assert all(torch.equal(ones[name], others[name]) for name in ones)
    with pytest.raises(TrainingError, match="other settings"):
        run(tmp_path / "resumed", run="another")


def test_lora_changes_nothing_at_the_start(request_of: Request) -> None:
    module = tuning.load_base(request_of.base, LORA).eval()
    asked = torch.arange(3, 43)[None]
    with torch.inference_mode():
        before = module(input_ids=asked).logits
        after = tuning.prepared(module, LORA).eval()(input_ids=asked).logits
    assert torch.equal(before, after)


def test_lora_on_four_bit_learns_and_is_merged(
    request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("bitsandbytes", reason="4 bit needs bitsandbytes (dicom-node[qlora])")
    # bitsandbytes quantises on a processor as well, slowly: enough for so small a base.
    monkeypatch.setattr(tuning, "_four_bit", lambda lib: tuning.four_bit_options(lib, "cpu"))
    base = write_base(tmp_path / "wide", request_of.data, width=128)
    settings = replace(LORA, method="qlora", precision="bf16")
    record = fine_tune(replace(request_of, base=base, settings=settings, merge=True))
    assert falls(record["losses"])
    assert load_writer_card(request_of.output).precision == "bf16"
    asked = torch.arange(3, 43)[None]
    whole = logits_of(request_of.output / "model", None, asked)
    with_adapter = logits_of(base, request_of.output / "adapter", asked)
    print(f"\nmerged and rounded to bf16: {float((whole - with_adapter).abs().max()):.2e} apart")
    assert torch.allclose(whole, with_adapter, atol=0.05 * float(whole.abs().max()))


def test_run_that_was_killed_goes_on_with_the_same_losses(request_of: Request) -> None:
    def command(output: Path) -> list[str]:
        return [
            sys.executable, "-m", "ai_models.training.language", "--data", str(request_of.data),
            "--base", str(request_of.base), "--output", str(output), "--method", "lora", "--steps",
            "60", "--batch", "4", "--checkpoint-every", "5", "--measure", "0",
        ]

    killed, straight = request_of.output, request_of.output.with_name("straight")
    with subprocess.Popen(command(killed), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not (
            killed / "checkpoints" / "checkpoint-10" / "complete"
        ).exists():
            time.sleep(0.05)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    for output in (killed, straight):
        subprocess.run(command(output), check=True, stdout=subprocess.DEVNULL)
    ones, others = (json.loads((one / RECORD_NAME).read_text()) for one in (killed, straight))
    assert len(ones["losses"]) == 60
    assert ones["losses"] == others["losses"]
    assert ones["writer"] == others["writer"]


def test_base_with_a_link_is_refused_before_the_training(request_of: Request) -> None:
    (request_of.base / "more.json").symlink_to(request_of.base / "config.json")
    with pytest.raises(ModelError, match="link") as raised:
        fine_tune(replace(request_of, settings=LORA))
    assert raised.value.reason == "model.load_failed"
    assert not request_of.output.exists()


def test_four_bit_needs_a_gpu_and_says_so(request_of: Request) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError) as raised:
        fine_tune(replace(request_of, settings=replace(LORA, method="qlora")))
    assert raised.value.reason == "model.backend_missing"


def test_base_that_is_pickled_or_has_code_is_refused(request_of: Request) -> None:
    path = request_of.base / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoConfig": "x.Y"}}))
    with pytest.raises(ModelError) as raised:
        fine_tune(request_of)
    assert raised.value.reason == "model.remote_code"
    (request_of.base / "model.safetensors").unlink()
    with pytest.raises(ModelError) as raised:
        fine_tune(request_of)
    assert raised.value.reason == "model.pickle"


def test_several_gpus_need_deepspeed_and_say_so(request_of: Request) -> None:
    if importlib.util.find_spec("deepspeed") is not None:
        pytest.skip("DeepSpeed is installed")
    place = request_of.output.with_name("zero3.json")
    place.write_text(json.dumps(zero3_configuration(offload=False)))
    with pytest.raises(ModelError, match="deepspeed") as raised:
        fine_tune(replace(request_of, deepspeed=place))
    assert raised.value.reason == "model.backend_missing"


def test_loss_that_is_no_number_ends_the_training(request_of: Request) -> None:
    with pytest.raises(Diverged, match="no number"):
        fine_tune(replace(request_of, settings=replace(FULL, rate=1e25)))
    assert not (request_of.output / "writer.yaml").exists()
