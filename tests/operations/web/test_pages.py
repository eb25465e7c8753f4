"""What pages show to whom: nothing of a patient to strangers, all of it to those who signed in."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.testclient import TestClient

from dicom_node.events import hash_uid
from tests.operations.web.conftest import (
    ACCESSION,
    PATIENT_ID,
    PLANTED,
    SERIES,
    STUDY,
    STUDY_NAME,
    Site,
    finished,
    form,
    planted,
    receive,
)

STUDY_PAGE = f"/studies/{STUDY_NAME}"
FOR_ALL = [
    "/", "/?fragment=1", STUDY_PAGE, f"{STUDY_PAGE}?fragment=1", "/rules", "/models", "/peers",
    f"/rules?study={STUDY_NAME}", "/api/studies", f"/api/studies/{STUDY_NAME}",
    f"/api/studies/{STUDY}", "/api/jobs", "/healthz", "/readyz", "/metrics", "/nothing",
]
SERIES_ROUTE = f"{STUDY_PAGE}/series/{hash_uid(SERIES)}/route"


def test_strangers_see_nothing_of_a_patient(site: Site, stranger: TestClient) -> None:
    finished(site)
    for path in FOR_ALL:
        answer = stranger.get(path)
        assert answer.status_code == (404 if path == "/nothing" else 200), path
        told = answer.text + json.dumps(dict(answer.headers))
        assert [word for word in PLANTED if word in told] == [], path


def test_strangers_get_neither_pictures_nor_objects_nor_actions(
    site: Site, stranger: TestClient
) -> None:
    job = finished(site)
    result = hash_uid(site.ledger.jobs.results(job)[0].sop_instance_uid)
    below = f"{STUDY_PAGE}/jobs/{job}"
    for path in (SERIES_ROUTE, f"{below}/pictures", f"{below}/slices/1.png",
                 f"{below}/slices/1/1.png", f"{below}/retry",
                 f"{STUDY_PAGE}/results/{result}.dcm"):
        assert stranger.get(path).status_code == 403, path


@pytest.mark.parametrize("who", ["stranger", "viewer"])
def test_who_is_no_operator_changes_nothing(
    site: Site, request: pytest.FixtureRequest, who: str
) -> None:
    job = finished(site, dead=True)
    client: TestClient = request.getfixturevalue(who)
    fields = {"what": "echo", "rule": "heads", "rules": "rules: []", **form(client, "/rules")}
    for path in (SERIES_ROUTE, f"{STUDY_PAGE}/jobs/{job}/retry", "/peers/pacs", "/rules/replay"):
        assert client.post(path, data=fields).status_code == 403, path
    assert site.told.of("web_action") == []


def test_who_has_signed_in_sees_whom_a_study_shows(viewer: TestClient) -> None:
    for page in ("/", STUDY_PAGE):
        text = viewer.get(page).text
        assert "PLANTED NAME" in text
        assert PATIENT_ID in text
    assert "1933-04-12" in viewer.get(STUDY_PAGE).text


def test_no_address_names_a_patient_or_a_uid(site: Site, viewer: TestClient) -> None:
    finished(site)
    for page in ("/", STUDY_PAGE, "/rules", f"/rules?study={STUDY_NAME}"):
        for address in re.findall(r'(?:href|src|action)="([^"]*)"', viewer.get(page).text):
            assert [word for word in (*PLANTED, PATIENT_ID, ACCESSION) if word in address] == []


def test_looking_at_a_study_is_told_for_the_audit(site: Site, viewer: TestClient) -> None:
    viewer.get(STUDY_PAGE)
    viewer.get(f"{STUDY_PAGE}?fragment=1")
    assert site.told.of("web_action") == [
        {"user": "vera", "action": "view study", "key": STUDY_NAME, "study_instance_uid": STUDY}
    ]


def test_a_patient_is_found_by_id_and_accession_number(viewer: TestClient) -> None:
    for wanted in (PATIENT_ID, PATIENT_ID.lower(), ACCESSION):
        answer = viewer.post("/search", data={"wanted": wanted, **form(viewer, "/")})
        assert answer.status_code == 200
        assert STUDY_PAGE in answer.text
        assert "1 study found" in answer.text


def test_a_stranger_finds_no_patient(stranger: TestClient) -> None:
    for wanted in (PATIENT_ID, ACCESSION, "PLANTED NAME"):
        answer = stranger.post("/search", data={"wanted": wanted, **form(stranger, "/")})
        assert "0 studies found" in answer.text
        assert STUDY_PAGE not in answer.text


def test_a_hash_of_a_study_or_series_and_a_job_lead_to_the_study(
    site: Site, stranger: TestClient
) -> None:
    for wanted in (STUDY_NAME, hash_uid(SERIES), site.queue().job_id):
        answer = stranger.post("/search", data={"wanted": wanted, **form(stranger, "/")})
        assert (answer.status_code, answer.headers["location"]) == (303, STUDY_PAGE)


def test_a_uid_leads_who_has_signed_in_to_its_study(
    viewer: TestClient, stranger: TestClient
) -> None:
    for wanted in (STUDY, f" {SERIES} "):
        answer = viewer.post("/search", data={"wanted": wanted, **form(viewer, "/")})
        assert (answer.status_code, answer.headers["location"]) == (303, STUDY_PAGE)
        refused = stranger.post("/search", data={"wanted": wanted, **form(stranger, "/")})
        assert refused.status_code == 200
        assert "0 studies found" in refused.text


def test_a_search_that_finds_nothing_says_what_that_may_mean(viewer: TestClient) -> None:
    answer = viewer.post("/search", data={"wanted": "1.2.3.4", **form(viewer, "/")})
    assert "never received, refused (see the log), or removed and forgotten" in answer.text


def test_the_list_is_filtered_by_state_and_modality(stranger: TestClient) -> None:
    for query, is_there in (("state=no+rule", True), ("state=held", False), ("modality=CT", True),
                            ("modality=MR", False)):
        assert (STUDY_PAGE in stranger.get(f"/?{query}").text) is is_there, query
    assert stranger.get("/?state=nonsense").status_code == 404


@pytest.mark.parametrize("action", ["hold", "cancel"])
def test_an_operator_stops_a_job_and_brings_it_back(
    site: Site, operator: TestClient, action: str
) -> None:
    job = site.queue().job_id
    stopped, back = {"hold": ("held", "release"), "cancel": ("cancelled", "retry")}[action]
    for name, state in ((action, stopped), (back, "queued")):
        page = f"{STUDY_PAGE}/jobs/{job}/{name}"
        assert page in operator.get(STUDY_PAGE).text
        assert "Leave it as it is" in operator.get(page).text
        answer = operator.post(page, data=form(operator, page))
        assert answer.headers["location"] == STUDY_PAGE
        found = site.ledger.jobs.find(job)
        assert found is not None
        assert found.state == state
        told = site.told.of("web_action")[-1]
        assert (told["user"], told["action"], told["key"]) == ("olaf", name, job)


def test_what_a_job_does_not_allow_is_refused_and_told_to_nobody(
    site: Site, operator: TestClient
) -> None:
    job = finished(site)
    page = f"{STUDY_PAGE}/jobs/{job}/hold"
    answer = operator.post(page, data=form(operator, page))
    assert answer.status_code == 409
    assert "succeeded by now" in answer.text
    assert site.told.of("web_action") == []


def test_dead_deliveries_are_sent_again(site: Site, operator: TestClient) -> None:
    job = finished(site, dead=True)
    text = operator.get(STUDY_PAGE).text
    assert "needs attention" in text
    assert "pacs did not get 2 objects" in text
    page = f"{STUDY_PAGE}/jobs/{job}/retry"
    assert operator.post(page, data=form(operator, page)).status_code == 303
    assert {one.state for one in site.ledger.deliveries.of_job(job)} == {"pending"}
    stop = f"{STUDY_PAGE}/jobs/{job}/stop"
    assert operator.post(stop, data=form(operator, stop)).status_code == 303
    assert {one.state for one in site.ledger.deliveries.of_job(job)} == {"dead"}


def test_a_result_is_downloaded_under_a_name_that_says_nothing(
    site: Site, viewer: TestClient
) -> None:
    job = finished(site)
    result = site.ledger.jobs.results(job)[0]
    name = hash_uid(result.sop_instance_uid)
    answer = viewer.get(f"{STUDY_PAGE}/results/{name}.dcm")
    assert answer.content == b"DICM"
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="{job}-{result.kind.replace(" ", "-")}.dcm"'
    )
    assert answer.headers["cache-control"] == "no-store"
    told = site.told.of("web_action")[-1]
    assert (told["action"], told["key"]) == (f"download {result.kind}", name)
    site.spool.resolve(result.path).unlink()
    assert viewer.get(f"{STUDY_PAGE}/results/{name}.dcm").status_code == 410
    assert "(not kept any more)" in viewer.get(STUDY_PAGE).text
    assert viewer.get(f"{STUDY_PAGE}/results/{'0' * 12}.dcm").status_code == 404


def test_measurements_deliveries_and_the_timeline_are_on_the_page(
    site: Site, viewer: TestClient
) -> None:
    finished(site)
    text = " ".join(re.sub(r"<[^>]*>", " ", viewer.get(STUDY_PAGE).text).split())
    assert "left lung 812.3 -700" in text
    assert "The result was delivered to pacs." in text
    assert "pacs segmentation sent 1" in text
    changes = ("queued → running", "running → succeeded", "pending → sent", "declined → routed")
    assert [one for one in changes if one not in text] == []


def test_pictures_of_removed_images_say_so(site: Site, viewer: TestClient) -> None:
    job = finished(site)
    for one in site.ledger.receipts.instances(SERIES):
        site.spool.resolve(one.path).unlink()
    assert "not kept any more (picture.removed)" in viewer.get(
        f"{STUDY_PAGE}/jobs/{job}/pictures").text
    assert viewer.get(f"{STUDY_PAGE}/jobs/{job}/slices/1.png").status_code == 410


NOT_THERE = [
    ("/studies/000000000000", 404), ("/studies/x", 404), (f"{STUDY_PAGE}/jobs/x/retry", 404),
    (f"{STUDY_PAGE}/series/x/route", 404), ("/rules?study=abc", 404), ("/static/../x", 404),
    ("/static/nothing.js", 404), (f"{STUDY_PAGE}/jobs/x/pictures", 404), ("/peers/x", 405),
    ("/logout", 405), ("/?page=99999999", 200), ("/?page=x", 200),
]


def test_what_is_not_there_is_a_page_that_says_so(operator: TestClient) -> None:
    for path, status in NOT_THERE:
        answer = operator.get(path)
        assert answer.status_code == status, path
        assert "<h1>" in answer.text


NO_FORMS = [
    (b"x" * (1 << 21), "application/x-www-form-urlencoded", 413),
    (b"&".join(b"a%d=1" % n for n in range(99)), "application/x-www-form-urlencoded", 400),
    (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
    (b"{}", "application/json", 415), (b"", "multipart/form-data; boundary=x", 415),
]


def test_a_form_that_is_none_is_refused(operator: TestClient) -> None:
    for body, kind, status in NO_FORMS:
        answer = operator.post("/search", content=body, headers={"content-type": kind})
        assert answer.status_code == status, kind


def test_an_error_that_nobody_foresaw_is_told_without_its_text(
    site: Site, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise RuntimeError("PLANTED in a message")

    monkeypatch.setattr(site.ledger.overview, "latest", fail)
    answer = viewer.get("/?modality=US")
    assert answer.status_code == 500
    assert "PLANTED" not in answer.text
    assert site.told.of("unexpected") == [{"where": "web page"}]


class Inline(HTMLParser):
    """Finds what the content security policy would not let run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        if "style" in names or any(name.startswith("on") for name in names):
            self.found.append(f"{tag} {attrs}")
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        outside = [value for name, value in attrs if name in ("src", "href", "action") and value]
        self.found += [value for value in outside if not value.startswith(("/", "#"))]


