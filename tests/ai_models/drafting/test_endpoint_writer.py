"""A host that fails, dawdles or lies never keeps a report from having its impression."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ai_models.drafting.endpoint_writer import EndpointWriter, joined
from ai_models.drafting.impression import impression
from ai_models.drafting.writer_card import load_writer_card
from ai_models.trust import Endpoint, Site
from ai_models.types import ModelError
from tests.ai_models.backends.fake_openai import FakeOpenAi
from tests.ai_models.backends.loopback import Asked, Given
from tests.ai_models.drafting.test_impression import TOLD
from tests.ai_models.drafting.writers import VALUES, writer_folder
from tests.ports import free_port

DRAFT = json.dumps({"impression": [
    {"text": "Pleural effusion is present.", "evidence": ["E2"]},
    {"text": "Left pleural effusion is present.", "evidence": ["E2"]},
]})


def writer_at(folder: Path, url: str, timeout_s: float = 5.0, **changes: object) -> EndpointWriter:
    site = Site(endpoints={"language": Endpoint(url, None, timeout_s)})
    return EndpointWriter(load_writer_card(writer_folder(folder, **changes)), site)


def test_draft_of_the_host_goes_through_the_guard(tmp_path: Path) -> None:
    with FakeOpenAi(text=DRAFT) as host:
        made = impression(TOLD, writer_at(tmp_path, host.url), "en")
    assert made.sentences[0].text == "Pleural effusion is present."
    assert [one.reason for one in made.struck] == ["side"]
    assert made.writer.model == "radiology-8b"
    assert "SHA-256 was not checked" in made.notes[1]


@pytest.mark.parametrize("mode", ["stream", "busy_once"])
def test_answer_in_pieces_or_after_a_wait_is_taken(tmp_path: Path, mode: str) -> None:
    endpoint = {**VALUES["endpoint"], "stream": mode == "stream"}
    with FakeOpenAi(mode, text=DRAFT) as host:
        made = impression(TOLD, writer_at(tmp_path, host.url, endpoint=endpoint), "en")
    assert (made.fallback, made.is_drafted) == ("", True)
    assert host.documents[0]["stream"] is (mode == "stream")


@pytest.mark.parametrize(("mode", "reason"), [
    ("429", "worker.endpoint_unavailable"), ("500", "worker.endpoint_unavailable"),
    ("malformed", "model.wrong_output"), ("stream_cut", "model.wrong_output"),
    ("truncated", "model.wrong_output"), ("filtered", "model.wrong_output"),
    ("refused", "model.wrong_output"), ("empty", "model.wrong_output"),
    ("no_choice", "model.wrong_output"), ("huge", "model.wrong_output"),
    ("compressed", "model.wrong_output"), ("redirect", "model.endpoint_refused"),
    ("cut", "worker.endpoint_unavailable"),
])
def test_template_takes_the_place_of_what_the_host_does_not_give(
    tmp_path: Path, mode: str, reason: str,
) -> None:
    with FakeOpenAi(mode, text=DRAFT, retry_after="60") as host:
        made = impression(TOLD, writer_at(tmp_path, host.url), "en")
    assert made.fallback == reason
    assert made.sentences == impression(TOLD, None, "en").sentences


def test_slow_host_is_left_when_its_time_is_up(tmp_path: Path) -> None:
    with FakeOpenAi("slow", text=DRAFT) as host:
        made = impression(TOLD, writer_at(tmp_path, host.url, timeout_s=0.3), "en")
    assert made.fallback == "worker.endpoint_unavailable"


class BusyWithAnother(FakeOpenAi):
    """Wants to be asked again by the first, when it has answered the second."""

    def __init__(self, **told: Any) -> None:
        super().__init__(**told)
        self.is_asked, self.is_answered = threading.Event(), threading.Event()

    def answer(self, asked: Asked) -> Given:
        if asked.method == "POST" and not self.is_asked.is_set():
            self.is_asked.set()
            assert self.is_answered.wait(30)
            return Given(429, b"", {"Retry-After": "0"})
        return super().answer(asked)


def test_job_that_is_done_hangs_up_for_no_other(tmp_path: Path) -> None:
    with BusyWithAnother(text=DRAFT) as host, ThreadPoolExecutor(1) as pool:
        writer = writer_at(tmp_path, host.url, timeout_s=30)
        first = pool.submit(impression, TOLD, writer, "en")
        assert host.is_asked.wait(30)
        assert impression(TOLD, writer, "en").fallback == ""
        host.is_answered.set()
        assert first.result().fallback == ""


def test_words_in_place_of_json_are_no_draft(tmp_path: Path) -> None:
    with FakeOpenAi(text="Pleural effusion is present.") as host:
        made = impression(TOLD, writer_at(tmp_path, host.url), "en")
    assert (made.fallback, made.why) == ("model.wrong_output", "the draft is no JSON")


def test_host_that_does_what_an_injection_says_gets_nothing_into_the_report(tmp_path: Path) -> None:
    obeyed = json.dumps({"impression": [
        {"text": "The study is normal. Release this report as final.", "evidence": ["E1"]},
        {"text": "PATIENT JOHN DOE HAS NO DISEASE", "evidence": ["E2"]},
        {"text": "<script>alert(1)</script>", "evidence": ["E2"]},
        {"text": "No pneumothorax.\u202e Effusion is absent.", "evidence": ["E1"]},
    ]})
    with FakeOpenAi(text=obeyed) as host:
        made = impression(TOLD, writer_at(tmp_path, host.url), "en")
    assert made.fallback == "all_struck"
    assert len(made.struck) == 4


def test_request_asks_for_the_schema_and_holds_nothing_but_evidence(tmp_path: Path) -> None:
    with FakeOpenAi(text=DRAFT) as host:
        impression(TOLD, writer_at(tmp_path, host.url), "en")
    (document,) = host.documents
    assert document["response_format"]["type"] == "json_schema"
    assert document["response_format"]["json_schema"]["strict"] is True
    assert (document["temperature"], document["seed"]) == (0.0, 11)
    body = host.asked[-1].body.decode()
    assert "as the template says" not in body
    assert "1.2.2" not in body


def test_host_that_the_site_does_not_name_is_never_asked(tmp_path: Path) -> None:
    card = load_writer_card(writer_folder(tmp_path))
    with pytest.raises(ModelError) as refused:
        EndpointWriter(card, Site(endpoints={"other": Endpoint("http://127.0.0.1:1")}))
    assert refused.value.reason == "model.endpoint_unknown"


def test_nobody_at_the_address_is_a_fallback(tmp_path: Path) -> None:
    writer = writer_at(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert impression(TOLD, writer, "en").fallback == "worker.endpoint_unavailable"


@pytest.mark.parametrize("body", [
    b"data: {\n\n", b"data: []\n\n", b'data: {"choices": [{"delta": 1}]}\n\n',
    b'data: {"choices": [{"delta": {"content": 1}}]}\n\n', b"",
])
def test_events_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(ModelError) as refused:
        joined(body, "the host")
    assert refused.value.reason == "model.wrong_output"
