"""How a language model is fine-tuned: numbers that a person sets, each with a default that works.

The paper on RadiologyLlama (arXiv 2408.11848) does not give its rank, rates and epochs: those
here are common ones, not its.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from ai_models.training.settings import TrainingError

Method = Literal["full", "lora", "qlora"]
_RATES: dict[str, float] = {"full": 1e-5, "lora": 2e-4, "qlora": 2e-4}


@dataclass(frozen=True)
class TuningSettings:
    """Of one fine-tuning.

    Attributes
    ----------
    method
        ``full``: every weight; ``lora``: small additions to every linear layer (Hu et al. 2021);
        ``qlora``: those on a base of 4 bit (Dettmers et al. 2023), on a GPU with bitsandbytes.
    epochs, steps
        How often every pair is seen; ``steps`` says it in changes of the weights instead.
    batch, at_once
        Pairs for each step over all processes; how many go through the model together.
    rate
        Of AdamW, falling as a cosine after ``warm_up`` steps of rising. 0: 1e-5 of ``full``, 2e-4
        of the others.
    rank, alpha, dropout
        Of ``lora`` and ``qlora``.
    precision
        ``bf16`` by autocast: the weights that are learned stay in 32 bit. A base that is not
        learned is held in 16 bit then.
    gradient_checkpointing
        Compute activations twice, and keep fewer.
    longest
        Tokens of a pair; a longer one is left out.
    seed
        Of the split, the order, the additions and the dropout.
    checkpoint_every
        In steps; a run that was killed goes on there.
    held_back
        Share of the pairs that is measured on and not trained on.
    """

    method: Method = "lora"
    epochs: float = 1.0
    steps: int = 0
    batch: int = 16
    at_once: int = 1
    rate: float = 0.0
    warm_up: int = 0
    weight_decay: float = 0.0
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = True
    longest: int = 2048
    seed: int = 0
    checkpoint_every: int = 100
    held_back: float = 0.1

    def __post_init__(self) -> None:
        for name in ("batch", "at_once", "rank", "alpha", "longest", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name}: 1 or more expected")
        if self.batch % self.at_once:
            raise TrainingError("batch: a multiple of at_once expected")
        if not 0 < self.held_back < 1 or not 0 <= self.dropout < 1:
            raise TrainingError("held_back, dropout: shares between 0 and 1 expected")
        if self.epochs <= 0 and self.steps < 1:
            raise TrainingError("epochs or steps: more than 0 expected")

    @property
    def learning_rate(self) -> float:
        """The highest one."""
        return self.rate or _RATES[self.method]

    def document(self) -> dict[str, Any]:
        """As JSON values, for the record."""
        return {**asdict(self), "rate": self.learning_rate}

    def digest(self, *further: str) -> str:
        """Of all of this and of ``further``: two runs with one digest are one run."""
        told = json.dumps([self.document(), *further], sort_keys=True)
        return sha256(told.encode()).hexdigest()


def zero3_configuration(*, offload: bool) -> dict[str, Any]:
    """A DeepSpeed configuration, ZeRO stage 3 (Rajbhandari et al. 2020): weights, gradients and
    the state of AdamW are shared out over all GPUs, and lie in the memory of the computer with
    ``offload``. ``auto`` is filled from the settings.
    """
    stage: dict[str, Any] = {
        "stage": 3, "overlap_comm": True, "contiguous_gradients": True,
        "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_gather_16bit_weights_on_model_save": True,
    }
    if offload:
        place = {"device": "cpu", "pin_memory": True}
        stage |= {"offload_optimizer": place, "offload_param": place}
    return {
        "bf16": {"enabled": "auto"}, "zero_optimization": stage, "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto", "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
    }


def read_deepspeed(path: Path, method: Method) -> dict[str, Any]:
    """A DeepSpeed configuration from a file.

    Raises
    ------
    TrainingError
        It is none of stage 3, or would not go together with the method.
    OSError
        It cannot be read.
    """
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise TrainingError(f"{path.name}: no JSON") from error
    stage = values.get("zero_optimization") if isinstance(values, dict) else None
    if not isinstance(stage, dict) or stage.get("stage") != 3:
        raise TrainingError(f"{path.name}: zero_optimization.stage 3 expected")
    if method == "qlora":
        raise TrainingError("DeepSpeed cannot share out a base of 4 bit: take lora or full")
    gathers = stage.get("stage3_gather_16bit_weights_on_model_save")
    if method == "full" and gathers is not True:
        raise TrainingError(
            f"{path.name}: stage3_gather_16bit_weights_on_model_save must be true, or no weights "
            "are written"
        )
    return dict(values)
