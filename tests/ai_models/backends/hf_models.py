"""Hugging Face folders small enough to be made in a test, with random or with known weights."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
import yaml

from ai_models.backends.huggingface import HuggingFaceBackend
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.weights import folder_sha256
from tests.ai_models.tiny_models import card_text, card_values

SENTENCE = "No nodule is seen ."
WORDS = ["<pad>", "<end>", "<image>", "Describe", "it", *SENTENCE.split(), "[unknown]"]
IMAGE: dict[str, Any] = {
    "kind": "image", "modality": ["DX"], "ndim": 2, "repeat": 3, "normalisation": "imagenet",
    "intensity": {"unit": "displayed"}, "size": {"edges": [32, 32], "fit": "stretch"},
}
SLICES: dict[str, Any] = {
    "modality": ["CT"], "axes": ["S", "P", "L"], "ndim": 2, "repeat": 3,
    "normalisation": "imagenet",
    "intensity": {"unit": "HU", "clip": [-1000, 1000], "scale_to": [0, 1]},
}
SCORES = {
    "activation": "sigmoid", "channels": 3,
    "scores": [{"name": "nodule", "channel": 0}, {"name": "effusion", "channel": 2}],
}
BONE_AGE = {
    "channels": 1,
    "quantities": [{"name": "bone_age", "unit": "mo", "minimum": -1000.0, "maximum": 1000.0}],
}


def write_card(folder: Path, **changes: object) -> Path:
    """A card for the folder ``model`` inside, with its right digest."""
    values = card_values(**copy.deepcopy({
        "weights__path": "model", "weights__sha256": folder_sha256(folder / "model"),
        "runtime__backend": "huggingface", "runtime__roi": None, **changes,
    }))
    (folder / "model.yaml").write_text(card_text(values))
    return folder


def write_classifier(folder: Path, **changes: object) -> Path:
    """A tiny ViT with three outputs, for a radiograph."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(11)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8, id2label={0: "Nodule", 1: "Other", 2: "Effusion"},
    )
    ViTForImageClassification(config).save_pretrained(folder / "model")
    ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder / "model")
    return write_card(folder, **{
        "task": "classification", "input": IMAGE, "output": SCORES, **changes,
    })


def write_regressor(folder: Path, **changes: object) -> Path:
    """A tiny ViT with one number."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(12)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8, num_labels=1, problem_type="regression",
    )
    ViTForImageClassification(config).save_pretrained(folder / "model")
    return write_card(folder, **{
        "task": "regression", "input": IMAGE, "output": BONE_AGE, **changes,
    })


def write_segmenter(folder: Path, **changes: object) -> Path:
    """A tiny SegFormer with background and one label, for the slices of a volume."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(13)
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
        decoder_hidden_size=16, id2label={0: "background", 1: "bright"},
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder / "model")
    return write_card(folder, **{"task": "segmentation", "input": SLICES, **changes})


def followers() -> torch.Tensor:
    """A head ``(words, words)`` by which each word calls the next, and a full stop the end."""
    size = len(WORDS)
    head = torch.zeros(size, size)
    for number, name in enumerate(WORDS):
        head[1 if name == "." else (number + 1) % size, number] = 50.0
    return head


def tokenizer(folder: Path, **options: Any) -> Any:
    """A tokenizer of whole words, made here."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="[unknown]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", unk_token="[unknown]",
        **options,
    )
    wrapped.save_pretrained(folder)
    return wrapped


def say(module: Any) -> None:
    """Weights by which a Llama says `SENTENCE` after the word ``it``, and then ends."""
    size = len(WORDS)
    weights = module.state_dict()
    for name, tensor in weights.items():
        if name.endswith("embed_tokens.weight"):
            tensor.copy_(torch.eye(size))
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()
        elif name.endswith("lm_head.weight"):
            tensor.copy_(followers())


def llama_settings() -> dict[str, Any]:
    size = len(WORDS)
    return {
        "vocab_size": size, "hidden_size": size, "num_hidden_layers": 1, "intermediate_size": 8,
        "num_attention_heads": 1, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None,
        "head_dim": 4, "tie_word_embeddings": False,
    }


def text_changes(changes: dict[str, object]) -> dict[str, object]:
    plain = {**IMAGE, "normalisation": "none", "repeat": 1}
    return {
        "task": "text", "input": plain,
        "output": {"prompt": "Describe it", "max_tokens": 16}, **changes,
    }


def write_language_model(folder: Path, **changes: object) -> Path:
    """A tiny Llama that says `SENTENCE` whatever the image."""
    from transformers import LlamaConfig, LlamaForCausalLM

    module = LlamaForCausalLM(LlamaConfig(**llama_settings()))
    say(module)
    module.save_pretrained(folder / "model")
    tokenizer(folder / "model")
    return write_card(folder, **text_changes(changes))


def write_model_with_eyes(folder: Path, **changes: object) -> Path:
    """A tiny LLaVA: pictures go through a CLIP tower into the same talkative Llama."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(14)
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        image_size=16, patch_size=8, projection_dim=8,
    )
    module = LlavaForConditionalGeneration(LlavaConfig(
        vision_config=vision, text_config=LlamaConfig(**llama_settings()),
        image_token_index=WORDS.index("<image>"), vision_feature_layer=-1,
    ))
    say(module)
    module.generation_config.eos_token_id = 1
    module.save_pretrained(folder / "model")
    template = (
        "{% for message in messages %}{% for part in message.content %}"
        "{% if part.type == 'image' %}<image> {% else %}{{ part.text }}{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    LlavaProcessor(
        CLIPImageProcessor(
            size={"height": 16, "width": 16}, crop_size={"height": 16, "width": 16}
        ),
        tokenizer(folder / "model", additional_special_tokens=["<image>"]),
        patch_size=8, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1, chat_template=template,
    ).save_pretrained(folder / "model")
    return write_card(folder, **text_changes(changes))


def edit_json(folder: Path, name: str, **values: object) -> None:
    """Change a JSON file of the model, and the card's digest with it."""
    path = folder / "model" / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **values}))
    renew_digest(folder)


def renew_digest(folder: Path) -> None:
    """Write the digest of what is there now into the card."""
    card = yaml.safe_load((folder / "model.yaml").read_text())
    card["weights"]["sha256"] = folder_sha256(folder / "model")
    (folder / "model.yaml").write_text(card_text(card))


def open_folder(folder: Path, *, trusted: bool = False) -> HuggingFaceBackend:
    """The loaded back-end of a folder."""
    site = Site(trusted_folders=(folder,) if trusted else ())
    backend = HuggingFaceBackend(load_card(folder), "cpu", site)
    backend.load()
    return backend
