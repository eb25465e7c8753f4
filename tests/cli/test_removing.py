"""What the command line says of removed studies, and how it lets one go."""

from __future__ import annotations

import os
import pwd
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from dicom_node.events import Events, hash_uid
from dicom_node.operations.audit_trail import AuditTrail
from dicom_node.operations.retention import Retention
from dicom_node.records import SendOutcome
from dicom_node.spool import Spool
from tests.cli.running import Site
from tests.ledger.conftest import delivery, instance
from tests.operations.retention_site import config_of


def retention(site: Site) -> Retention:
    spool = Spool(site.data_dir / "spool")
    return Retention(config_of(site.data_dir), site.ledger(), spool, Events())


def deliver(site: Site) -> None:
    """All that was dead is delivered after all."""
    ledger = site.ledger()
    ledger.deliveries.retry_dead("job-1")
    stored = SendOutcome("2.25.2", 0, stored=True, transient=False)
    ledger.deliveries.record("job-1:pacs:02", stored, retry_at=None)
    ledger.commitments.leave(["job-1:pacs:01", "job-1:pacs:02"], "not_offered")
    ledger.close()


def test_show_tells_why_a_study_that_failed_stays(filled: Site) -> None:
    said = filled("show", "1.2")
    assert "kept, with no end: an answer or another form of its results is owed" in said.out
    (study,) = filled("show", "1.2", "--json").json()["studies"]
    assert (study["until"], study["removals"]) == (None, [])


def test_show_tells_until_when_a_delivered_study_stays(filled: Site) -> None:
    deliver(filled)
    ledger = filled.ledger()
    ledger.jobs.retry("job-2")
    ledger.decisions.cancel("job-2", answer=False)
    ledger.duties.done(ledger.duties.waiting()[0])
    ledger.close()
    said = filled("show", "1.2")
    assert "its results are delivered; not before 20" in said.out
    assert " even where room is needed" in said.out
    (study,) = filled("show", "1.2", "--json").json()["studies"]
    assert datetime.fromisoformat(study["until"]) > datetime.fromisoformat(study["earliest"])


def test_remove_lets_go_what_failed_and_tells_what_was_removed(filled: Site) -> None:
    assert "pacs has not committed" in filled("remove", "1.2").err
    filled.ledger().commitments.leave(["job-1:pacs:01"], "not_offered")
    said = filled("remove", "1.2")
    assert (said.code, said.out) == (0, "study 1.2 is removed when the node runs\n")
    assert retention(filled).remove("1.2") is not None
    shown = filled("show", "1.2").out
    assert "removed_by_operator; 1 images" in shown
    assert "kept" not in shown
    assert "1 removed" in filled("status").out
    assert "removed       1 studies in 30 days" in filled("status").out
    assert filled("status", "--json").json()["removed"]["studies"] == 1
    again = filled("retry", "job-2")
    assert again.code == 1
    assert "were removed; send them again" in again.err
    assert "it is removed already" in filled("remove", "1.2").err


def test_remove_refuses_what_is_under_way_and_what_it_does_not_know(filled: Site) -> None:
    filled.ledger().index([instance(2)])
    said = filled("remove", "1.2", "9.9")
    assert said.code == 1
    assert "study 1.2: not while a series is receiving" in said.err
    assert "study 9.9: nothing is known of it" in said.err


def test_remove_names_the_jobs_that_are_to_be_cancelled_first(filled: Site) -> None:
    filled.ledger().jobs.retry("job-2")
    said = filled("remove", "1.2")
    assert "not while job job-2 waits; first `dicom-node cancel job-2`" in said.err


def test_remove_names_the_deliveries_that_are_to_be_stopped_first(filled: Site) -> None:
    deliver(filled)
    ledger = filled.ledger()
    ledger.deliveries.replace("job-1", "pacs", [], [delivery(3)], "")
    ledger.close()
    said = filled("remove", "1.2")
    first = "first `dicom-node cancel --deliveries job-1`"
    assert f"results wait to be sent to pacs; {first}" in said.err
    assert filled("cancel", "--deliveries", "job-1").code == 0
    assert filled("remove", "1.2").code == 0


@pytest.mark.parametrize("name", [hash_uid("1.2"), hash_uid("1.2.3")], ids=["study", "series"])
def test_a_study_is_removed_by_the_hash_on_the_page(filled: Site, name: str) -> None:
    filled.ledger().commitments.leave(["job-1:pacs:01"], "not_offered")
    assert filled("remove", name).out == "study 1.2 is removed when the node runs\n"


def test_the_name_of_one_of_several_series_removes_nothing(filled: Site) -> None:
    ledger = filled.ledger()
    ledger.commitments.leave(["job-1:pacs:01"], "not_offered")
    ledger.index([replace(instance(9), series_instance_uid="1.2.4")])
    said = filled("remove", hash_uid("1.2.3"))
    assert said.code == 1
    assert "a part of study 1.2, which is removed as a whole" in said.err
    assert "that is a job" in filled("remove", "job-1").err
    assert ledger.removals.asked() == []
    ledger.close()


def test_an_order_is_audited_with_the_user_of_the_system(
    filled: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.ledger().commitments.leave(["job-1:pacs:01"], "not_offered")
    assert filled("remove", "1.2").code == 0
    folder = filled.data_dir / "audit"
    assert not folder.exists(), "where no node has kept a trail, none is begun"
    AuditTrail(folder).append(["<AuditMessage/>"])
    monkeypatch.setenv("SUDO_USER", "anna")
    user = pwd.getpwuid(os.getuid()).pw_name
    assert filled("remove", "1.2").code == 0
    assert filled("retry", "job-2").code == 0
    assert filled("hold", "job-2").code == 0
    assert filled("release", "job-2").code == 0
    shown = filled("audit").out
    for order in ("remove study: 1.2", "retry job: job-2", "hold job: job-2",
                  "release job: job-2"):
        (line,) = [line for line in shown.splitlines() if order in line]
        assert f"{user} (anna by sudo)" in line and "Use of Restricted Function" in line
    assert "SUDO_USER=anna" in AuditTrail(folder).files()[0].read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_writes_into_the_trail_stays_the_nodes(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    AuditTrail(tmp_path).append(["<AuditMessage/>"])
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {65534}
