"""Commands that read: status, jobs, show, models, schema; for people and as one JSON document."""

from __future__ import annotations

import fcntl
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.events import hash_uid
from dicom_node.records import CircuitState, DutyKind, SendOutcome, SeriesState
from tests.cli.running import Site
from tests.ledger.conftest import START, delivery, instance, job, result
from tests.operations.test_refused_callers import refuse


@pytest.mark.parametrize("command", ["status", "jobs"])
def test_without_a_ledger_the_setting_is_at_fault(site: Site, command: str) -> None:
    answer = site(command)
    assert answer.code == 2 and "no ledger" in answer.err
    assert not site.data_dir.exists(), "looking makes nothing"


def test_status_counts_and_names_the_latest(filled: Site) -> None:
    document = filled("status", "--json").json()
    assert document["jobs"] == {"succeeded": 1, "dead": 1}
    assert document["deliveries"] == {"sent": 1, "dead": 1}
    (series,) = document["latest"]
    assert (series["series_instance_uid"], series["state"]) == ("1.2.3", "routed")
    text = filled("status")
    assert text.code == 0 and "1 dead, 1 succeeded" in text.out and "1.2.3" in text.out


def test_status_says_whether_the_node_runs(filled: Site) -> None:
    assert "node          does not run here" in filled("status").out
    assert filled("status", "--json").json()["running"] == {}
    held = [(filled.data_dir / f"{role}.lock").open("w+") for role in ("intake", "work")]
    for lock in held:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert "node          runs (intake, work; pid 4711), not here: deliver" in filled("status").out
    assert filled("status", "--json").json()["running"] == {"intake": 4711, "work": 4711}
    for lock in held:
        lock.close()
    assert filled("status", "--json").json()["running"] == {}


def test_status_tells_who_was_refused(filled: Site) -> None:
    assert "refused  " not in filled("status").out
    refuse(filled.data_dir / "audit", at=datetime.now(UTC))
    assert (
        "refused       in the last day: 1 access.calling_ae_title, last NOBODY 127.0.0.1, 20"
        in filled("status").out
    )
    document = filled("status", "--json").json()["refused_in_a_day"]
    assert document["by_reason"] == {"access.calling_ae_title": 1}


def test_status_tells_of_a_routed_series_what_became_of_it(filled: Site) -> None:
    text = filled("status").out
    assert "lungs-ct succeeded, pacs: 1 dead (refused), 1 sent" in text
    assert "lungs-ct dead: model.failed: no" in text
    assert "dicom-node show UID" in text and "dicom-node explain UID" in text
    (series,) = filled("status", "--json").json()["latest"]
    assert series["outcome"].startswith("lungs-ct") and series["reason"] == "rules: lungs"


def test_status_says_why_a_declined_series_was_declined(site: Site) -> None:
    ledger = site.ledger()
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.receipts.change("1.2.3", SeriesState.DECLINED, "no_rule_matched")
    ledger.close()
    (series,) = site("status", "--json").json()["latest"]
    assert series["outcome"] == series["reason"] == "no_rule_matched"


def test_status_says_where_the_answer_for_a_declined_series_is(filled: Site) -> None:
    ledger = filled.ledger()
    ledger.receipts.change("1.2.3", SeriesState.DECLINED, "input.too_few_slices: 2 slices")
    (owed,), dead = ledger.duties.waiting(DutyKind.ANSWER), ledger.jobs.find("job-2")
    assert dead is not None
    ledger.answers.give(
        owed, dead,
        [replace(result(3), job_id="job-2", kind="not analysed report")],
        [replace(delivery(3), delivery_id="job-2:pacs:03", job_id="job-2",
                 reason="produced: best form")],
    )
    ledger.close()
    assert "input.too_few_slices: 2 slices, answer to pacs: 1 pending\n" in filled("status").out


def test_show_names_what_was_sent_and_has_no_empty_words(filled: Site) -> None:
    text = filled("show", "job-1").out
    assert "segmentation to pacs: sent (status 0x0000), attempt 1" in text
    assert "segmentation to pacs: dead (refused, status 0xC000), attempt 1" in text
    assert "attempt 0" not in text and " (," not in text


