"""The arguments of ``dicom-node draft train``, and of ``python -m ai_models.training.language``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EPILOG = (
    "A line of the file: {\"findings\": \"...\", \"impression\": \"...\", \"modality\": \"CT\", "
    "\"patient\": \"...\"}, or evidence in place of findings; see docs/fine-tuning.md. "
    "Several GPUs: torchrun --nproc-per-node N -m ai_models.training.language ... --deepspeed FILE"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    add = parser.add_argument
    add("--data", type=Path, metavar="FILE", help="pairs, a line of JSON each")
    add("--base", type=Path, metavar="FOLDER", help="a Hugging Face folder with safetensors")
    add("--output", type=Path, metavar="FOLDER", help="of the writer; a killed run goes on there")
    add("--id", default="fine-tuned-writer", help="of the writer")
    add("--name", default="Fine-tuned writer", help="of the writer, as people read it")
    add("--weights-licence", default="", metavar="SPDX", help="of the base; empty: there is none")
    add("--source", default="a local folder", metavar="WORDS", help="where the base is from")
    add("--method", choices=("full", "lora", "qlora"), default="lora",
        help="all weights; small additions; those on 4 bit (a GPU, bitsandbytes)")
    add("--merge", action="store_true", help="add the additions to the base: one model")
    add("--epochs", type=float, default=1.0, metavar="N")
    add("--steps", type=int, default=0, metavar="N", help="instead of epochs")
    add("--batch", type=int, default=16, metavar="N", help="pairs a step, over all GPUs")
    add("--at-once", type=int, default=1, metavar="N", help="pairs together on one GPU")
    add("--rate", type=float, default=0.0, metavar="R", help="default: 1e-5 full, 2e-4 others")
    add("--warm-up", type=int, default=0, metavar="N", help="steps")
    add("--rank", type=int, default=16, metavar="N")
    add("--alpha", type=int, default=32, metavar="N")
    add("--dropout", type=float, default=0.05, metavar="P")
    add("--precision", choices=("fp32", "bf16"), default="fp32")
    add("--keep-activations", action="store_true",
        help="no gradient checkpointing: faster, and more memory")
    add("--longest", type=int, default=2048, metavar="N", help="tokens of a pair")
    add("--held-back", type=float, default=0.1, metavar="P", help="share that is measured on")
    add("--seed", type=int, default=0, metavar="N")
    add("--checkpoint-every", type=int, default=100, metavar="N", help="steps")
    add("--max-tokens", type=int, default=1024, metavar="N", help="of a draft")
    add("--measure", type=int, default=200, metavar="N", help="drafts of pairs held back")
    add("--bert-score", type=Path, metavar="FOLDER", help="an encoder, for BERTScore")
    add("--bert-layer", type=int, default=0, metavar="N", help="of it; 0: the last")
    add("--deepspeed", type=Path, metavar="FILE", help="configuration, ZeRO stage 3")
    add("--write-deepspeed", type=Path, metavar="FILE", help="write one, and end")
    add("--offload", action="store_true", help="in it: share with the computer's memory")
    add("--anew", action="store_true", help="do not go on from a checkpoint")


def run_command(arguments: argparse.Namespace) -> int:
    """Write the configuration that is asked for, or fine-tune.

    Raises
    ------
    TrainingError, ModelError, OSError
        As `fine_tuning.fine_tune`.
    """
    from ai_models.training.language.fine_tuning import RECORD_NAME, Request, fine_tune
    from ai_models.training.language.tuning_settings import TuningSettings, zero3_configuration
    from ai_models.training.language.written import WriterWords
    from ai_models.training.settings import TrainingError

    asked = arguments
    if asked.write_deepspeed is not None:
        values = zero3_configuration(offload=asked.offload)
        asked.write_deepspeed.write_text(json.dumps(values, indent=1) + "\n")
        return 0
    for name in ("data", "base", "output"):
        if getattr(asked, name) is None:
            raise TrainingError(f"--{name} is needed")
    settings = TuningSettings(
        asked.method, asked.epochs, asked.steps, asked.batch, asked.at_once, asked.rate,
        asked.warm_up, rank=asked.rank, alpha=asked.alpha, dropout=asked.dropout,
        precision=asked.precision, gradient_checkpointing=not asked.keep_activations,
        longest=asked.longest, seed=asked.seed, checkpoint_every=asked.checkpoint_every,
        held_back=asked.held_back,
    )
    record = fine_tune(Request(
        asked.data, asked.base, asked.output,
        WriterWords(asked.id, asked.name, asked.weights_licence, asked.source,
                    max_tokens=asked.max_tokens),
        settings, asked.merge, asked.deepspeed, asked.measure, asked.bert_score, asked.bert_layer,
        asked.anew,
    ))
    if "writer" in record:
        print(f"loss held back {record['held_back_loss']:.4f}")
        for name, told in (record["held_back"] or {}).items():
            print(f"{name}: {json.dumps(told)}")
        if told := of_no_use(record["held_back"]):
            print(told)
        print(f"the writer is in {asked.output}, with {RECORD_NAME}; DEMONSTRATION, NOT FOR "
              "CLINICAL USE")
    return 0


def of_no_use(held_back: Mapping[str, Mapping[str, Any]] | None) -> str:
    """What a person is told of a writer most of whose drafts the node could not read; or nothing.
    """
    every = (held_back or {}).get("all")
    if every is None or 2 * every["unreadable"] <= every["drafts"]:
        return ""
    return (
        f"of no use as it is: {every['unreadable']} of {every['drafts']} drafts are not in the "
        "form that the node reads, and the template would stand in for them"
    )
