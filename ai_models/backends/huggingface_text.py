"""A language model of a Hugging Face folder, with eyes or without.

Greedy: the likeliest word each time, so that the same images give the same sentences. A model with
eyes gets 8-bit pictures and its own processor cuts them up; the card only scales them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ai_models.backends.generating import written_by
from ai_models.backends.huggingface_folder import (
    FolderLoader,
    check_folder,
    import_transformers,
)
from ai_models.backends.openai import pictures
from ai_models.backends.protocol import Answer, NetworkInput, check_device
from ai_models.card import TextCard
from ai_models.trust import Site
from ai_models.types import FloatArray, ModelError
from ai_models.weights import verify_folder

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def settled_device(asked: str) -> tuple[torch.device, tuple[str, ...]]:
    """The device, or the CPU and a sentence where torch does not have it."""
    if asked != "cpu" and not torch.cuda.is_available():
        return torch.device("cpu"), (
            f"{asked} was asked for, but torch sees no CUDA: ran on the CPU",
        )
    return torch.device(asked), ()


class TextWriter:
    """Writes sentences on the images of one input."""

    def __init__(self, card: TextCard, device: str, site: Site) -> None:
        self._card = card
        self._device = device
        self._site = site
        self._place = torch.device("cpu")
        self._module: Any = None
        self._reader: Any = None
        self._has_eyes = False
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Device and precision that are really used, and whether images are looked at."""
        return self._notes

    def probe(self) -> None:
        """See `Backend.probe`."""
        check_device(self._device)
        if self._card.input.normalisation != "none":
            raise ModelError(
                f"{self._card.id}: pictures hold values as input.intensity scales them; "
                "input.normalisation is for networks", reason="model.wrong_input",
            )
        check_folder(self._card, self._site)

    def load(self) -> None:
        """See `Backend.load`."""
        verify_folder(self._card)
        self.probe()
        transformers = import_transformers()
        loader = FolderLoader(self._card, self._site)
        config = loader.part("AutoConfig")
        self._has_eyes = type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        if self._has_eyes:
            self._reader = loader.part("AutoProcessor")
            loads = "AutoModelForImageTextToText"
        else:
            self._reader = loader.part("AutoTokenizer")
            loads = "AutoModelForCausalLM"
        precision = self._card.runtime.precision
        module = loader.model(loads, _DTYPES[precision])
        self._place, lacking = settled_device(self._device)
        self._module = module.eval().to(self._place)
        what = f"transformers {transformers.__version__}, {self._place}, {precision}"
        blind = () if self._has_eyes else ("this model reads words only: it saw no image",)
        self._notes = (what, *lacking, *blind)

    def warm_up(self) -> None:
        """Nothing: a text for nobody takes seconds, and a first one hardly more than a second."""

    @torch.inference_mode()
    def predict(self, image: NetworkInput) -> Answer:
        """See `Backend.predict`; `Answer.text`.

        Raises
        ------
        ModelError
            ``model.not_finite``; ``model.wrong_output``: the text is empty, or was cut off at
            ``output.max_tokens``.
        """
        if self._module is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        asked = self._asked(image.array).to(self._place)
        for name, value in asked.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                asked[name] = value.to(self._module.dtype)
        text = written_by(
            self._module, self._reader, asked, self._card.output.max_tokens, "output.max_tokens"
        )
        return Answer(text=text, notes=self._notes)

    def _asked(self, array: FloatArray) -> Any:
        """What the model reads: the card's sentences in the form it knows, and pictures."""
        output = self._card.output
        templated = getattr(self._reader, "chat_template", None) is not None
        sentences = [one for one in (output.system_prompt, output.prompt) if one]
        if not self._has_eyes:
            if not templated:
                return self._reader("\n".join(sentences), return_tensors="pt")
            roles = ["system", "user"][-len(sentences) :]
            return self._as_chat([
                {"role": role, "content": text}
                for role, text in zip(roles, sentences, strict=True)
            ])
        from PIL import Image

        shown = [
            Image.fromarray(picture).convert("RGB")
            for picture in pictures(
                array, self._card.input.intensity.scale_to or (0.0, 1.0), output.max_images
            )
        ]
        if not templated:
            return self._reader(images=shown, text="\n".join(sentences), return_tensors="pt")
        user = [
            *({"type": "image", "image": picture} for picture in shown),
            {"type": "text", "text": output.prompt},
        ]
        system = [{"type": "text", "text": output.system_prompt}]
        return self._as_chat([
            *([{"role": "system", "content": system}] if output.system_prompt else []),
            {"role": "user", "content": user},
        ])

    def _as_chat(self, messages: list[Mapping[str, Any]]) -> Any:
        return self._reader.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True,
            return_tensors="pt",
        )

    def close(self) -> None:
        """See `Backend.close`."""
        self._module = self._reader = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