def test_show_prints_a_draft_beside_its_evidence(filled: Site) -> None:
    ledger = filled.ledger()
    ledger.predictions.keep("job-1", {"impression": {
        "writer": {"id": "llama", "version": "1", "model": "m"}, "fallback": "",
        "struck": {"side": 1}, "evidence": {"E1": "Nodule 1, left Lung: Long axis 8.4 mm"},
        "told": [{"text": "Nodule 1: 8.4 mm.", "evidence": ["E1"], "source": "writer"}],
        "unguarded": {"why": "", "struck": [
            {"text": "On the right.", "reason": "side", "why": "it is left", "evidence": ["E1"]},
        ]},
    }})
    ledger.close()
    text = filled("show", "job-1").out
    assert (
        "    impression: AI draft, not reviewed; llama 1 (model m, whose digest is not known here);"
        " 1 sentence struck (side: 1)\n"
        "      Nodule 1: 8.4 mm. [writer]\n"
        "        E1: Nodule 1, left Lung: Long axis 8.4 mm\n"
        "      struck (side): On the right.  it is left\n"
    ) in text
    (series,) = filled("show", "job-1", "--json").json()["series"]
    assert series["jobs"][0]["impression"]["struck"] == {"side": 1}


def test_show_counts_objects_that_went_the_same_way(filled: Site) -> None:
    pages = range(3, 63)
    ledger = filled.ledger()
    ledger.outbox.add([
        replace(result(number), kind="secondary capture", form="pictures") for number in pages
    ])
    ledger.deliveries.replace(
        "job-1", "pacs", [],
        [replace(delivery(number), reason="as pictures: set for this destination")
         for number in pages],
        "",
    )
    stored = SendOutcome("2.25.3", 0, stored=True, transient=False)
    ledger.deliveries.record(delivery(3).delivery_id, stored, retry_at=None)
    ledger.close()
    text = filled("show", "job-1").out
    assert "    59 x secondary capture as pictures to pacs: pending (as pictures: set" in text
    assert "    secondary capture as pictures to pacs: sent (status 0x0000), attempt" in text
    assert len(text.splitlines()) < 40
    assert "pacs: 59 pending, 1 replaced, 2 sent" in filled("status").out
    (series,) = filled("show", "job-1", "--json").json()["series"]
    assert len(series["jobs"][0]["deliveries"]) == 62


def test_show_tells_when_a_waiting_delivery_is_tried_again(filled: Site) -> None:
    assert filled("retry", "job-1").code == 0
    assert "attempt 2, not before 20" in filled("show", "job-1").out


def test_a_delivery_waits_for_its_own_time_and_for_the_peer_that_is_away(filled: Site) -> None:
    assert filled("retry", "job-1").code == 0
    asked = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=7)
    ledger = filled.ledger()
    ledger.circuits.change("pacs", lambda one: replace(
        one, state=CircuitState.OPEN, not_before=asked, reason="peer.unreachable"
    ))
    ledger.close()
    text, shown = filled("show", "job-1").out, asked.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert f"attempt 2, not before {shown}" in text
    assert f"pacs to take 1, which is away (peer.unreachable), asked again at {shown}" in text


def test_jobs_tell_priority_age_and_what_each_waits_for(filled: Site) -> None:
    assert filled("retry", "--state", "dead").code == 0
    found = {one["job_id"]: one for one in filled("jobs", "--json").json()["jobs"]}
    assert found["job-2"]["priority"] == "routine" and found["job-2"]["age_s"] >= 0
    assert found["job-2"]["waits_for"] == "a free device, next in turn"
    assert found["job-1"]["waits_for"] == "pacs to take 1"
    text = filled("jobs").out
    assert "waits for" in text and "next in turn" in text and "routine" in text


@pytest.mark.parametrize(("policy", "is_told"), [("required", True), ("auto", False)])
def test_a_commitment_that_is_required_and_could_not_be_asked_for_is_told(
    filled: Site, policy: str, is_told: bool
) -> None:
    filled.settings(more=f"delivery: {{storage_commitment: {policy}}}\n")
    assert ("pacs to commit to 1 (required, not asked yet)" in filled("jobs").out) is is_told
    assert ("pacs to commit to 1" in filled("show", "job-1").out) is is_told
    assert ("1 sent, not committed yet" in filled("status").out) is is_told


def test_an_input_that_no_model_could_take_was_not_to_be_tried_again(site: Site) -> None:
    ledger = site.ledger()
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.3", [job("job-1")], "rules: lungs", seen=START)
    ledger.jobs.start("job-1", 1)
    ledger.jobs.fail("job-1", "input.slice_gap: 12 mm", retry_at=None)
    ledger.close()
    assert "failed attempts by cause: 1 for good" in site("show", "job-1").out


