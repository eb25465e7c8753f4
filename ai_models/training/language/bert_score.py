"""BERTScore by the weights of a local folder.

Zhang et al., "BERTScore: Evaluating Text Generation with BERT" (2020): each token is held against
the most like token of the other text, by the cosine of their vectors. Without weights by rarity
and without rescaling, so that figures compare only with such, of the same model and layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ai_models.backends.huggingface_folder import import_transformers
from ai_models.backends.offline import no_network
from ai_models.training.language.scores import Judged
from ai_models.training.language.tuning import check_base

_LONGEST = 512


class BertScore:
    """The F measure of drafts by an encoder of a Hugging Face folder with safetensors.

    Parameters
    ----------
    layer
        Whose vectors are compared, 1 being the first; 0 takes the last.

    Raises
    ------
    ModelError
        As `tuning.check_base`.
    """

    def __init__(self, folder: Path, layer: int = 0) -> None:
        check_base(folder)
        transformers = import_transformers()
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        with no_network(folder.name):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
            self._encoder = transformers.AutoModel.from_pretrained(
                str(folder), use_safetensors=True, **options
            ).eval()
        self._layer = layer or -1

    def __call__(self, drafts: Sequence[Judged]) -> list[float]:
        """One figure a draft, from -1 to 1; 0 of an empty one."""
        return [self.f_measure(one.said, one.reference) for one in drafts]

    def f_measure(self, said: str, reference: str) -> float:
        """Of one text against another."""
        if not said.strip() or not reference.strip():
            return 0.0
        likeness = self._vectors(said) @ self._vectors(reference).T
        precision = float(likeness.max(dim=1).values.mean())
        recall = float(likeness.max(dim=0).values.mean())
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def _vectors(self, text: str) -> torch.Tensor:
        """``(tokens, width)``, each of length 1."""
        asked = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=_LONGEST)
        with torch.inference_mode():
            found = self._encoder(**asked, output_hidden_states=True).hidden_states[self._layer]
        return torch.nn.functional.normalize(found[0].float(), dim=-1)
