"""Sliding windows over an input.

Windows that hold one single value (air, padding) all get the same answer, so it is computed once.
Everything stays on the device that windows and sums are asked for; weights are made once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ai_models.backends.windows import blended
from ai_models.types import ModelError

Predict = Callable[[torch.Tensor], torch.Tensor]


@torch.inference_mode()
def sliding_window_logits(
    image: torch.Tensor,
    predict: Predict,
    *,
    roi: tuple[int, ...],
    overlap: float,
    batch: int,
    channels: int,
    padding: float,
    windows_on: torch.device,
    sums_on: torch.device,
) -> torch.Tensor:
    """Logits ``(inputs, channels, *spatial)`` float32 of ``(inputs, input channels, *spatial)``.

    ``predict`` takes windows ``(batch, input channels, *roi)`` on the device ``windows_on`` to
    logits ``(batch, channels, *roi)`` there. Windows overlap by the fraction ``overlap`` and their
    logits are blended with Gaussian weights on the device ``sums_on``. An input smaller than a
    window is padded on both sides with ``padding``.

    Raises
    ------
    ModelError
        ``model.wrong_output``: the network answered another shape.
    """
    return blended(
        image, _ConstantWindows(predict, channels), roi=roi, overlap=overlap, batch=batch,
        padding=padding, windows_on=windows_on, sums_on=sums_on,
    )


@torch.inference_mode()
def whole_logits(
    image: torch.Tensor,
    predict: Predict,
    *,
    batch: int,
    channels: int,
    windows_on: torch.device,
    sums_on: torch.device,
) -> torch.Tensor:
    """The same without windows: each input in one piece, ``batch`` of them at once."""
    answer: torch.Tensor | None = None
    for start in range(0, len(image), batch):
        windows = image[start : start + batch].to(windows_on)
        logits = checked(predict(windows), windows, channels)
        if len(image) <= batch:
            return logits.to(sums_on)
        if answer is None:
            answer = torch.empty((len(image), *logits.shape[1:]), device=sums_on)
        answer[start : start + batch] = logits
    if answer is None:
        raise ModelError("an input without slices", reason="input.not_a_volume")
    return answer


CHANNELS_BY_ACTIVATION = (
    "output.activation: sigmoid expects one channel for each of output.labels, softmax and none "
    "one more before them, the background"
)


def checked(logits: torch.Tensor, windows: torch.Tensor, channels: int) -> torch.Tensor:
    """The logits of these windows, if their shape is what the card says.

    Raises
    ------
    ModelError
        ``model.wrong_output``.
    """
    expected = (len(windows), channels, *windows.shape[2:])
    if tuple(logits.shape) != expected:
        hint = ""
        if logits.ndim == windows.ndim and logits.shape[1] != channels:
            hint = f"; {CHANNELS_BY_ACTIVATION}"
        raise ModelError(
            f"the network answered {tuple(logits.shape)}, the card's labels and windows ask for "
            f"{expected}{hint}", reason="model.wrong_output",
        )
    return logits


class _ConstantWindows:
    def __init__(self, predict: Predict, channels: int) -> None:
        self._predict = predict
        self._channels = channels
        self._known: dict[tuple[float, ...], torch.Tensor] = {}

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        lowest, highest = windows.flatten(2).aminmax(dim=2)
        constant = (lowest == highest).all(dim=1)
        which: list[bool] = constant.tolist()
        if not any(which):
            return self._own(self._checked(windows), windows)
        answer = torch.empty(
            (len(windows), self._channels, *windows.shape[2:]), device=windows.device
        )
        if not all(which):
            answer[~constant] = self._checked(windows[~constant])
        for position, is_constant in enumerate(which):
            if is_constant:
                value = tuple(lowest[position].tolist())
                if value not in self._known:
                    self._known[value] = self._checked(windows[position : position + 1])[0].clone()
                answer[position] = self._known[value]
        return answer

    def _checked(self, windows: torch.Tensor) -> torch.Tensor:
        return checked(self._predict(windows), windows, self._channels)

    @staticmethod
    def _own(logits: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        # The answer is weighed in place: a network that hands its input on must not lose it.
        theirs = windows.untyped_storage().data_ptr()
        return logits.clone() if logits.untyped_storage().data_ptr() == theirs else logits
