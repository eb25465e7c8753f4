"""A host that serves a language model, as far as a client can tell, and fails on demand."""

from __future__ import annotations

import json
from typing import Any

from tests.ai_models.backends.loopback import Asked, Given, LoopbackServer

TEXT = "Both lungs are clear.\nNo nodule is seen."


class FakeOpenAi(LoopbackServer):
    """``with FakeOpenAi() as host`` serves ``host.model`` below ``host.url``.

    ``mode`` may be changed while it runs: ``normal``, ``429`` (with ``retry_after``),
    ``busy_once`` (429, then normal), ``500``, ``slow`` (no answer until the end), ``malformed``
    (no JSON), ``stream`` (in events, with ``stream_cut`` not to their end), ``truncated``
    (finish_reason length), ``filtered``, ``refused`` (the model refuses), ``empty``, ``no_choice``,
    ``cut`` (half an answer), ``redirect``, ``huge``, ``compressed``.
    """

    def __init__(
        self, mode: str = "normal", *, text: str = TEXT, model: str = "radiology-8b",
        key: str = "", retry_after: str = "0", lists_models: bool = True,
    ) -> None:
        super().__init__()
        self.mode, self.text, self.model, self.key = mode, text, model, key
        self.retry_after = retry_after
        self.lists_models = lists_models

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The requests for a text."""
        return [json.loads(one.body) for one in self.asked if one.method == "POST"]

    def answer(self, asked: Asked) -> Given:
        if self.key and asked.fields.get("authorization") != f"Bearer {self.key}":
            return _given(401, {"error": {"message": f"wrong key, not {self.key}"}})
        if asked.path == "/v1/models" and self.lists_models:
            return _given(200, {"object": "list", "data": [{"id": self.model}]})
        if asked.path != "/v1/chat/completions":
            return _given(404, {"error": {"message": "no such path"}})
        model = json.loads(asked.body)["model"]
        if model != self.model:
            return _given(404, {"error": {"message": f"no model {model}"}})
        return self._in_mode()

    def _in_mode(self) -> Given:
        mode = self.mode
        if mode == "busy_once":
            self.mode = "normal"
        if mode in ("429", "busy_once"):
            return _given(429, {"error": "too many"}, {"Retry-After": self.retry_after})
        if mode == "500":
            return _given(500, {"error": {"message": f"broken {self.key}"}})
        if mode == "redirect":
            return _given(307, {}, {"Location": f"{self.url}/elsewhere"})
        if mode == "slow":
            self.closing.wait(60)
        if mode == "malformed":
            return Given(200, b'{"choices": [{"mess')
        if mode == "huge":
            return Given(200, b" " * (5 << 20))
        if mode in ("stream", "stream_cut"):
            return self._events(mode == "stream_cut")
        whole = self._completion(mode)
        if mode == "cut":
            return Given(200, whole.body, cut_after=len(whole.body) // 2)
        if mode == "compressed":
            return Given(200, whole.body, {"Content-Encoding": "gzip"})
        return whole

    def _events(self, is_cut: bool) -> Given:
        pieces = [self.text[at : at + 7] for at in range(0, len(self.text), 7)]
        choices: list[dict[str, Any]] = [
            {"index": 0, "delta": {"content": one}, "finish_reason": None} for one in pieces
        ]
        choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
        events = [f"data: {json.dumps({'choices': [one]})}\n\n" for one in choices]
        events += ['data: {"choices": []}\n\n', "data: [DONE]\n\n"]
        kept = events[: len(events) // 2] if is_cut else events
        return Given(200, "".join(kept).encode(), {"Content-Type": "text/event-stream"})

    def _completion(self, mode: str) -> Given:
        finish = {"truncated": "length", "filtered": "content_filter"}.get(mode, "stop")
        message = {
            "role": "assistant", "content": "" if mode == "empty" else self.text,
            "refusal": "I cannot" if mode == "refused" else None,
        }
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return _given(200, {
            "id": "1", "object": "chat.completion", "model": self.model,
            "choices": [] if mode == "no_choice" else [choice],
        })


def _given(status: int, document: object, fields: dict[str, str] | None = None) -> Given:
    return Given(
        status, json.dumps(document).encode(),
        {"Content-Type": "application/json", **(fields or {})},
    )
