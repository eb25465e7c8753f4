"""Commands that act: retry, check, echo, send."""

from __future__ import annotations

import shutil
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
    waiting = filled("retry", "job-1")
    assert waiting.code == 1 and "1 to pacs waiting, the next attempt not before 20" in waiting.err
    assert filled("retry", "job-9").code == 1


def test_check_without_network_needs_no_peer(site: Site) -> None:
    answer = site("check", "--no-network", "--json")
    checks = {one["check"]: one for one in answer.json()["checks"]}
    assert set(checks) == {"settings", "data_dir", "free space", "ledger", "models"}
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


def test_check_misses_a_report_template(site: Site) -> None:
    folder = site.folder / "models" / "mine"
    shutil.copytree(Path(ai_models.__file__).parent / "zoo" / "lungs-ct", folder)
    card = (folder / "model.yaml").read_text()
    card = card.replace("id: lungs-ct", "id: mine").replace("report: lungs", "report: bones")
    (folder / "model.yaml").write_text(card)
    site.settings(more=f"models: {{directories: [{folder.parent}]}}\n")
    site.config.write_text(site.config.read_text().replace("lungs-ct", "mine"))
    answer = site("check", "--no-network")
    assert answer.code == 1 and "'bones'" in answer.out and "there are: lungs" in answer.out


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
    assert site("echo", "pacs").code == 1
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
