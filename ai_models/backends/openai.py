"""A language model behind ``/v1/chat/completions``, as vLLM, llama.cpp, Ollama or TGI serve it.

The request holds the card's own sentences and pictures of the array, and nothing else: no header
of an image comes near it. What the model writes is cleaned of control characters, and whatever is
cut off, filtered or empty is refused: half a report is none.
"""

from __future__ import annotations

import base64
import io
import json
import unicodedata
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_models.backends.http_endpoint import (
    REFUSED,
    WRONG_OUTPUT,
    HttpEndpoint,
    clean,
    import_httpx,
    read_key,
)
from ai_models.backends.protocol import Answer, NetworkInput
from ai_models.backends.reach import endpoint_of
from ai_models.card import Card, TextCard
from ai_models.card_entries import EndpointOptions
from ai_models.trust import Site
from ai_models.types import FloatArray, ModelError

# Longer than what 8192 tokens give in any language of the card.
LONGEST_TEXT = 50_000
LARGEST_ANSWER_BYTES = 4 << 20
# "stop" is the word of the protocol, the others are what TGI says for the same.
_FINISHED = ("stop", "eos_token", "stop_sequence")
_NOT_FINISHED = {
    "length": "the text was cut off at output.max_tokens",
    "content_filter": "a filter of the host took the text away",
    "tool_calls": "the model asked for a tool, and there is none",
    "function_call": "the model asked for a tool, and there is none",
}


class OpenAiBackend:
    """Asks a host for sentences on the images of one input."""

    def __init__(self, card: Card, device: str, site: Site) -> None:
        self._card = card
        self._device = device
        self._site = site
        self._host: HttpEndpoint | None = None
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Which host, which model; whatever the device of this worker is, it is not used."""
        return self._notes

    def probe(self) -> None:
        """See `Backend.probe`."""
        import_httpx()
        self._text_card()
        read_key(endpoint_of(self._card, self._site), self._who())
        self._new_host()

    def load(self) -> None:
        """See `Backend.load`: the host is asked whether it serves the model."""
        self.probe()
        self.close()
        host = self._new_host()
        host.open()
        try:
            self._look_for_model(host)
        except ModelError:
            host.close()
            raise
        self._host = host
        options = self._options()
        self._notes = (
            f"{options.model} on the host {options.name}, temperature {options.temperature:g}, "
            f"seed {options.seed}",
            "its weights lie on that host: their SHA-256 was not checked here",
        )

    def warm_up(self) -> None:
        """Nothing: the host keeps its model warm, and a text for nobody costs it seconds."""

    def predict(self, image: NetworkInput) -> Answer:
        """See `Backend.predict`; `Answer.text`."""
        if self._host is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        card = self._text_card()
        content = json.dumps(self._request(card, image)).encode()
        reply = self._host.post(
            f"{self._base()}/chat/completions", content, {"Content-Type": "application/json"},
            at_most=LARGEST_ANSWER_BYTES,
        )
        document = reply.document(self._who())
        text = text_of(document, self._who())
        return Answer(text=text, notes=(*self._notes, *_said_by(document, self._options())))

    def close(self) -> None:
        """See `Backend.close`."""
        if self._host is not None:
            self._host.close()
        self._host = None

    def _text_card(self) -> TextCard:
        card = self._card
        if not isinstance(card, TextCard):
            raise ModelError(
                f"an openai model writes text, the task of {card.id} is {card.task}",
                reason="model.task",
            )
        if card.input.normalisation != "none":
            raise ModelError(
                f"{card.id}: pictures hold values as input.intensity scales them; "
                "input.normalisation is for networks", reason="model.wrong_input",
            )
        return card

    def _options(self) -> EndpointOptions:
        if self._card.runtime.endpoint is None:
            raise ModelError(f"{self._card.id} names no runtime.endpoint", reason=_UNKNOWN)
        return self._card.runtime.endpoint

    def _who(self) -> str:
        return f"the host {self._options().name}"

    def _new_host(self) -> HttpEndpoint:
        return HttpEndpoint(endpoint_of(self._card, self._site), self._who())

    def _base(self) -> str:
        host = self._host or self._new_host()
        return "" if host.address.path.endswith("/v1") else "/v1"

    def _look_for_model(self, host: HttpEndpoint) -> None:
        reply = host.get(f"{self._base()}/models")
        if reply.status in (404, 405):
            return  # Not every server has this list; a wrong name is then told at the first text.
        host.refuse_failure(reply)
        entries = reply.document(self._who()).get("data")
        served = [
            str(one["id"]) for one in entries if isinstance(one, dict) and "id" in one
        ] if isinstance(entries, list) else []
        model = self._options().model
        if served and model not in served:
            raise ModelError(
                f"{self._who()} does not serve {model}: it has {clean(', '.join(served), 300)}",
                reason=REFUSED,
            )

    def _request(self, card: TextCard, image: NetworkInput) -> dict[str, Any]:
        options, output = self._options(), card.output
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(picture)}}
            for picture in pictures(
                image.array, card.input.intensity.scale_to or (0.0, 1.0), output.max_images
            )
        ]
        messages: list[dict[str, Any]] = []
        if output.system_prompt:
            messages.append({"role": "system", "content": output.system_prompt})
        messages.append(
            {"role": "user", "content": [*parts, {"type": "text", "text": output.prompt}]}
        )
        return {
            "model": options.model, "messages": messages, "stream": False,
            "temperature": options.temperature, "seed": options.seed,
            "max_tokens": output.max_tokens,
        }


def pictures(
    array: FloatArray, shown: tuple[float, float], at_most: int
) -> list[npt.NDArray[np.uint8]]:
    """8-bit pictures ``(rows, columns)``, or ``(rows, columns, 3)`` of three channels.

    Parameters
    ----------
    array
        ``(channels, rows, columns)``, or ``(channels, slices, rows, columns)``: then the middle
        slices of ``at_most`` equal parts are taken, in their order.
    shown
        The values that become 0 and 255; what lies outside is clipped.

    Raises
    ------
    ModelError
        ``input.not_finite``; ``model.wrong_input``: neither one channel nor three.
    """
    if array.shape[0] not in (1, 3):
        raise ModelError(
            f"a picture has one channel or three, the card gives {array.shape[0]}",
            reason="model.wrong_input",
        )
    if not np.isfinite(array).all():
        raise ModelError("the input holds NaN or infinity", reason="input.not_finite")
    low, high = shown
    if array.ndim == 4:
        count = min(at_most, array.shape[1])
        chosen = [(2 * part + 1) * array.shape[1] // (2 * count) for part in range(count)]
        array = array[:, chosen]
    else:
        array = array[:, None]
    levels = np.clip((array - low) / (high - low), 0.0, 1.0) * 255.0
    grey = np.rint(levels).astype(np.uint8)
    if len(grey) == 1:
        return list(grey[0])
    return list(np.ascontiguousarray(np.moveaxis(grey, 0, -1)))


def clean_text(text: str) -> str:
    """Text without control and format characters; line ends are ``\\n``, tabs become blanks."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    return "".join(
        one for one in text if one == "\n" or unicodedata.category(one)[0] != "C"
    ).strip()