def test_looking_changes_nothing_and_waits_for_nobody(filled: Site) -> None:
    before = (filled.data_dir / "ledger.db").read_bytes()
    writer = sqlite3.connect(filled.data_dir / "ledger.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        for command in (("status",), ("jobs",), ("show", "job-1")):
            assert filled(*command).code == 0
    finally:
        writer.execute("ROLLBACK")
        writer.close()
    assert (filled.data_dir / "ledger.db").read_bytes() == before


def test_show_counts_failed_attempts_by_cause(filled: Site) -> None:
    text = filled("show", "job-2").out
    assert "failed attempts by cause: 1 model" in text
    (series,) = filled("show", "job-2", "--json").json()["series"]
    assert series["jobs"][0]["failures"] == {"model": 1}


def test_show_of_a_name_that_is_nearly_one_names_it(filled: Site) -> None:
    assert "did you mean job-" in filled("show", "job-99").err


def test_jobs_are_listed_and_filtered_by_state(filled: Site) -> None:
    everything = filled("jobs", "--json").json()["jobs"]
    assert {one["job_id"] for one in everything} == {"job-1", "job-2"}
    (dead,) = filled("jobs", "--json", "--state", "dead").json()["jobs"]
    assert (dead["job_id"], dead["reason"]) == ("job-2", "model.failed: no")
    assert filled("jobs", "--json", "--state", "held").json() == {"jobs": []}
    assert "model.failed" in filled("jobs").out


@pytest.mark.parametrize("name", ["1.2", "1.2.3", "job-1", hash_uid("1.2.3"), hash_uid("1.2")],
                         ids=["study", "series", "job", "hash", "hash of the study"])
def test_show_tells_every_change_of_what_was_named(filled: Site, name: str) -> None:
    answer = filled("show", name)
    assert answer.code == 0
    for word in ("routed -> ", "receiving -> complete", "queued -> running"):
        assert word in answer.out or word == "routed -> "
    assert "status 0xC000" in answer.out
    (series,) = filled("show", name, "--json").json()["series"]
    first = series["jobs"][0]
    assert [t["to_state"] for t in first["history"]] == ["queued", "running", "succeeded"]
    assert all({"at", "reason", "attempt"} <= set(t) for t in first["history"])
    assert {d["state"] for d in first["deliveries"]} == {"sent", "dead"}


@pytest.mark.parametrize("name", ["1.2.3.4.5", "job-9", "0123456789ab", ""])
def test_show_of_something_unknown_is_exit_1(filled: Site, name: str) -> None:
    answer = filled("show", name, "--json")
    assert (answer.code, answer.out) == (1, "") and "nothing is known" in answer.err
    if not name.startswith("job"):
        assert "never received, refused (see the log), or removed and forgotten" in answer.err


def test_models_are_listed_as_others_rely_on(site: Site) -> None:
    models = site("models", "list", "--json").json()["models"]
    assert models
    for model in models:
        assert {"id", "version", "task", "modality", "licence", "intended_use"} <= set(model)
        assert isinstance(model["modality"], list)
    assert "lungs-ct" in {model["id"] for model in models}
    assert "lungs-ct" in site("models").out


def test_a_model_is_shown_and_an_unknown_one_is_wrong_use(site: Site) -> None:
    assert site("models", "show", "lungs-ct").json()["id"] == "lungs-ct"
    assert site("models", "show").code == 2
    unknown = site("models", "show", "none")
    assert unknown.code == 2 and "lungs-ct" in unknown.err


def test_the_schema_is_one_document(site: Site) -> None:
    assert "properties" in site("schema").json()


def test_the_schema_of_a_card_says_what_every_key_means(site: Site) -> None:
    schema = site("schema", "--card").json()
    assert "TextCard" in schema["$defs"]
    assert "Superior" in schema["$defs"]["InputEntry"]["properties"]["axes"]["description"]


def test_a_damaged_ledger_is_exit_1_and_no_traceback(site: Site) -> None:
    site.data_dir.mkdir()
    (site.data_dir / "ledger.db").write_bytes(b"no database" * 500)
    answer = site("status")
    assert answer.code == 1 and answer.err.startswith("dicom-node: ledger.damaged")
    assert "the next start of the node sets it aside" in answer.err
    (found,) = [
        one for one in site("check", "--no-network", "--json").json()["checks"]
        if one["check"] == "ledger"
    ]
    assert not found["ok"] and "the next start of the node sets it aside" in found["found"]
