"""From a file of pairs and a base to the folder of a writer, with a record of how it was made."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_models.drafting.writer_card import WriterCard
from ai_models.folder_copy import check_beside
from ai_models.training.language.deidentifying import NOT_FOUND
from ai_models.training.language.pairs import Pair, PairFile, read_pairs
from ai_models.training.language.prompts import messages_of, tokenized
from ai_models.training.language.scores import answered, figures
from ai_models.training.language.splitting import (
    DUPLICATE_THRESHOLD,
    GROUP_THRESHOLD,
    Split,
    split_of,
)
from ai_models.training.language.tuning_settings import TuningSettings, read_deepspeed
from ai_models.training.language.written import NOT_COPIED, WriterWords, write_writer
from ai_models.training.settings import TrainingError
from ai_models.weights import folder_sha256

RECORD_NAME = "training.json"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Request:
    """What is to be done.

    Attributes
    ----------
    data, base, output
        The file of pairs, the folder of the base, the folder of the writer to be made.
    merge
        Add the adapter to the base, instead of laying both side by side.
    deepspeed
        A configuration of DeepSpeed, for several GPUs.
    measure
        How many of the pairs held back are drafted and judged; 0 measures their loss only.
    bert_score, bert_layer
        A folder with an encoder, and which of its layers; without one there is no such figure.
    anew
        Do not go on from checkpoints.
    """

    data: Path
    base: Path
    output: Path
    words: WriterWords
    settings: TuningSettings = field(default_factory=TuningSettings)
    merge: bool = False
    deepspeed: Path | None = None
    measure: int = 200
    bert_score: Path | None = None
    bert_layer: int = 0
    anew: bool = False


def fine_tune(request: Request) -> dict[str, Any]:
    """Do it; the record, which is written beside the card as well.

    Raises
    ------
    TrainingError
        What was asked for cannot be done, or the writer is there already.
    ModelError
        As `tuning.tune`, `write_writer`.
    OSError
        A file cannot be read or written.
    """
    from ai_models.training.language.tuning import check_base, load_tokenizer, tune

    settings, output = request.settings, request.output
    if (output / RECORD_NAME).exists():
        raise TrainingError(f"{output} has a writer already: say another --output")
    check_base(request.base)
    if request.bert_score is not None:
        check_base(request.bert_score)
    if settings.method != "full" and not request.merge:
        check_beside(request.base, NOT_COPIED, "model.load_failed")
    shared = request.deepspeed
    deepspeed = read_deepspeed(shared, settings.method) if shared is not None else None
    file = read_pairs(request.data)
    split = split_of(file.pairs, settings.held_back, settings.seed)
    tokenizer = load_tokenizer(request.base)
    training, left_out = tokenized(split.training, tokenizer, settings.longest)
    held_back, held_left_out = tokenized(split.held_back, tokenizer, settings.longest)
    if not training or not held_back:
        raise TrainingError("no pair is as short as `longest` on one side of the split")
    told = _data_told(file, split, left_out, held_left_out)
    _print_data(told)
    if request.anew:
        shutil.rmtree(output / _CHECKPOINTS, ignore_errors=True)
    pad = tokenizer.pad_token_id
    tuned = tune(
        request.base, training, held_back, tokenizer.eos_token_id if pad is None else pad,
        output / _CHECKPOINTS, settings, run=f"{file.sha256} {_as_it_lies(request.base)}",
        deepspeed=deepspeed,
    )
    tuned.save(output / ("model" if settings.method == "full" else "adapter"))
    record: dict[str, Any] = {
        "settings": settings.document(), "data": told, "processes": tuned.processes,
        "losses": [round(one, 6) for one in tuned.losses], "held_back_loss": tuned.held_back_loss,
    }
    is_first = tuned.is_first
    alone = tuned.processes == 1
    tuned.close()
    if not is_first:
        return record
    card = write_writer(
        output, request.base, request.words, settings, merge=request.merge, tokenizer=tokenizer
    )
    record["base_sha256"] = folder_sha256(request.base)
    record["writer"] = {"id": card.id, "version": card.version, "sha256": card.identity.sha256}
    # Of several processes each holds a GPU: the writer would be loaded beside them.
    record["held_back"] = _measured(card, split.held_back, request) if alone else None
    (output / RECORD_NAME).write_text(json.dumps(record, indent=1) + "\n")
    shutil.rmtree(output / _CHECKPOINTS, ignore_errors=True)
    return record


def _as_it_lies(folder: Path) -> str:
    """Names, sizes and times of its files: quicker than a digest, and enough to see a change."""
    found = sorted(one for one in folder.rglob("*") if one.is_file())
    told = [(str(one.relative_to(folder)), one.stat().st_size, one.stat().st_mtime_ns)
            for one in found]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _data_told(
    file: PairFile, split: Split, left_out: int, held_left_out: int
) -> dict[str, Any]:
    """Counts and digests; no text and nobody's ID."""
    sides = {"training": split.training, "held_back": split.held_back}
    return {
        "sha256": file.sha256, "pairs": len(file.pairs), "ignored_keys": file.ignored_keys,
        "identifiers_replaced": dict(file.removed), "identifiers_not_found": list(NOT_FOUND),
        "near_duplicates_left_out": split.near_duplicates,
        "near_duplicate_threshold": DUPLICATE_THRESHOLD,
        "split_by": split.by, "groups": split.groups,
        "group_threshold": GROUP_THRESHOLD if split.by != "patient" else None,
        "too_long_left_out": {"training": left_out, "held_back": held_left_out},
        **{side: {"pairs": len(pairs), "with_evidence": sum(p.evidence is not None for p in pairs),
                  "by_modality": _by_modality(pairs)} for side, pairs in sides.items()},
    }


