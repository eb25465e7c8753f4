"""What the page of a study says of times: how long it stays, what is tried when, what came when."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from starlette.testclient import TestClient

from dicom_node.config_rules import RuleInput
from dicom_node.events import hash_uid
from dicom_node.records import CircuitState, JobInput
from tests.operations.web.conftest import (
    SERIES,
    STUDY,
    STUDY_NAME,
    Site,
    delivery_of,
    finished,
    result_of,
)

STUDY_PAGE = f"/studies/{STUDY_NAME}"


def test_the_study_page_says_until_when_it_stays(site: Site, stranger: TestClient) -> None:
    text = " ".join(re.sub(r"<[^>]*>", " ", stranger.get(STUDY_PAGE).text).split())
    assert re.search(r"Kept until 20\S+ \S+ : no rule took it", text)
    finished(site, dead=True)
    assert "Kept, with no end: results could not be sent to pacs." in stranger.get(STUDY_PAGE).text


def test_the_next_try_is_not_before_the_peer_that_is_away_is_asked_again(
    site: Site, viewer: TestClient
) -> None:
    job = site.queue()
    site.ledger.jobs.start(job.job_id, 1)
    result = result_of(site, job, "segmentation")
    site.ledger.jobs.succeed(job.job_id, [result], [delivery_of(job, result)], "result", {})
    assert '<td data-label="Next try">now</td>' in viewer.get(STUDY_PAGE).text
    asked = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=7)
    site.ledger.circuits.change("pacs", lambda one: replace(
        one, state=CircuitState.OPEN, not_before=asked, reason="peer.unreachable"
    ))
    shown = asked.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    (cell,) = re.findall(r'<td data-label="Next try">(.*?)</td>', viewer.get(STUDY_PAGE).text)
    assert shown in cell
    (line,) = re.findall(r'"Answers">(.*?)</td>', viewer.get("/peers").text)
    assert "! away" in line and shown in line


def test_of_changes_of_one_moment_the_later_stands_above(site: Site, viewer: TestClient) -> None:
    job = site.queue()
    site.ledger.jobs.start(job.job_id, 1)
    result = result_of(site, job, "segmentation")
    site.ledger.jobs.succeed(job.job_id, [result], [delivery_of(job, result)], "result", {})
    assert site.ledger.decisions.stop_deliveries(job.job_id) == 1
    changes = re.findall(r"<strong>(.*?)</strong>", viewer.get(STUDY_PAGE).text)
    assert changes[:2] == ["failed → dead", "pending → failed"]


def test_the_study_page_says_what_a_job_waits_for_and_what_it_has(
    site: Site, viewer: TestClient
) -> None:
    site.config.rules[0].inputs["pt"] = RuleInput.model_validate({"when": {"Modality": "PT"}})
    site.config.rules[0].inputs["t2"] = RuleInput.model_validate({"when": {"Modality": "MR"}})
    job = site.queue()
    assert "It waits for pt and t2, until 20" in viewer.get(STUDY_PAGE).text
    assert "With pt: none so far; t2: none so far." in viewer.get(STUDY_PAGE).text
    site.ledger.inputs.fill(job.job_id, JobInput("pt", SERIES, STUDY, "the only series that fits"))
    page = viewer.get(STUDY_PAGE).text
    assert f"With pt: series {hash_uid(SERIES)}, the only series that fits; t2: none so" in page
    assert "<strong>queued</strong>: has pt, waits for t2" in page
    site.ledger.inputs.fill(job.job_id, JobInput("t2", "", "", "not there"))
    assert "t2: none, not there." in viewer.get(STUDY_PAGE).text
    assert "It waits for a free device, next in turn" in viewer.get(STUDY_PAGE).text
