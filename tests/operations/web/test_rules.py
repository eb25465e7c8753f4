"""Rules on the page: why they do not take a study, by hand, and what others would have done."""

from __future__ import annotations

from starlette.testclient import TestClient

from dicom_node.events import hash_uid
from dicom_node.records import JobState
from tests.operations.web.conftest import SERIES, STUDY_NAME, Site, form

STUDY_PAGE = f"/studies/{STUDY_NAME}"
SERIES_ROUTE = f"{STUDY_PAGE}/series/{hash_uid(SERIES)}/route"


def test_why_no_rule_took_a_series_names_the_nearest_and_hides_what_was_found(
    site: Site, stranger: TestClient
) -> None:
    text = stranger.get(STUDY_PAGE).text
    assert "The nearest is “heads”: BodyPartExamined is to be HEAD." in text
    assert "BodyPartExamined is to be HEAD and is CHEST" in site.signed_in("vera").get(
        STUDY_PAGE).text


def test_a_declined_series_is_routed_by_hand_once(site: Site, operator: TestClient) -> None:
    fields = {"rule": "heads", **form(operator, SERIES_ROUTE)}
    assert operator.post(SERIES_ROUTE, data=fields).status_code == 303
    (job,) = site.ledger.jobs.of_series(SERIES)
    assert (job.rule, job.reason, job.state) == ("heads", "routed, by hand", JobState.QUEUED)
    series = site.ledger.receipts.find_series(SERIES)
    assert series is not None
    assert (series.state, series.reason) == ("routed", "by hand: heads")
    assert site.told.of("web_action")[-1]["action"] == "route by hand"
    again = operator.post(SERIES_ROUTE, data=fields)
    assert again.status_code == 409
    assert job.job_id in again.text
    assert operator.post(SERIES_ROUTE, data={**fields, "rule": "none"}).status_code == 409


def test_replay_tells_what_changed_rules_would_gain(site: Site, operator: TestClient) -> None:
    text = operator.get("/rules").text
    assert "BodyPartExamined: HEAD" in text
    rules = site.ports.rules_text().replace("HEAD", "CHEST")
    answer = operator.post(
        "/rules/replay", data={"rules": rules, "days": "2", **form(operator, "/rules")}
    )
    assert "1 series of the last 2 days" in answer.text
    assert f"/rules?study={hash_uid(SERIES)}" in answer.text
    assert "Taken by no rule: 1 now, 0 with these rules." in answer.text
    assert operator.get(f"/rules?study={hash_uid(SERIES)}").status_code == 200


WRONG_RULES = [
    ("rules: [", "is not YAML"), ("- name: x", "expected a key"), ("", "expected a key"),
    ("rules: [{name: a, model: b, send_to: [nobody], when: {Modality: CT}}]", "nobody"),
    ("rules: [{name: a, model: b, send_to: [pacs], when: {Modalty: CT}}]", "Modality"),
    ("rules: [&amp {name: a}]", "anchor"),
]


def test_rules_that_are_wrong_say_where_and_stay_in_the_form(operator: TestClient) -> None:
    for rules, told in WRONG_RULES:
        fields = {"rules": rules, "days": "2", **form(operator, "/rules")}
        answer = operator.post("/rules/replay", data=fields)
        assert answer.status_code == 422, rules
        assert told in answer.text


def test_days_that_are_none_are_refused(operator: TestClient) -> None:
    for days in ("", "x", "0", "-1", "nan", "inf", "1000"):
        fields = {"rules": "rules: []", "days": days, **form(operator, "/rules")}
        assert operator.post("/rules/replay", data=fields).status_code == 400, days