def _by_modality(pairs: tuple[Pair, ...]) -> dict[str, int]:
    names = sorted({one.modality for one in pairs})
    return {name: sum(one.modality == name for one in pairs) for name in names}


def _print_data(told: dict[str, Any]) -> None:
    replaced = told["identifiers_replaced"]
    words = ", ".join(f"{many} {kind}" for kind, many in replaced.items()) or "none"
    print(f"{told['pairs']} pairs; identifiers replaced: {words}")
    print("not found by expressions, look at a sample yourself: " + "; ".join(NOT_FOUND))
    print(f"near duplicates left out: {told['near_duplicates_left_out']} "
          f"(Jaccard index {DUPLICATE_THRESHOLD} or more)")
    if told["split_by"] != "patient":
        print("pairs without a patient: split by likeness of their texts, so that one patient may "
              "be on both sides, and figures may be too good")
    long = sum(told["too_long_left_out"].values())
    print(f"trained on {told['training']['pairs']}, held back {told['held_back']['pairs']}, "
          f"left out as too long {long}")
    if not told["training"]["with_evidence"]:
        print("no pair has evidence: the writer learns to answer findings, and what the node asks "
              "(evidence, JSON with citations) may not be answered in that form")


def _measured(card: WriterCard, pairs: tuple[Pair, ...], request: Request) -> dict[str, Any] | None:
    """Figures of drafts by the writer as it was written, loaded as a site loads it."""
    import torch

    from ai_models.backends.causal_language import CausalLanguageModel, LanguageFolder

    if not request.measure:
        return None
    adapter = card.adapter
    model = CausalLanguageModel(
        LanguageFolder(card.folder / (card.weights.path or ""), card.weights.sha256 or ""),
        None if adapter is None else LanguageFolder(card.folder / adapter.path, adapter.sha256),
        precision=card.precision, device="cuda:0" if torch.cuda.is_available() else "cpu",
    )
    model.load()
    drafts = answered(
        pairs[: request.measure], lambda one: model.answer(messages_of(one), card.max_tokens)
    )
    model.close()
    bert = None
    if request.bert_score is not None:
        from ai_models.training.language.bert_score import BertScore

        bert = BertScore(request.bert_score, request.bert_layer)
    return figures(drafts, bert)
