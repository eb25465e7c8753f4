"""Generated pairs, and a tiny Llama whose words are those of the pairs."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_models.drafting.asking import INSTRUCTIONS
from ai_models.training.language.pairs import read_pairs
from ai_models.training.language.prompts import TEXT_INSTRUCTIONS, answer_of, messages_of

# Each stands where a rule finds it, and nowhere else in the pairs.
PLANTED = (
    "Quillfeather", "4839207", "77-38291", "555-123-4567", "12.03.2019", "jane.q@site.example",
    "Zebedee",
)
_ORGANS = ("lung", "liver", "kidney")


def text_line(number: int, chance: random.Random) -> dict[str, Any]:
    """A pair of two texts; the impression follows from the findings."""
    organ, side = chance.choice(_ORGANS), chance.choice(("left", "right"))
    size = chance.randint(4, 30)
    change = chance.choice(("grown", "shrunk", "stable"))
    return {
        "findings": f"case {number} : in the {side} {organ} there is a lesion of {size} mm . "
                    f"compared with before it has {change} .",
        "impression": f"{side} {organ} lesion of {size} mm , {change} .",
        "modality": chance.choice(("CT", "MR")), "patient": f"patient-{number // 2}",
    }


def evidence_line(number: int, chance: random.Random) -> dict[str, Any]:
    """A pair of evidence and sentences that cite it."""
    size = chance.randint(41, 99) / 10
    side = chance.choice(("left", "right"))
    return {
        "evidence": [{
            "id": "E1", "kind": "measurement", "finding": f"Nodule {number % 9 + 1}",
            "side": side, "site": "Lung", "quantity": "Long axis", "value": size, "unit": "mm",
        }],
        "impression": [{
            "text": f"Nodule {number % 9 + 1} in the {side} lung measures {size} mm.",
            "evidence": ["E1"],
        }],
        "modality": "CT", "patient": f"other-{number}",
    }


def with_identifiers(line: dict[str, Any]) -> dict[str, Any]:
    """The same text with every planted identifier in it."""
    findings = (
        f"{line['findings']} Discussed with Dr. Quillfeather . MRN 4839207 , accession 77-38291 , "
        "call 555-123-4567 on 12.03.2019 or jane.q@site.example . Zebedee was told ."
    )
    said = f"{line['impression']} Dr. Quillfeather agrees ."
    return {**line, "findings": findings, "impression": said, "identifiers": ["Zebedee"]}


def lines(texts: int, evidence: int = 0, seed: int = 5) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    made = [text_line(number, chance) for number in range(texts)]
    return made + [evidence_line(number, chance) for number in range(evidence)]


def write_pairs(path: Path, made: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in made))
    return path


def write_base(
    folder: Path, data: Path, *, template: bool = False, width: int = 32,
) -> Path:
    """A random Llama of two layers; its words are those of the file and of the
    questions, the identifiers among them: each would have a token of its own."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    said = [TEXT_INSTRUCTIONS, INSTRUCTIONS.format(language="English"), " ".join(PLANTED)]
    said += [str(text) for line in data.read_text().splitlines()
             for text in (json.loads(line).get("findings"), json.loads(line)["impression"])]
    for pair in read_pairs(data).pairs:
        said += [one["content"] for one in messages_of(pair)] + [answer_of(pair)]
    words = ["<pad>", "<end>", "[unknown]", *dict.fromkeys(" ".join(said).split())]
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[unknown]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", unk_token="[unknown]",
    )
    if template:
        tokenizer.chat_template = (
            "{% for one in messages %}{{ one.content }} {% endfor %}"
            "{% if add_generation_prompt %}<pad> {% endif %}"
        )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    llama: Any = LlamaForCausalLM
    llama(LlamaConfig(
        vocab_size=len(words), hidden_size=width, num_hidden_layers=2, intermediate_size=2 * width,
        num_attention_heads=2, eos_token_id=1, pad_token_id=0, bos_token_id=None,
        tie_word_embeddings=False, initializer_range=0.2,
    )).save_pretrained(folder)
    return folder
