"""A writer behind ``/v1/chat/completions``: vLLM, TGI, llama.cpp, Ollama.

The host is one that the settings of the node name, and no other; the request holds evidence and
what this program says, and nothing of a patient. A draft that is cut off, filtered, empty or not
in the form that was asked for is refused.
"""

from __future__ import annotations

import json
from typing import Any

from ai_models.backends.http_endpoint import WRONG_OUTPUT, HttpEndpoint, Reply
from ai_models.backends.openai import LARGEST_ANSWER_BYTES, text_of
from ai_models.drafting.asking import messages, schema, sentences_in
from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.impression import WriterIdentity, Written
from ai_models.drafting.writer_card import WriterCard, why_writer_refused
from ai_models.trust import Site
from ai_models.types import ModelError

_EVENTS = "text/event-stream"
_MOST_EVENTS = 50_000


class EndpointWriter:
    """Asks a host for sentences on evidence."""

    def __init__(self, card: WriterCard, site: Site) -> None:
        """``ModelError`` ``model.endpoint_unknown`` where the site does not name the host."""
        if card.endpoint is None:
            raise ModelError(f"{card.id} names no endpoint", reason="model.endpoint_unknown")
        if (why := why_writer_refused(card, site)) is not None:
            unknown = card.endpoint.name not in site.endpoints
            raise ModelError(why, reason="model.endpoint_unknown" if unknown else "model.refused")
        self._card = card
        self._asked = card.endpoint
        self._who = f"the host {card.endpoint.name}"
        self._endpoint = site.endpoints[card.endpoint.name]

    @property
    def identity(self) -> WriterIdentity:
        """See `Writer.identity`; there is no digest: the weights lie on that host."""
        return self._card.identity

    def write(self, evidence: EvidenceList, language: str) -> Written:
        """See `Writer.write`.

        Raises
        ------
        ModelError
            ``worker.endpoint_unavailable``, ``model.endpoint_refused``, ``model.endpoint_key``,
            ``model.wrong_output``.
        """
        # Several jobs may ask at one time: each has its own connection.
        host = HttpEndpoint(self._endpoint, self._who)
        base = "" if host.address.path.endswith("/v1") else "/v1"
        content = json.dumps(self.request(evidence, language)).encode()
        host.open()
        try:
            reply = host.post(
                f"{base}/chat/completions", content, {"Content-Type": "application/json"},
                at_most=LARGEST_ANSWER_BYTES,
            )
        finally:
            host.close()
        document = _document(reply, self._who)
        return Written(sentences_in(text_of(document, self._who)), (
            f"{self._asked.model} on {self._who}, temperature {self._asked.temperature:g}, "
            f"seed {self._asked.seed}",
            "its weights lie on that host: their SHA-256 was not checked here",
        ))

    @property
    def within_s(self) -> float:
        """How long the host may take, as the settings say."""
        return self._endpoint.timeout_s

    def request(self, evidence: EvidenceList, language: str) -> dict[str, Any]:
        """The body of the request, as JSON values."""
        return {
            "model": self._asked.model, "messages": messages(evidence, language),
            "stream": self._asked.stream, "temperature": self._asked.temperature,
            "seed": self._asked.seed, "max_tokens": self._card.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "impression", "strict": True, "schema": schema(evidence)},
            },
        }


def _document(reply: Reply, who: str) -> dict[str, Any]:
    """The answer as one document, whether the host sent it whole or in pieces."""
    if not reply.fields.get("content-type", "").startswith(_EVENTS):
        return reply.document(who)
    return joined(reply.body, who)


def joined(body: bytes, who: str) -> dict[str, Any]:
    """The events of a streamed answer as the document that it would have been at once.

    Raises
    ------
    ModelError
        ``model.wrong_output``: an event is no JSON object, or the end is missing.
    """
    pieces: list[str] = []
    finish: object = None
    is_ended = False
    lines = body.decode("utf-8", "replace").splitlines()
    if len(lines) > _MOST_EVENTS:
        raise ModelError(f"{who} answers more than {_MOST_EVENTS} events", reason=WRONG_OUTPUT)
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            is_ended = True
            break
        content, end = _piece(data, who)
        pieces.append(content)
        finish = end or finish
    if not is_ended and finish is None:
        raise ModelError(f"{who} stopped in the middle of its answer", reason=WRONG_OUTPUT)
    message = {"role": "assistant", "content": "".join(pieces)}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def _piece(data: str, who: str) -> tuple[str, object]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{who} sends an event that is no JSON", reason=WRONG_OUTPUT) from error
    choices = event.get("choices") if isinstance(event, dict) else None
    if isinstance(event, dict) and choices == []:
        return "", None  # The last one may only count tokens.
    choice = choices[0] if isinstance(choices, list) else None
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(delta, dict):
        raise ModelError(f"{who} sends an event without a piece of text", reason=WRONG_OUTPUT)
    content = delta.get("content") or ""
    if not isinstance(content, str):
        raise ModelError(f"{who} sends an event without a piece of text", reason=WRONG_OUTPUT)
    return content, choice.get("finish_reason")
