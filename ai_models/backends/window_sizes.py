"""Networks that take windows of some sizes only: told by the key of the card that sets the size."""

from __future__ import annotations

from collections.abc import Sequence

from ai_models.card import Card
from ai_models.types import ModelError

# torch at `cat` and at sums, MONAI's transformers, ONNX Runtime: all in small letters.
_SAYS_SO = (
    "sizes of tensors must match", "must match the size of tensor", "should be divisible by",
    "must be divisible by", "non concat axis dimensions must match", "calculated padded input size",
    "kernel size can't be greater than actual input size", "axis dimensions must match",
)


def refused_size(error: Exception, card: Card, edges: Sequence[int]) -> ModelError | None:
    """What to say when a network failed over the size of what it was shown; ``None`` otherwise.

    ``edges`` are those of a window, or of the whole input where none are cut.
    """
    said = str(error).lower()
    if isinstance(error, ModelError) or not any(words in said for words in _SAYS_SO):
        return None
    size = " x ".join(map(str, edges))
    if card.input.size is not None:
        what, key = "inputs", "input.size"
    elif card.runtime.roi:
        what, key = "windows", "runtime.roi"
    else:
        what, key = "inputs", "no runtime.roi: the whole input is shown"
    first = str(error).strip().splitlines()[-1][:200]
    return ModelError(
        f"the network does not take {what} of {size} ({key}); edges are often multiples of 16 or "
        f"32. It says: {first}", reason="model.wrong_input",
    )
