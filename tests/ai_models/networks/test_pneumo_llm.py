"""PneumoLLM: what is trained, who reads whom, and what it is before it has learned."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ai_models.networks.pneumo_llm import PneumoLlm, TokenEngine
from tests.ai_models.networks.tiny_pneumo_llm import (
    picture,
    random_adapters,
    tiny_clip,
    tiny_llama,
    tiny_network,
)

SOURCES, TOKENS = 3, 4
BOTH = pytest.mark.parametrize("attention", ["eager", "sdpa"])


def states_of(network: PneumoLlm, tokens: torch.Tensor) -> list[torch.Tensor]:
    """What every layer of LLaMA leaves, and the last normalisation."""
    seen: list[torch.Tensor] = []

    def keep(_layer: Any, _inputs: Any, out: Any) -> None:
        seen.append(out[0] if isinstance(out, tuple) else out)

    hooks = [layer.register_forward_hook(keep) for layer in network.llama.layers]
    with torch.no_grad():
        last = network.read(tokens)
    for hook in hooks:
        hook.remove()
    return [*seen, last]


def tokens_of(network: PneumoLlm) -> torch.Tensor:
    with torch.no_grad():
        sources = network.source_tokens(picture())
        return torch.cat((sources, network.engine(sources)), dim=1)


def test_at_the_published_size_2_704_000_weights_are_trained() -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaModel

    with torch.device("meta"):
        clip = CLIPVisionModel(CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
            num_attention_heads=16, image_size=224, patch_size=14,
        ))
        network = PneumoLlm(clip, LlamaModel(LlamaConfig()))
    parts = {
        name: sum(one.numel() for one in module.parameters() if one.requires_grad)
        for name, module in network.named_children()
    }
    assert parts == {
        "clip": 0, "llama": 0, "llama_adapters": 1_704_192, "clip_adapters": 319_680,
        "engine": 12_352, "projector": 659_584, "head": 8_192,
    }
    assert sum(one.numel() for one in network.trainable().values()) == 2_704_000
    assert sum(one.numel() for one in clip.parameters()) == 303_179_776


def test_as_published_by_error_the_engine_does_not_learn() -> None:
    whole, legacy = tiny_network(), tiny_network(train_engine=False)
    left_out = set(whole.trainable()) - set(legacy.trainable())
    assert left_out == {f"engine.{name}" for name, _ in whole.engine.named_parameters()}
    # It is part of what was learned from all the same: without it the weights mean nothing.
    assert set(legacy.state_dict()) == set(whole.state_dict()) == set(whole.trainable())


@BOTH
def test_nobody_reads_a_diagnosis_token(attention: str) -> None:
    network = random_adapters(tiny_network(attention))
    tokens = tokens_of(network)
    other = tokens.clone()
    other[:, SOURCES:] = torch.randn(2, TOKENS, tokens.shape[2])
    before, after = states_of(network, tokens), states_of(network, other)
    for one, two in zip(before, after, strict=True):
        assert (one[:, :SOURCES] - two[:, :SOURCES]).abs().max().item() == 0.0
        assert (one[:, SOURCES:] - two[:, SOURCES:]).abs().amax(dim=(0, 2)).min().item() > 1e-3


@BOTH
def test_diagnosis_tokens_do_not_read_each_other(attention: str) -> None:
    network = random_adapters(tiny_network(attention))
    tokens = tokens_of(network)
    other = tokens.clone()
    other[:, -1] += 1.0
    for one, two in zip(states_of(network, tokens), states_of(network, other), strict=True):
        assert (one[:, :-1] - two[:, :-1]).abs().max().item() == 0.0


@BOTH
def test_the_first_source_token_reads_the_last(attention: str) -> None:
    network = random_adapters(tiny_network(attention))
    tokens = tokens_of(network)
    other = tokens.clone()
    other[:, SOURCES - 1] += 1.0
    first = [one[:, 0] for one in states_of(network, tokens)]
    changed = [one[:, 0] for one in states_of(network, other)]
    assert all((a - b).abs().max() > 1e-4 for a, b in zip(first, changed, strict=True))


def test_both_ways_to_compute_attention_agree() -> None:
    eager, sdpa = (random_adapters(tiny_network(one)) for one in ("eager", "sdpa"))
    with torch.no_grad():
        torch.testing.assert_close(eager(picture()), sdpa(picture()), rtol=1e-4, atol=1e-5)


def test_at_the_start_adapters_change_nothing() -> None:
    network = tiny_network()
    torch.manual_seed(5)
    clip, llama = tiny_clip(), tiny_llama()
    with torch.no_grad():
        seen = clip(pixel_values=picture(), output_hidden_states=True).hidden_states
        plain = torch.stack([states[:, 0] for states in seen[2::2]], dim=1)
        sources = network.source_tokens(picture())
        assert torch.equal(sources, plain)
        tokens = torch.cat((sources, network.engine(sources)), dim=1)
        bare = llama(
            inputs_embeds=network.projector(tokens), use_cache=False,
            attention_mask=network.emitter.expand(2, 1, -1, -1),
        ).last_hidden_state
        assert torch.equal(network.read(tokens), bare)
        random_adapters(network)
        assert not torch.equal(network.source_tokens(picture()), plain)


def test_source_tokens_are_of_every_second_layer_before_the_last_normalisation() -> None:
    network = random_adapters(tiny_network())
    seen: list[torch.Tensor] = []
    for layer in network.clip.encoder.layers:
        layer.register_forward_hook(lambda _layer, _inputs, out: seen.append(
            (out[0] if isinstance(out, tuple) else out)[:, 0]
        ))
    with torch.no_grad():
        sources = network.source_tokens(picture())
    assert torch.equal(sources, torch.stack([seen[1], seen[3], seen[5]], dim=1))


def test_a_diagnosis_token_is_a_weighted_mean_of_the_sources() -> None:
    torch.manual_seed(1)
    engine, sources = TokenEngine(32, 4), torch.randn(2, 6, 32)
    made = engine(sources)
    assert made.shape == (2, 4, 32)
    same = sources[:, :1].expand(-1, 6, -1)
    torch.testing.assert_close(engine(same), same[:, :4])
    # Whoever turns the sources about is answered the same.
    torch.testing.assert_close(engine(sources.flip(1)), made)


def test_only_what_is_trained_gets_gradients() -> None:
    network = random_adapters(tiny_network()).train()
    network(picture()).sum().backward()
    with_gradient = {name for name, one in network.named_parameters() if one.grad is not None}
    assert with_gradient == set(network.trainable())
    assert not any(name.startswith(("clip.", "llama.")) for name in with_gradient)
    assert not network.clip.training and not network.llama.training
    assert network.llama_adapters.training


def test_the_mean_is_of_all_tokens_or_of_the_diagnosis_tokens() -> None:
    every, diagnosis = (random_adapters(tiny_network(pool=one)) for one in ("all", "diagnosis"))
    with torch.no_grad():
        read = every.read(tokens_of(every))
        torch.testing.assert_close(every(picture()), every.head(read.mean(dim=1)))
        torch.testing.assert_close(diagnosis(picture()), every.head(read[:, SOURCES:].mean(dim=1)))


def test_what_is_saved_is_what_was_trained_and_nothing_may_be_missing() -> None:
    trained, fresh = random_adapters(tiny_network()), tiny_network()
    weights = trained.state_dict()
    assert set(weights) == set(trained.trainable())
    fresh.load_state_dict(weights)
    with torch.no_grad():
        assert torch.equal(fresh(picture()), trained(picture()))
    lacking = {name: one for name, one in weights.items() if name != "head.weight"}
    with pytest.raises(RuntimeError, match="head"):
        fresh.load_state_dict(lacking)
    with pytest.raises(RuntimeError, match="nowhere"):
        fresh.load_state_dict({**weights, "nowhere": torch.zeros(1)})


def test_a_copy_has_adapters_of_its_own() -> None:
    network = tiny_network()
    twin = random_adapters(copy.deepcopy(network))
    with torch.no_grad():
        assert not torch.equal(network(picture()), twin(picture()))
        twin.load_state_dict(network.state_dict())
        assert torch.equal(network(picture()), twin(picture()))


def test_the_mask_goes_where_the_network_goes_and_16_bits_answer_nearly_the_same() -> None:
    network = random_adapters(tiny_network())
    assert network.to("meta").emitter.device.type == "meta"
    full, half = random_adapters(tiny_network()), random_adapters(tiny_network())
    half.clip.bfloat16()
    half.llama.bfloat16()
    with torch.no_grad():
        near = half(picture())
        assert near.dtype == torch.float32
        torch.testing.assert_close(near, full(picture()), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"every": 7}, "7th of 6 layers"), ({"tokens": 0}, "0 diagnosis"), ({"pool": "none"}, "all")],
)
def test_numbers_that_do_not_go_together_are_refused(
    arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        tiny_network(**arguments)
