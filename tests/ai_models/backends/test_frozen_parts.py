"""A card of PneumoLLM with CLIP and LLaMA beside it: what is loaded, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ai_models.backends.architectures import build
from ai_models.backends.frozen_parts import build_pneumo_llm, outline_pneumo_llm
from ai_models.card import load_card
from ai_models.networks.pneumo_llm import PneumoLlm
from ai_models.predictor import Predictor
from ai_models.trust import Site, why_refused
from ai_models.types import CardError, ClassificationPrediction, Image, ModelError
from ai_models.weights import folder_sha256, verify_weights
from tests.ai_models.backends.pneumo_models import ARGUMENTS, write_pneumo_model
from tests.ai_models.networks.tiny_pneumo_llm import picture


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PneumoLlm]:
    folder = tmp_path_factory.mktemp("pneumo")
    return folder, write_pneumo_model(folder)


@pytest.fixture
def parts(written: tuple[Path, PneumoLlm], tmp_path: Path) -> dict[str, Path]:
    for name in ("clip", "llama"):
        shutil.copytree(written[0] / name, tmp_path / name)
    return {name: tmp_path / name for name in ("clip", "llama")}


def refused(parts: dict[str, Path]) -> tuple[str | None, str]:
    with pytest.raises(ModelError) as error:
        build("PneumoLLM", ARGUMENTS, parts)
    return error.value.reason, str(error.value)


def test_the_card_answers_as_the_network_it_was_made_of(
    written: tuple[Path, PneumoLlm]
) -> None:
    folder, network = written
    predictor = Predictor(load_card(folder))
    predictor.load()
    shown = np.random.default_rng(1).random((60, 50), dtype=np.float32)
    said = predictor.predict(Image(shown, (1.0, 1.0)))
    assert isinstance(said, ClassificationPrediction)
    module = predictor.backend.networks[0].module  # type: ignore[attr-defined]
    with torch.no_grad():
        torch.testing.assert_close(module(picture()), network(picture()), rtol=1e-5, atol=1e-6)
    again = predictor.predict(Image(shown, (1.0, 1.0)))
    assert isinstance(again, ClassificationPrediction)
    assert said.scores == again.scores
    assert 0.0 < said.scores["pneumoconiosis"] < 1.0


def test_whole_folders_as_published_and_parts_of_them_are_the_same(
    parts: dict[str, Path], written: tuple[Path, PneumoLlm]
) -> None:
    network = written[1]
    from_whole = build_pneumo_llm(**parts, every=2).eval()
    network.clip.save_pretrained(parts["clip"].parent / "vision")
    from_part = build_pneumo_llm(parts["clip"].parent / "vision", parts["llama"], every=2).eval()
    for one in (from_whole, from_part):
        one.load_state_dict(network.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(one(picture()), network(picture()), rtol=1e-5, atol=1e-6)


def test_the_outline_has_names_and_shapes_and_no_weights(parts: dict[str, Path]) -> None:
    outline = outline_pneumo_llm(**parts, every=2, frozen="bf16")
    whole = build_pneumo_llm(**parts, every=2, frozen="bf16")
    assert {name: one.shape for name, one in outline.state_dict().items()} == {
        name: one.shape for name, one in whole.state_dict().items()
    }
    assert all(one.is_meta for one in outline.parameters())
    assert next(whole.llama.parameters()).dtype == torch.bfloat16


def test_another_file_in_a_folder_is_refused(
    written: tuple[Path, PneumoLlm], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(written[0], folder)
    card = load_card(folder)
    verify_weights(card)
    (folder / "llama" / "generation_config.json").write_text("{}")
    for check in (lambda: verify_weights(card), Predictor(card).load):
        with pytest.raises(ModelError, match=r"network\.folders\.llama\.sha256") as error:
            check()
        assert error.value.reason == "model.hash_mismatch"


def test_the_digest_of_the_model_is_of_its_folders_too(
    written: tuple[Path, PneumoLlm]
) -> None:
    card = load_card(written[0])
    assert card.weights_sha256 != card.weights.sha256


def test_the_licence_of_a_folder_keeps_it_from_a_clinical_site(
    written: tuple[Path, PneumoLlm], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(written[0], folder)
    path = folder / "model.yaml"
    plain = path.read_text().replace("demonstration: true", "demonstration: false").replace(
        "licence: none", "licence: MIT")
    path.write_text(plain)
    assert why_refused(load_card(folder), Site(use="clinical")) is None
    for licence in ("LLaMA 1, non-commercial research only", "''"):
        path.write_text(plain.replace(
            "licence: Apache-2.0\n        source", f"licence: {licence}\n        source"))
        card = load_card(folder)
        assert "licence of its llama" in (why_refused(card, Site(use="clinical")) or "")
        assert why_refused(card, Site(use="research")) is None


def test_a_folder_of_another_model_is_refused(parts: dict[str, Path]) -> None:
    reason, said = refused({"clip": parts["llama"], "llama": parts["clip"]})
    assert reason == "model.load_failed" and "'llama'" in said
    reason, said = refused({"clip": parts["clip"]})
    assert reason == "model.load_failed" and "clip and llama" in said


def test_a_tensor_that_is_missing_is_not_made_up(parts: dict[str, Path]) -> None:
    config = parts["llama"] / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "num_hidden_layers": 4}))
    reason, said = refused(parts)
    assert reason == "model.load_failed" and "layers.3" in said


def test_pickled_weights_are_refused(parts: dict[str, Path]) -> None:
    torch.save({}, parts["clip"] / "pytorch_model.bin")
    for one in parts["clip"].glob("*.safetensors"):
        one.unlink()
    assert refused(parts)[0] == "model.pickle"


def test_code_of_its_own_is_refused(parts: dict[str, Path]) -> None:
    config = parts["clip"] / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "auto_map": {"AutoModel": "own.Model"}}))
    assert refused(parts)[0] == "model.remote_code"


@pytest.mark.parametrize(
    "arguments", [{"frozen": "nf4"}, {"attention": "flash"}, {"pool": "some"}, {"depth": 3}],
)
def test_arguments_that_are_none_of_it_are_refused(
    arguments: dict[str, object], parts: dict[str, Path]
) -> None:
    with pytest.raises(ModelError, match=next(iter(arguments))):
        build("PneumoLLM", arguments, parts)


def test_a_folder_lies_beside_the_card(written: tuple[Path, PneumoLlm], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(written[0], folder)
    path = folder / "model.yaml"
    path.write_text(path.read_text().replace("path: clip", "path: ../clip"))
    with pytest.raises(CardError, match="folders.clip.path"):
        load_card(folder)


def test_folders_are_of_the_network_that_is_built_on_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="LungUNet is built on none"):
        build("LungUNet", {}, {"clip": tmp_path})


@pytest.mark.parametrize(("part", "key", "value"), [
    ("llama", "num_hidden_layers", 10**7), ("llama", "hidden_size", 2**31),
    ("llama", "num_attention_heads", 0), ("clip", "image_size", 2**20),
])
def test_settings_that_would_take_all_memory_are_refused_before_a_network_is_made(
    parts: dict[str, Path], part: str, key: str, value: int
) -> None:
    path = parts[part] / "config.json"
    settings = json.loads(path.read_text())
    (settings.get("vision_config") or settings)[key] = value
    path.write_text(json.dumps(settings))
    reason, told = refused(parts)
    assert reason == "model.load_failed"
    assert key in told


@pytest.mark.parametrize(("part", "tensor"), [("clip", "q_proj.weight"), ("llama", "gate_proj")])
def test_one_weight_of_a_folder_that_is_no_number_is_no_answer(
    written: tuple[Path, PneumoLlm], tmp_path: Path, part: str, tensor: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(written[0], folder)
    before = folder_sha256(folder / part)
    path = folder / part / "model.safetensors"
    weights = load_file(path)
    # A whole CLIP has one for words as well, which nobody asks.
    name = next(one for one in weights if tensor in one and "text_model" not in one)
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    card = folder / "model.yaml"
    card.write_text(card.read_text().replace(before, folder_sha256(folder / part)))
    predictor = Predictor(load_card(folder))
    predictor.load()
    with pytest.raises(ModelError) as error:
        predictor.predict(Image(np.random.default_rng(0).random((40, 40), np.float32), None))
    assert error.value.reason == "model.not_finite"
