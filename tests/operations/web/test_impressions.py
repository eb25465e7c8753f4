"""The page shows a draft beside its evidence, as a draft, and never as a host would have it."""

from __future__ import annotations

import html
import re

from starlette.testclient import TestClient

from ai_models.drafting.guard import DraftSentence
from ai_models.drafting.impression import impression
from ai_models.types import ModelError
from dicom_node.results.draft_record import draft_record
from tests.ai_models.drafting.test_impression import TOLD, Scripted
from tests.operations.web.conftest import STUDY_NAME, Site

STUDY_PAGE = f"/studies/{STUDY_NAME}"
HOSTILE = "<script>alert(1)</script> \ud800\x1b[2J is normal"
TRUE = "Pleural effusion is present."


def drafted(site: Site, writer: Scripted) -> None:
    job = site.queue()
    site.ledger.jobs.start(job.job_id, 1)
    record = draft_record(impression(TOLD, writer, "en"))
    site.ledger.predictions.keep(job.job_id, {"impression": record})
    site.ledger.jobs.succeed(job.job_id, [], [], "result", {"draft": 1.5})


def words_of(client: TestClient) -> str:
    text = re.sub(r"<[^>]*>", " ", client.get(STUDY_PAGE).text)
    return " ".join(html.unescape(text).split())


def test_each_kept_sentence_stands_beside_what_it_cites(site: Site, viewer: TestClient) -> None:
    drafted(site, Scripted((DraftSentence(TRUE, ("E2",)), DraftSentence(HOSTILE, ("E1",)))))
    answer = viewer.get(STUDY_PAGE)
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    text = words_of(viewer)
    assert "AI draft, not reviewed Scripted 1.0 (model llama, SHA-256 abababababababab)" in text
    assert f"{TRUE} the writer E2 Pleural effusion" in text
    assert "Struck sentences of the writer (1)" in text
    assert "<script>alert(1)</script> \\ud800\\x1b[2J is normal" in text


def test_strangers_see_how_much_was_struck_and_not_what(
    site: Site, stranger: TestClient
) -> None:
    drafted(site, Scripted((DraftSentence(TRUE, ("E2",)), DraftSentence(HOSTILE, ("E1",)))))
    text = words_of(stranger)
    assert "1 sentence struck" in text and TRUE in text
    assert "normal" not in text
    (series,) = stranger.get(f"/api/studies/{STUDY_NAME}").json()["series"]
    told = series["jobs"][0]["impression"]
    assert told["told"][0]["text"] == TRUE
    assert "normal" not in str(told)


def test_template_that_stands_in_is_said_with_its_reason(site: Site, viewer: TestClient) -> None:
    drafted(site, Scripted(problem=ModelError("away", reason="worker.endpoint_unavailable")))
    text = words_of(viewer)
    assert "the template stands in: worker.endpoint_unavailable" in text
    assert "The template stands in because: away" in text
    assert "no draft in the report" in text
    assert "AI draft" not in text and "the writer" not in text