def test_nothing_is_inline_or_from_elsewhere(site: Site, operator: TestClient) -> None:
    finished(site)
    for page in ("/", STUDY_PAGE, "/rules", "/models", "/peers", SERIES_ROUTE):
        answer = operator.get(page)
        parser = Inline()
        parser.feed(answer.text)
        assert parser.found == []
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_health_tells_each_check_and_fails_by_status(site: Site, stranger: TestClient) -> None:
    assert stranger.get("/readyz").json() == {"ok": True, "checks": [
        {"name": "main loop", "ok": True, "problem": ""},
        {"name": "free space", "ok": True, "problem": ""},
    ]}
    site.problems["free space"] = "the disk is full"
    assert [stranger.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 503]
    site.problems["main loop"] = "has not turned for 200 s"
    answer = stranger.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["checks"][0]["problem"] == "has not turned for 200 s"


def test_the_api_prints_what_the_command_line_prints(site: Site) -> None:
    job = finished(site)
    client = site.with_tokens()
    client.headers["authorization"] = f"Bearer {site.tokens['vera']}"
    by_uid, by_hash = (client.get(f"/api/studies/{one}").json() for one in (STUDY, STUDY_NAME))
    assert by_uid["series"][0]["series_instance_uid"] == SERIES
    assert by_uid["series"][0]["jobs"][0]["deliveries"][0]["state"] == "sent"
    for one in (by_uid, by_hash):
        one["series"][0]["jobs"][0].pop("age_s")
    assert by_uid == by_hash
    (only,) = client.get("/api/jobs?state=succeeded").json()["jobs"]
    assert (only["job_id"], only["state"]) == (job, "succeeded")
    assert client.get("/api/jobs?state=queued").json() == {"jobs": []}
    assert client.get("/api/jobs?state=x").status_code == 400
    assert client.get("/api/studies/1.2.3").json() == {"error": "nothing is known of this study"}
    (study,) = client.get("/api/studies?state=delivered").json()["studies"]
    assert study["study_instance_uid"] == STUDY


