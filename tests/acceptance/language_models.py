"""What PneumoLLM and the fine-tuning of writers must show, as figures.

    python -m tests.acceptance.language_models              # all of it, some minutes
    python -m tests.acceptance.language_models pneumollm    # or import, full, lora, qlora, resume

A line for each figure; it ends with 1 where one is not what it must be. Tests hold the same; here
somebody reads the numbers.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from ai_models.networks.pneumo_llm import PneumoLlm
from ai_models.predictor import Predictor
from ai_models.training.language import tuning
from ai_models.training.language.fine_tuning import Request, fine_tune
from ai_models.training.language.tuning_settings import TuningSettings
from tests.ai_models.networks.test_pneumo_llm import SOURCES, states_of, tokens_of
from tests.ai_models.networks.tiny_pneumo_llm import (
    picture,
    random_adapters,
    tiny_clip,
    tiny_network,
)
from tests.ai_models.training.language import test_fine_tuning as fine_tuning
from tests.ai_models.training.language.pair_files import lines, write_base, write_pairs
from tests.ai_models.training.test_import_pneumollm import Files
from tests.conftest import pytest_configure

Figure = tuple[str, bool]
_ROUNDING = 1e-4


def pneumollm(_: Path) -> Iterator[Figure]:
    """Weights at the published size, who reads whom, and the beginning."""
    from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaModel

    with torch.device("meta"):
        clip = CLIPVisionModel(CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
            num_attention_heads=16, image_size=224, patch_size=14,
        ))
        whole = PneumoLlm(clip, LlamaModel(LlamaConfig()))
    trained = sum(one.numel() for one in whole.parameters() if one.requires_grad)
    yield f"trainable weights at the published size: {trained:,}", trained == 2_704_000
    for attention in ("eager", "sdpa"):
        network = random_adapters(tiny_network(attention))
        tokens = tokens_of(network)
        other = tokens.clone()
        other[:, SOURCES:] = torch.randn_like(other[:, SOURCES:])
        both = list(zip(states_of(network, tokens), states_of(network, other), strict=True))
        apart = max((a[:, :SOURCES] - b[:, :SOURCES]).abs().max().item() for a, b in both)
        own = min((a[:, SOURCES:] - b[:, SOURCES:]).abs().max().item() for a, b in both)
        yield (f"{attention}: source tokens change by {apart} in {len(both)} layers when diagnosis "
               f"tokens do (which change by {own:.3f})"), apart == 0.0 and own > 0
    fresh = tiny_network()
    torch.manual_seed(5)
    bare = tiny_clip()
    with torch.no_grad():
        seen = bare(pixel_values=picture(), output_hidden_states=True).hidden_states
        plain = torch.stack([states[:, 0] for states in seen[2::2]], dim=1)
        change = (fresh.source_tokens(picture()) - plain).abs().max().item()
    yield f"adapters that have not learned change what CLIP sees by {change}", change == 0.0


def imported(folder: Path) -> Iterator[Figure]:
    """A checkpoint with the keys of its authors."""
    files = Files(folder)
    model = files.imported(files.checkpoint())
    predictor = Predictor(model)
    predictor.load()
    module = predictor.backend.networks[0].module  # type: ignore[attr-defined]
    theirs, ours = files.network.state_dict(), module.state_dict()
    equal = sum(torch.equal(theirs[name], ours[name]) for name in theirs)
    predictor.close()
    yield (f"published layout: {equal} of {len(theirs)} tensors are bit for bit in their place, "
           f"such as {next(iter(files.tensors))}"), equal == len(theirs) > 0


def _request(folder: Path, settings: TuningSettings, width: int = 32) -> Request:
    data = write_pairs(folder / "pairs.jsonl", [*lines(40), *lines(0, 10)])
    return Request(data, write_base(folder / "base", data, width=width), folder / "writer",
                   fine_tuning.WORDS, settings, measure=4)


def _learned(losses: list[float], method: str) -> Figure:
    return (f"{method}: loss {losses[0]:.2f} at step 1, {losses[-1]:.2f} at step {len(losses)}",
            fine_tuning.falls(losses))


def full(folder: Path) -> Iterator[Figure]:
    """Every weight of a tiny Llama."""
    yield _learned(fine_tune(_request(folder, fine_tuning.FULL))["losses"], "full")


def lora(folder: Path) -> Iterator[Figure]:
    """Additions, and merged ones."""
    request = replace(_request(folder, fine_tuning.LORA), merge=True)
    yield _learned(fine_tune(request)["losses"], "lora")
    yield _merged(request, _ROUNDING)


def qlora(folder: Path) -> Iterator[Figure]:
    """Additions to a base of 4 bit; on a processor, which bitsandbytes does slowly."""
    if importlib.util.find_spec("bitsandbytes") is None:
        yield "qlora: bitsandbytes is not installed (dicom-node[qlora])", False
        return
    settings = replace(fine_tuning.LORA, method="qlora", precision="bf16")
    request = replace(_request(folder, settings, width=128), merge=True)
    before = tuning._four_bit
    tuning._four_bit = lambda transformers: tuning.four_bit_options(transformers, "cpu")
    try:
        losses = fine_tune(request)["losses"]
    finally:
        tuning._four_bit = before
    yield _learned(losses, f"qlora (bitsandbytes {importlib.metadata.version('bitsandbytes')})")
    # The merged model is written in bf16: that rounding is in it.
    yield _merged(request, 0.05)


def _merged(request: Request, allowed: float) -> Figure:
    asked = torch.arange(3, 43)[None]
    whole = fine_tuning.logits_of(request.output / "model", None, asked)
    beside = fine_tuning.logits_of(request.base, request.output / "adapter", asked)
    apart, most = float((whole - beside).abs().max()), float(whole.abs().max())
    return (f"merged model and base with adapter are {apart:.1e} apart, of logits up to {most:.2f}",
            apart <= allowed * max(most, 1.0))


def resume(folder: Path) -> Iterator[Figure]:
    """A run that was killed at step 6 of 12, and one that was not."""
    from ai_models.training.language.pairs import read_pairs
    from ai_models.training.language.prompts import tokenized

    def killed(step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    for settings in (fine_tuning.FULL, fine_tuning.LORA):
        settings = replace(settings, steps=12, checkpoint_every=4)
        place = folder / settings.method
        place.mkdir()
        request = _request(place, settings)
        examples, _ = tokenized(
            read_pairs(request.data).pairs, tuning.load_tokenizer(request.base), 4096)
        given = (request.base, examples[8:], examples[:8], 0)
        straight = tuning.tune(*given, place / "straight", settings)
        try:
            tuning.tune(*given, place / "resumed", settings, after_step=killed)
        except KeyboardInterrupt:
            seen: list[int] = []
        resumed = tuning.tune(*given, place / "resumed", settings, after_step=seen.append)
        ones, others = straight.module.state_dict(), resumed.module.state_dict()
        equal = sum(torch.equal(ones[name], others[name]) for name in ones)
        yield (f"{settings.method}: goes on at step {seen[0]}, {equal} of {len(ones)} tensors and "
               f"{sum(a == b for a, b in zip(straight.losses, resumed.losses, strict=True))} of "
               f"{len(straight.losses)} losses are the same"), (
            equal == len(ones) and straight.losses == resumed.losses)


PARTS: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "pneumollm": pneumollm, "import": imported, "full": full, "lora": lora, "qlora": qlora,
    "resume": resume,
}


def main(arguments: list[str] | None = None) -> int:
    """Print the figures of the parts that are named, of all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    asked = parser.parse_args(arguments).parts or list(PARTS)
    # As for tests: torchvision may be of another build here.
    pytest_configure()
    wrong = 0
    for name in asked:
        with tempfile.TemporaryDirectory() as folder:
            for told, is_right in PARTS[name](Path(folder)):
                sys.stdout.write(f"{'' if is_right else 'WRONG: '}{told}\n")
                sys.stdout.flush()
                wrong += not is_right
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
