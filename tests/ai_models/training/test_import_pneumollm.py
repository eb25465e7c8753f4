"""A checkpoint in the layout of its authors: loaded bit by bit, or refused with a reason."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.card import load_card
from ai_models.networks.pneumo_llm import PneumoLlm
from ai_models.predictor import Predictor
from ai_models.training.import_pneumollm import main, read_published, write_model
from ai_models.training.settings import TrainingError
from ai_models.trust import Site, why_refused
from ai_models.types import ClassificationPrediction, Image, ModelError
from tests.ai_models.backends.pneumo_models import write_parts

_THEIRS = {
    "llama_adapters.": "layers.", "clip_adapters.": "backbone.visual.transformer.resblocks.",
    "projector.down": "adapter_proj.conv_A", "projector.up": "adapter_proj.conv_B",
    "head.": "adapter_output_cls.", "engine.": "prompt_meta_net.",
}


def their_name(name: str) -> str:
    for ours, theirs in _THEIRS.items():
        if name.startswith(ours):
            name = theirs + name.removeprefix(ours)
            break
    if name.startswith(("layers.", "backbone.")):
        return name.replace(".down.", ".adapter_attn.conv_A.").replace(
            ".up.", ".adapter_attn.conv_D.")
    return name


class Files:
    """A network, its folders, and the checkpoint that its authors would have written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network: PneumoLlm = write_parts(folder)
        self.tensors = {their_name(name): one.clone()
                        for name, one in self.network.state_dict().items()}

    def checkpoint(self, tensors: dict[str, Any] | None = None, **more: Any) -> Path:
        path = self.folder / "checkpoint-99.pth"
        torch.save({
            "model": self.tensors if tensors is None else tensors,
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": []},
            "epoch": 99, "lr_scheduler": {"last_epoch": 99},
            "args": argparse.Namespace(lr=3e-4, llama_path="/somewhere", n_prompt=4), **more,
        }, path)
        return path

    def imported(self, path: Path, **options: Any) -> Any:
        return write_model(path, self.folder / "clip", self.folder / "llama",
                           self.folder / "model", every=2, **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("published"))


def test_the_names_are_those_of_the_authors(files: Files) -> None:
    assert {
        "layers.2.adapter_attn.conv_A.weight", "layers.0.adapter_attn.conv_D.bias",
        "backbone.visual.transformer.resblocks.5.adapter_attn.conv_D.weight",
        "adapter_proj.conv_A.weight", "adapter_proj.conv_B.bias", "adapter_output_cls.weight",
        "prompt_meta_net.linear1.bias", "prompt_meta_net.linear2.weight",
    } <= set(files.tensors)
    assert all("adapter" in name or "prompt" in name for name in files.tensors)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_tensor_is_loaded_bit_by_bit(files: Files, prefix: str) -> None:
    path = files.checkpoint({prefix + name: one for name, one in files.tensors.items()})
    card = files.imported(path)
    predictor = Predictor(card)
    predictor.load()
    module = predictor.backend.networks[0].module  # type: ignore[attr-defined]
    for name, one in files.network.state_dict().items():
        assert torch.equal(module.state_dict()[name], one), name
    shown = Image(np.random.default_rng(2).random((50, 40), dtype=np.float32), (1.0, 1.0))
    said = predictor.predict(shown)
    predictor.close()
    assert isinstance(said, ClassificationPrediction)
    assert set(said.scores) == {"pneumoconiosis"}


def test_convolutions_over_single_tokens_and_16_bits_are_taken(files: Files) -> None:
    other = {
        name: (one[..., None] if name.startswith("adapter_proj") and one.ndim == 2 else one).half()
        for name, one in files.tensors.items()
    }
    card = files.imported(files.checkpoint(other))
    predictor = Predictor(card)
    predictor.load()
    module = predictor.backend.networks[0].module  # type: ignore[attr-defined]
    for name, one in files.network.state_dict().items():
        assert torch.equal(module.state_dict()[name], one.half().float()), name
    predictor.close()


def test_what_is_imported_is_for_research_only(files: Files) -> None:
    card = files.imported(files.checkpoint())
    assert why_refused(card, Site(use="research")) is None
    assert why_refused(card, Site(use="clinical")) is not None
    # Neither the word "demonstration" nor one of the licences alone keeps it out.
    for demonstration, weights in ((False, card.weights.licence), (False, "MIT")):
        licensed = card.model_copy(update={
            "demonstration": demonstration,
            "weights": card.weights.model_copy(update={"licence": weights}),
        })
        assert "licence of its" in (why_refused(licensed, Site(use="clinical")) or "")


def test_the_defects_of_the_published_training_are_choices_of_the_card(files: Files) -> None:
    path = files.checkpoint()
    pools = [files.imported(path, pool=pool).runtime.network.arguments["pool"]
             for pool in ("all", "diagnosis")]
    assert pools == ["all", "diagnosis"]


@pytest.mark.parametrize(("change", "said"), [
    (lambda t: t.pop("adapter_output_cls.weight"), "1 tensors are missing: head.weight"),
    (lambda t: [t.pop(n) for n in list(t) if n.startswith("prompt_")], "4 tensors are missing"),
    (lambda t: t.update({"layers.3.adapter_attn.conv_A.weight": torch.zeros(8, 48, 1)}),
     "1 are of no such layer: llama_adapters.3.down.weight"),
    (lambda t: t.update({"adapter_output_cls.weight": torch.zeros(2, 47)}),
     r"another shape: head.weight \(2, 47\) for \(2, 48\)"),
    (lambda t: t.update({"fc.weight": torch.zeros(2)}), "fc.weight is not known"),
    (lambda t: t.update({"module.adapter_output_cls.weight": torch.zeros(2, 48)}), "two tensors"),
    (lambda t: t["adapter_output_cls.weight"].fill_(float("nan")), "no numbers"),
    (lambda t: t.clear(), "no weights by name"),
])
def test_another_checkpoint_is_refused(files: Files, change: Any, said: str) -> None:
    tensors = {name: one.clone() for name, one in files.tensors.items()}
    change(tensors)
    with pytest.raises(TrainingError, match=said):
        files.imported(files.checkpoint(tensors))


def test_a_checkpoint_that_would_run_code_is_refused(files: Files) -> None:
    path = files.checkpoint(extra=Path("/etc"))
    with pytest.raises(ModelError) as error:
        read_published(path)
    assert error.value.reason == "model.pickle"


def test_the_command_says_why_it_refuses(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--clip", str(files.folder / "clip"), "--llama", str(files.folder / "llama")]
    torch.save({"model": {"fc.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    assert main([str(tmp_path / "other.pth"), *folders, "--output", str(tmp_path / "out")]) == 1
    assert "no checkpoint of PneumoLLM" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    swapped = ["--clip", folders[3], "--llama", folders[1]]
    assert main([str(files.checkpoint()), *swapped, "--output", str(tmp_path / "out")]) == 1
    assert "is a folder of 'llama'" in capsys.readouterr().err


def test_the_folders_are_put_beside_with_their_digests(files: Files) -> None:
    files.imported(files.checkpoint())
    card = load_card(files.folder / "model")
    assert card.runtime.network is not None
    assert {name: part.path for name, part in card.runtime.network.folders.items()} == {
        "clip": "clip", "llama": "llama"
    }
    assert card.input.size is not None and card.input.size.edges == [28, 28]
