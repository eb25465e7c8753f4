"""Fine-tuning of a causal language model of a local folder, whole or by LoRA.

The loop is that of transformers (`Trainer`): its checkpoints hold weights, AdamW, the schedule and
all random numbers, so that a run that was killed goes on with the same losses. Nothing is fetched,
no code of the folder runs, and nothing but numbers is printed.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ai_models.backends.huggingface_folder import has_safetensors, import_transformers, names_code
from ai_models.backends.offline import no_network
from ai_models.training.language.prompts import padded
from ai_models.training.language.tuning_settings import TuningSettings
from ai_models.training.settings import Diverged, TrainingError
from ai_models.training.torchvision_operators import declare_missing_operators
from ai_models.types import ModelError

Example = Mapping[str, list[int]]
_MARK = "complete"
_SETTINGS = "run"


def check_base(folder: Path) -> None:
    """Refuse a base that is no folder of safetensors, or wants to run code of its own.

    Raises
    ------
    ModelError
        ``model.weights_missing``, ``model.pickle``, ``model.remote_code``.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"no config.json in {folder}", reason="model.weights_missing")
    if not has_safetensors(folder):
        raise ModelError(f"no safetensors in {folder}", reason="model.pickle")
    if culprit := names_code(folder):
        raise ModelError(
            f"{culprit} of {folder.name} asks for code of its own", reason="model.remote_code"
        )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder. TrainingError where it has no sign for the end of a text."""
    declare_missing_operators()
    transformers = import_transformers()
    with no_network(folder.name):
        found = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    if found.eos_token_id is None:
        raise TrainingError(f"the tokenizer of {folder.name} has no sign for the end of a text")
    return found


def load_base(folder: Path, settings: TuningSettings) -> Any:
    """The model in the precision that the method learns in.

    Raises
    ------
    ModelError
        ``model.backend_missing``: 4 bit without a GPU or without bitsandbytes;
        ``model.load_failed``: weights are missing, so that random ones would be learned on.
    """
    transformers = import_transformers()
    options: dict[str, Any] = {"dtype": torch.float32}
    if settings.method != "full" and settings.precision == "bf16":
        options["dtype"] = torch.bfloat16
    if settings.method == "qlora":
        options |= _four_bit(transformers)
    with no_network(folder.name):
        module, told = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True,
            output_loading_info=True, **options,
        )
    if any(told.get(what) for what in ("missing_keys", "mismatched_keys", "error_msgs")):
        raise ModelError(
            f"{folder.name} has not all the weights of {type(module).__name__}",
            reason="model.load_failed",
        )
    return module


def prepared(module: Any, settings: TuningSettings) -> Any:
    """The module as it is trained: with a LoRA adapter, unless every weight is learned.

    The adapter adds nothing at the start.
    """
    module.config.use_cache = False
    if settings.method == "full":
        return module
    try:
        import peft
    except ImportError as error:
        raise ModelError(
            "lora and qlora need the peft package (dicom-node[finetune])",
            reason="model.backend_missing",
        ) from error
    if settings.method == "qlora":
        module = peft.prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
            module, use_gradient_checkpointing=settings.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    torch.manual_seed(settings.seed)
    return peft.get_peft_model(module, peft.LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout,
        target_modules="all-linear", task_type="CAUSAL_LM",
    ))


def tune(
    base: Path, training: Sequence[Example], held_back: Sequence[Example], pad: int,
    checkpoints: Path, settings: TuningSettings, *, run: str = "",
    deepspeed: Mapping[str, Any] | None = None, after_step: Callable[[int], None] | None = None,
) -> Tuned:
    """Fine-tune, from the last whole checkpoint where there is one of the same run.

    Parameters
    ----------
    training, held_back
        As `prompts.tokenized` makes them.
    checkpoints
        Folder for them; whose run they are stands in it.
    run
        What the run is besides its settings: digests of data and base.
    deepspeed
        A configuration for several GPUs, under torchrun.
    after_step
        Called with the number of each step, as a test does to break off.

    Raises
    ------
    TrainingError
        The checkpoints are those of another run.
    Diverged
        The loss became no number.
    ModelError
        As `load_base`; ``model.backend_missing``: accelerate or DeepSpeed is not installed.
    """
    transformers = import_transformers()
    arguments = _arguments(transformers, checkpoints, settings, deepspeed)
    last = _last_checkpoint(checkpoints, settings.digest(run), write=arguments.process_index == 0)
    transformers.set_seed(settings.seed)
    # Made before the model: with DeepSpeed, weights are shared out while they load.
    module = prepared(load_base(base, settings), settings)
    trainer = transformers.Trainer(
        model=module, args=arguments, train_dataset=list(training), eval_dataset=list(held_back),
        data_collator=lambda examples: {
            name: torch.tensor(rows) for name, rows in padded(examples, pad).items()
        },
        callbacks=[_watching(transformers, after_step)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=str(last) if last is not None else None)
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    measured = trainer.evaluate()
    return Tuned(trainer, module, losses, float(measured["eval_loss"]), settings)


class Tuned:
    """A fine-tuned model, still in memory.

    Attributes
    ----------
    losses
        Of each step, from the first on also where the run was resumed.
    held_back_loss
        Mean over the answers' tokens.
    """

    def __init__(
        self, trainer: Any, module: Any, losses: list[float], held_back_loss: float,
        settings: TuningSettings,
    ) -> None:
        self._trainer = trainer
        self.module = module
        self.losses = losses
        self.held_back_loss = held_back_loss
        self._settings = settings

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self._trainer.is_world_process_zero())

    @property
    def processes(self) -> int:
        """How many trained together."""
        return int(self._trainer.args.world_size)

    def save(self, folder: Path) -> None:
        """Write the whole model, or the adapter, as safetensors. Every process calls it."""
        if self.processes == 1 and self._settings.method == "full":
            if self._settings.precision == "bf16":
                self.module.to(torch.bfloat16)
            self.module.config.use_cache = True
            self.module.save_pretrained(str(folder))
        else:
            self._trainer.save_model(str(folder))
        if self.is_first:
            # A pickle of the arguments, and a page of peft that names the folder of the base.
            for name in ("training_args.bin", "README.md"):
                (folder / name).unlink(missing_ok=True)
            if self._settings.method != "full":
                _without_path(folder / "adapter_config.json")

    def close(self) -> None:
        """Let go of the weights."""
        self._trainer = self.module = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _without_path(path: Path) -> None:
    """The name of the base in place of the folder where it lay on this machine, and the layers in
    one order: peft keeps them as a set, and the digest of the same adapter would be another one."""
    values = json.loads(path.read_text())
    values |= {
        "base_model_name_or_path": "model", "target_modules": sorted(values["target_modules"]),
    }
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")


def _four_bit(transformers: Any) -> dict[str, Any]:
    if importlib.util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise ModelError(
            "qlora needs a GPU and the bitsandbytes package (dicom-node[qlora])",
            reason="model.backend_missing",
        )
    return four_bit_options(transformers, torch.cuda.current_device())


def four_bit_options(transformers: Any, device: int | str) -> dict[str, Any]:
    """How a base is loaded as NF4 with double quantisation."""
    return {
        "quantization_config": transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
        "device_map": {"": device},
    }


def _arguments(
    transformers: Any, checkpoints: Path, settings: TuningSettings,
    deepspeed: Mapping[str, Any] | None,
) -> Any:
    for name, why in (("accelerate", True), ("deepspeed", deepspeed is not None)):
        if why and importlib.util.find_spec(name) is None:
            raise ModelError(f"fine-tuning needs the {name} package here",
                             reason="model.backend_missing")
    together = settings.at_once * int(os.environ.get("WORLD_SIZE", "1"))
    if settings.batch % together:
        raise TrainingError(f"batch: a multiple of {together} (at_once by processes) expected")
    return transformers.TrainingArguments(
        output_dir=str(checkpoints), per_device_train_batch_size=settings.at_once,
        per_device_eval_batch_size=settings.at_once,
        gradient_accumulation_steps=settings.batch // together,
        num_train_epochs=settings.epochs, max_steps=settings.steps or -1,
        learning_rate=settings.learning_rate, lr_scheduler_type="cosine",
        warmup_steps=settings.warm_up, weight_decay=settings.weight_decay, optim="adamw_torch",
        bf16=settings.precision == "bf16",
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1, logging_nan_inf_filter=False, save_strategy="steps",
        save_steps=settings.checkpoint_every, save_total_limit=2, seed=settings.seed,
        data_seed=settings.seed, report_to="none", disable_tqdm=True, log_level="error",
        remove_unused_columns=False, dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(), eval_strategy="no",
        deepspeed=dict(deepspeed) if deepspeed is not None else None,
    )


def _last_checkpoint(folder: Path, digest: str, *, write: bool) -> Path | None:
    """The newest that was written to its end; those that were not are removed."""
    mark = folder / _SETTINGS
    if mark.is_file() and mark.read_text() != digest:
        raise TrainingError(
            f"{folder} has checkpoints of other settings, data or base: remove it, or say another "
            "--output"
        )
    found: list[tuple[int, Path]] = []
    for place in folder.glob("checkpoint-*"):
        if (place / _MARK).is_file():
            found.append((int(place.name.rpartition("-")[2]), place))
        elif write:
            shutil.rmtree(place)
    if write and not mark.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(digest)
    return max(found)[1] if found else None


def _watching(transformers: Any, after_step: Callable[[int], None] | None) -> Any:
    class Watching(transformers.TrainerCallback):  # type: ignore[misc]
        """Prints losses, marks whole checkpoints, and ends what diverges."""

        def on_log(self, _args: Any, state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
            loss = (logs or {}).get("loss")
            if loss is None:
                return
            if not math.isfinite(loss):
                raise Diverged(f"the loss of step {state.global_step} is no number")
            if state.is_world_process_zero and state.global_step % 10 == 0:
                print(f"step {state.global_step} of {state.max_steps}: loss {loss:.4f}")

        def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _MARK).touch()

        def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            if after_step is not None:
                after_step(state.global_step)

    return Watching()
