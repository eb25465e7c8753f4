"""Commands that act: retry, check, echo, send."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import ai_models
from dicom_node.records import JobState
from tests.cli.running import Site
from tests.delivery.scripted_peer import scripted_peer
from tests.dicom_samples import ct_series, write_series
from tests.peers import free_port


@pytest.mark.parametrize("arguments", [[], ["job-1", "--state", "dead"]])
def test_retry_takes_a_job_or_a_state(site: Site, arguments: list[str]) -> None:
    assert site("retry", *arguments).code == 2


def test_retrying_what_is_dead_queues_jobs_and_deliveries(filled: Site) -> None:
    answer = filled("retry", "--state", "dead")
    assert (answer.code, answer.out) == (0, "2 queued again\n")
    ledger = filled.ledger()
    found = ledger.jobs.find("job-2")
    assert found is not None and (found.state, found.attempt) == (JobState.QUEUED, 2)
    assert ledger.deliveries.count_by_state() == {"sent": 1, "pending": 1}
    ledger.close()
    assert filled("retry", "--state", "dead").out == "0 queued again\n"


def test_retrying_one_job(filled: Site) -> None:
    assert filled("retry", "job-2").code == 0
    again = filled("retry", "job-2")
    assert again.code == 1 and "is queued" in again.err
    assert filled("retry", "job-1").out == "1 queued again\n"
    assert filled("retry", "job-1").out == "0 queued again, 1 hurried\n"
    assert filled("retry", "job-9").code == 1


def test_retrying_several_jobs_does_what_it_can_and_tells_of_the_rest(filled: Site) -> None:
    answer = filled("retry", "job-1", "unheard", "job-2")
    assert (answer.code, answer.out) == (1, "2 queued again\n")
    assert "no job unheard" in answer.err
    assert "job-1" in filled("retry", "job-9").err


def test_a_job_that_waits_for_its_next_attempt_is_hurried(filled: Site) -> None:
    assert filled("retry", "job-2").code == 0
    ledger = filled.ledger()
    later = datetime.now(UTC) + timedelta(minutes=9)
    assert ledger.jobs.start("job-2", 2) is not None
    ledger.jobs.fail("job-2", "worker.lost", retry_at=later, attempt=2)
    ledger.close()
    (waiting,) = filled("jobs", "--state", "queued", "--json").json()["jobs"]
    assert waiting["waits_for"].startswith("the next attempt, not before 20")
    assert filled("retry", "job-2").out == "0 queued again, 1 hurried\n"
    (waiting,) = filled("jobs", "--state", "queued", "--json").json()["jobs"]
    assert waiting["waits_for"] == "a free device, next in turn"


@pytest.mark.parametrize("command", ["cancel", "hold", "release"])
def test_deciding_takes_jobs_or_a_state(filled: Site, command: str) -> None:
    assert filled(command).code == 2
    assert filled(command, "job-1", "--state", "held").code == 2
    unknown = filled(command, "job-9")
    assert unknown.code == 1 and "did you mean job-" in unknown.err


def state(site: Site, job_id: str = "job-2") -> str:
    (series,) = site("show", job_id, "--json").json()["series"]
    return str(series["jobs"][0]["state"])


def test_a_queued_job_is_held_released_and_cancelled(filled: Site) -> None:
    filled("retry", "job-2")
    assert filled("hold", "job-2").out == "1 held\n"
    assert filled("hold", "job-2").out == "job-2 is held already\n0 held\n"
    assert state(filled) == "held"
    assert "until `release`" in filled("jobs").out
    assert filled("release", "--state", "held").out == "1 released\n"
    assert state(filled) == "queued"
    assert filled("cancel", "job-2").out == "1 cancelled\n"
    assert state(filled) == "cancelled"
    history = filled("show", "job-2").out
    for reason in ("held_by_operator", "released_by_operator", "cancelled_by_operator"):
        assert reason in history


@pytest.mark.parametrize("command", ["cancel", "hold"])
def test_what_is_at_its_end_is_neither_cancelled_nor_held(filled: Site, command: str) -> None:
    answer = filled(command, "job-1", "job-2")
    assert answer.code == 1 and "job-1 is succeeded" in answer.err and "--deliveries" in answer.err
    assert "job-2 is dead" in answer.err and "retry job-2" in answer.err


def test_what_waits_to_be_sent_can_be_stopped_and_taken_up_again(filled: Site) -> None:
    filled("retry", "job-1")
    assert filled("cancel", "--deliveries", "job-1").out == "1 deliveries stopped\n"
    assert "cancelled_by_operator" in filled("show", "job-1").out
    nothing = filled("cancel", "--deliveries", "job-1")
    assert nothing.code == 1 and "nothing of job job-1 waits" in nothing.err
    assert filled("retry", "job-1").out == "1 queued again\n"


def test_check_without_network_needs_no_peer(site: Site) -> None:
    answer = site("check", "--no-network", "--json")
    checks = {one["check"]: one for one in answer.json()["checks"]}
    assert {"settings", "data_dir", "free space", "ledger", "models"} <= set(checks)
    assert not any(name.startswith(("peer", "results")) for name in checks)
    assert answer.code == (0 if all(one["ok"] for one in checks.values()) else 1)
    assert checks["ledger"]["ok"] and not site.data_dir.exists()


def test_checking_makes_no_ledger_in_an_empty_data_directory(site: Site) -> None:
    site.data_dir.mkdir()
    site("check", "--no-network")
    assert list(site.data_dir.iterdir()) == []


def test_check_with_a_peer_that_is_away_is_exit_1(site: Site) -> None:
    site.settings(free_port())
    answer = site("check", "--json")
    (peer,) = [one for one in answer.json()["checks"] if one["check"] == "peer pacs"]
    assert answer.code == 1 and not peer["ok"] and peer["found"].startswith("peer.")
    assert "FAILED" in site("check").out


def test_check_with_a_peer_that_answers(site: Site) -> None:
    with scripted_peer() as peer:
        site.settings(peer.port)
        checks = site("check", "--json").json()["checks"]
    assert [one["ok"] for one in checks if one["check"] == "peer pacs"] == [True]


def test_check_does_not_ask_that_a_mere_sender_answers(site: Site) -> None:
    with scripted_peer() as peer:
        site.settings(peer.port)
        text = site.config.read_text()
        scanner = f"peers:\n  scanner: {{ae_title: CT1, host: 127.0.0.1, port: {free_port()}}}\n"
        site.config.write_text(text.replace("peers:\n", scanner))
        checks = {one["check"]: one for one in site("check", "--json").json()["checks"]}
        assert checks["peer scanner"]["ok"] and "no rule sends" in checks["peer scanner"]["found"]
        site.config.write_text(site.config.read_text().replace("[pacs]", "[pacs, sender]"))
        checks = {one["check"]: one for one in site("check", "--json").json()["checks"]}
        assert checks["peer pacs"]["ok"] and not checks["peer scanner"]["ok"]


def test_check_names_the_file_that_it_read(site: Site) -> None:
    checks = site("check", "--no-network", "--json").json()["checks"]
    assert str(site.config) in checks[0]["found"]


def test_check_tells_that_no_study_fits_above_the_line(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = site.config.read_text()
    site.config.write_text(text.replace("free_bytes: 0", "free_bytes: 1"))
    assert "new associations" not in site("check", "--no-network").out
    usage = shutil.disk_usage(site.folder)._replace(free=100 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    assert "new associations may be refused" in site("check", "--no-network").out


def test_check_misses_a_model_that_is_limited(site: Site) -> None:
    site.settings(more="jobs: {per_model: {lungs: 1}}\n")
    answer = site("check", "--no-network")
    assert answer.code == 1 and "jobs.per_model.lungs" in answer.out and "lungs-ct" in answer.out


@pytest.mark.parametrize(
    ("report", "found"),
    [("bones", "built in are: "), ("bone_age", "bone_age has no groups on segments")],
)
def test_check_misses_a_report_template_for_what_the_model_answers(
    site: Site, report: str, found: str
) -> None:
    folder = site.folder / "models" / "mine"
    shutil.copytree(Path(ai_models.__file__).parent / "zoo" / "lungs-ct", folder)
    card = (folder / "model.yaml").read_text()
    card = card.replace("id: lungs-ct", "id: mine").replace("report: lungs", f"report: {report}")
    (folder / "model.yaml").write_text(card)
    site.settings(more=f"models: {{directories: [{folder.parent}]}}\n")
    site.config.write_text(site.config.read_text().replace("lungs-ct", "mine"))
    answer = site("check", "--no-network")
    assert answer.code == 1 and "rule 'chest': mine: report: " in answer.out
    assert found in answer.out


def test_check_tells_a_full_disk(site: Site) -> None:
    site.config.write_text(
        site.config.read_text().replace("refuse_below_free_bytes: 0",
                                        "refuse_below_free_bytes: 1000000000000000")
    )
    answer = site("check", "--no-network")
    assert answer.code == 1 and "GiB free" in answer.out


def test_echo_tells_how_long_it_took_or_fails(site: Site) -> None:
    with scripted_peer() as peer:
        site.settings(peer.port)
        assert site("echo", "pacs").code == 0
    site.settings(free_port())
    away = site("echo", "pacs")
    assert away.code == 1
    assert "peer.unreachable" in away.err and "-> next: nothing listens there" in away.err
    with scripted_peer(require_calling=["ELSE"]) as peer:
        site.settings(peer.port)
        said = site("echo", "pacs").err
    assert "-> next: it is up: enter this node's AE title" in said
    assert site("echo", "unheard").code == 2


def test_send_is_done_when_the_peer_stored_everything(site: Site) -> None:
    write_series(ct_series((3, 8, 8)), site.folder / "images")
    with scripted_peer(0x0000, 0xA700, 0x0000) as peer:
        site.settings(peer.port)
        answer = site("send", "pacs", site.folder / "images")
        assert answer.code == 1 and "2 of 3 stored" in answer.out and "0xA700" in answer.out
    with scripted_peer() as peer:
        site.settings(peer.port)
        assert site("send", "pacs", site.folder / "images").code == 0
    assert site("send", "pacs", site.folder / "nowhere").code == 1