def test_times_are_local_for_people_and_exact_for_programs(stranger: TestClient) -> None:
    found = re.findall(r'<time datetime="([^"]+)">([^<]+)</time>', stranger.get(STUDY_PAGE).text)
    assert found
    for stamp, shown in found:
        at = datetime.fromisoformat(stamp)
        assert at.utcoffset() is not None
        assert datetime.now(UTC) - at < timedelta(hours=1)
        assert shown == at.strftime("%Y-%m-%d %H:%M:%S")


def test_what_a_file_says_is_text_and_nothing_else(site: Site, viewer: TestClient) -> None:
    evil = '<script>alert("x")</script>'
    datasets = planted(PatientName=evil, PatientID=evil, StudyInstanceUID="1.2.9.9.9.1",
                       SeriesInstanceUID="1.2.9.9.9.2", StudyDescription="<b>")
    for number, dataset in enumerate(datasets):
        uid = f"1.2.9.9.9.3.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    receive(site.ledger, site.spool, datasets)
    for page in ("/", f"/studies/{hash_uid('1.2.9.9.9.1')}"):
        text = viewer.get(page).text
        assert "&lt;script&gt;" in text
        assert evil not in text
        assert "<b>" not in text


def test_a_study_that_was_not_shown_lately_is_still_found_by_its_hash(stranger: TestClient) -> None:
    assert stranger.get(STUDY_PAGE).status_code == 200
