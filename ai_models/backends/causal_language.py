"""A causal language model of a Hugging Face folder, with a LoRA adapter or without, for a chat.

Greedy: the likeliest word each time. Only safetensors are read, no code of the folder runs, and
nothing is fetched: the base that an adapter names is the folder beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ai_models.backends.builds import why_no_torchvision
from ai_models.backends.generating import written_by
from ai_models.backends.huggingface_folder import (
    has_safetensors,
    import_transformers,
    names_code,
    read_settings,
)
from ai_models.backends.huggingface_text import settled_device
from ai_models.backends.offline import no_network
from ai_models.backends.protocol import is_out_of_memory
from ai_models.types import ModelError
from ai_models.weights import folder_sha256

_DTYPES = {
    "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "nf4": torch.bfloat16,
}
_LONGEST_REASON = 300
_LORA, _FIRST = ".lora_", (".lora_A", ".lora_embedding_A")


@dataclass(frozen=True)
class LanguageFolder:
    """A folder and the digest that it must have."""

    path: Path
    sha256: str

    def verified(self) -> Path:
        """The folder, compared and found to hold nothing that runs.

        Raises
        ------
        ModelError
            ``model.weights_missing``, ``model.hash_mismatch``, ``model.pickle``,
            ``model.remote_code``.
        """
        if not self.path.is_dir():
            raise ModelError(f"no folder of weights at {self.path}", reason="model.weights_missing")
        found = folder_sha256(self.path)
        if found != self.sha256:
            raise ModelError(
                f"{self.path.name} has the SHA-256 {found}, its card says {self.sha256}",
                reason="model.hash_mismatch",
            )
        if not has_safetensors(self.path):
            raise ModelError(f"no safetensors in {self.path.name}", reason="model.pickle")
        if culprit := names_code(self.path):
            raise ModelError(
                f"{culprit} of {self.path.name} asks for code of its own",
                reason="model.remote_code",
            )
        return self.path


class CausalLanguageModel:
    """Answers a chat.

    Parameters
    ----------
    base, adapter
        The model, and the LoRA adapter on it, if any.
    precision
        ``fp32``, ``bf16``, ``fp16``, or ``nf4``: 4 bit, on a GPU with bitsandbytes.
    device
        ``cpu`` or ``cuda:0``.
    """

    def __init__(
        self, base: LanguageFolder, adapter: LanguageFolder | None = None, *,
        precision: str = "fp32", device: str = "cpu",
    ) -> None:
        self._base = base
        self._adapter = adapter
        self._precision = precision
        self._device = device
        self._place = torch.device("cpu")
        self._module: Any = None
        self._tokenizer: Any = None
        self.notes: tuple[str, ...] = ()

    def load(self) -> None:
        """Compare the folders and load them.

        Raises
        ------
        ModelError
            As `LanguageFolder.verified`; ``model.backend_missing``; ``model.load_failed``;
            ``model.network_needed``.
        """
        folder = self._base.verified()
        adapter = self._adapter.verified() if self._adapter is not None else None
        transformers = import_transformers()
        self._place, lacking = settled_device(self._device)
        options: dict[str, Any] = {"dtype": _DTYPES[self._precision]}
        if self._precision == "nf4":
            options["quantization_config"] = self._four_bit(transformers)
        self._tokenizer = _loaded(transformers.AutoTokenizer, folder)
        module, told = _loaded(
            transformers.AutoModelForCausalLM, folder, use_safetensors=True, weights_only=True,
            output_loading_info=True, **options,
        )
        if any(told.get(what) for what in ("missing_keys", "mismatched_keys", "error_msgs")):
            raise ModelError(
                f"{folder.name} has not all the weights of {type(module).__name__}",
                reason="model.load_failed",
            )
        if adapter is not None:
            module = _adapted(module, adapter)
        module = module if self._precision == "nf4" else module.to(self._place)
        self._module = module.eval()
        on = " with an adapter" if adapter is not None else ""
        self.notes = (
            f"transformers {transformers.__version__}, {self._place}, {self._precision}{on}",
            *lacking,
        )

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """What the model says to ``messages`` (``role`` and ``content``).

        Raises
        ------
        ModelError
            ``model.not_loaded``; ``model.not_finite``; ``model.wrong_output``: it is empty, or was
            cut off.
        """
        if self._module is None:
            raise ModelError("answer before load", reason="model.not_loaded")
        asked = self._asked(messages).to(self._place)
        return written_by(self._module, self._tokenizer, asked, max_tokens, "max_tokens")

    def close(self) -> None:
        """Let go of the weights."""
        self._module = self._tokenizer = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _asked(self, messages: Sequence[Mapping[str, str]]) -> Any:
        if getattr(self._tokenizer, "chat_template", None) is not None:
            return self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=True, return_dict=True,
                return_tensors="pt",
            )
        return self._tokenizer(
            "\n".join(one["content"] for one in messages), return_tensors="pt"
        )

    def _four_bit(self, transformers: Any) -> Any:
        """NF4 with double quantisation; bitsandbytes has it on a GPU only."""
        import importlib.util

        if importlib.util.find_spec("bitsandbytes") is None or self._place.type != "cuda":
            raise ModelError(
                "precision nf4 needs a GPU and the bitsandbytes package",
                reason="model.backend_missing",
            )
        return transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )


def _loaded(kind: Any, folder: Path, **options: Any) -> Any:
    try:
        with no_network(folder.name):
            return kind.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, **options
            )
    except ModelError:
        raise
    except Exception as error:  # the library raises OSError, ValueError, KeyError and more
        if is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:_LONGEST_REASON]
        # As in `FolderLoader`: one of another build is in the way, and none would not be.
        why = why_no_torchvision() if "Could not import module" in said else ""
        raise ModelError(
            f"transformers cannot load {folder.name}: {said}" + (why and f". {why}"),
            reason="model.backend_missing" if why else "model.load_failed",
        ) from error


def _adapted(module: Any, adapter: Path) -> Any:
    settings = read_settings(adapter / "adapter_config.json")
    if str(settings.get("peft_type", "")) != "LORA":
        raise ModelError(f"{adapter.name} is no LoRA adapter", reason="model.load_failed")
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise ModelError(
            "an adapter needs the peft package (dicom-node[adapt])", reason="model.backend_missing"
        ) from error
    try:
        ranks = _ranks(adapter)
        _check_rank(adapter, settings, ranks)
        with no_network(adapter.name):
            model = PeftModel.from_pretrained(module, str(adapter), is_trainable=False)
        asked = get_peft_model_state_dict(model, save_embedding_layers=False)
    except ModelError:
        raise
    except Exception as error:  # the library raises ValueError, KeyError, RuntimeError and more
        if is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ModelError(
            f"the adapter {adapter.name} does not fit its model: {said}",
            reason="model.load_failed",
        ) from error
    # The library leaves out what it has no place for, and the model would write without it.
    strange = {name for name in asked if _LORA in name} ^ set(ranks)
    if strange or not ranks:
        raise ModelError(
            f"the adapter {adapter.name} does not fit its model: {len(strange)} tensors are in one "
            f"of them only{': ' if strange else ''}{', '.join(sorted(strange)[:2])}",
            reason="model.load_failed",
        )
    return model


def _ranks(adapter: Path) -> dict[str, int]:
    """The rank of each LoRA tensor in the folder, 0 of all but ``A``; weights are not read."""
    from safetensors import safe_open

    ranks = {}
    for path in sorted(adapter.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                if _LORA in name:
                    is_first = any(one in name for one in _FIRST)
                    ranks[name] = tensors.get_slice(name).get_shape()[0] if is_first else 0
    return ranks


def _check_rank(adapter: Path, settings: Mapping[str, Any], ranks: Mapping[str, int]) -> None:
    """Refuse a rank that no tensor has: layers of it are made first, and may take all memory."""
    most = max(ranks.values(), default=0)
    for rank in (settings.get("r"), *(settings.get("rank_pattern") or {}).values()):
        if not isinstance(rank, int) or not 1 <= rank <= most:
            raise ModelError(
                f"{adapter.name} says rank {rank!r}, and its tensors have {most} at most",
                reason="model.load_failed",
            )