def _data_url(picture: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def text_of(document: dict[str, Any], who: str) -> str:
    """The text of an answer, whole and clean.

    Raises
    ------
    ModelError
        ``model.wrong_output``: it was cut off, filtered, refused, or is none.
    """
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise ModelError(f"{who} answers without a choice", reason=WRONG_OUTPUT)
    finish = choice.get("finish_reason")
    if finish not in _FINISHED:
        why = _NOT_FINISHED.get(str(finish), f"the text ended by {clean(finish, 40)!r}")
        raise ModelError(f"{why}, and half a text is not taken", reason=WRONG_OUTPUT)
    if message.get("refusal"):
        raise ModelError("the model refused to write the text", reason=WRONG_OUTPUT)
    content = message.get("content")
    if not isinstance(content, str):
        raise ModelError(f"{who} answers a choice without text", reason=WRONG_OUTPUT)
    if len(content) > LONGEST_TEXT:
        raise ModelError(
            f"{who} answers {len(content)} characters, {LONGEST_TEXT} are allowed",
            reason=WRONG_OUTPUT,
        )
    text = clean_text(content)
    if not text:
        raise ModelError(f"{who} answers an empty text", reason=WRONG_OUTPUT)
    return text


def _said_by(document: dict[str, Any], options: EndpointOptions) -> tuple[str, ...]:
    """What the host says that it ran, where that is more than the card says."""
    notes = []
    model, build = document.get("model"), document.get("system_fingerprint")
    if isinstance(model, str) and model not in ("", options.model):
        notes.append(f"the host says that {clean(model, 64)} answered")
    if isinstance(build, str) and build:
        notes.append(f"build of the host: {clean(build, 64)}")
    return tuple(notes)


_UNKNOWN = "model.endpoint_unknown"
