"""A job that asks for an earlier examination: found, too late, and without a search."""

from __future__ import annotations

from pathlib import Path

from ai_models.catalog import Catalog
from dicom_node.events import Events
from dicom_node.node_routing import Router
from dicom_node.records import JobInput
from tests.test_node_gathering import CT, PT, WANTED, Node


def test_an_earlier_examination_is_searched_for_and_waited_for(tmp_path: Path) -> None:
    node = Node(tmp_path, inputs={"prior": {"when": {"Modality": "CT"}, "within_d": 400}})
    node.receive(CT, "CT")
    assert set(node.priors.asked) == {(node.job.job_id, CT, 400)} and not node.is_due()
    node.priors.priors.add("1.3.1")
    node.receive("1.3.1", "CT", study="1.3")
    fetched = node.ledger.receipts.find_series("1.3.1")
    assert fetched is not None and fetched.reason == "fetched_as_prior"
    assert node.ledger.inputs.fill(node.job.job_id, JobInput("prior", "1.3.1", "1.3", "of 2025"))
    node.passes()
    assert node.is_due() and node.inputs() == {"prior": "1.3.1"}
    node.ledger.close()


def test_an_earlier_examination_that_is_found_too_late_makes_another_job(tmp_path: Path) -> None:
    wanted = {"prior": {"when": {"Modality": "CT"}}, "pt": WANTED["pt"]}
    node = Node(tmp_path, inputs=wanted)
    node.receive(CT, "CT")
    first = node.run()
    node.receive(PT, "PT")
    second = node.run()
    assert second.job_id != first.job_id
    node.priors.priors.add("1.3.1")
    node.receive("1.3.1", "CT", study="1.3")
    # The search knows only the job that had asked for it.
    assert node.ledger.inputs.fill(first.job_id, JobInput("prior", "1.3.1", "1.3", "of 2025"))
    node.passes()
    node.passes()
    assert node.job.job_id != second.job_id and node.inputs() == {"prior": "1.3.1", "pt": PT}
    node.run()
    node.passes()
    assert len(node.ledger.jobs.of_series(CT)) == 3 and node.ledger.inputs.overtaken() == []
    node.ledger.close()


def test_without_a_search_no_earlier_examination_is_waited_for(tmp_path: Path) -> None:
    node = Node(tmp_path, inputs={"prior": {"when": {"Modality": "CT"}}})
    node.router = Router(
        node.config, node.ledger, node.spool, Catalog([tmp_path / "models"]), Events()
    )
    node.receive(CT, "CT")
    assert node.is_due() and node.inputs() == {"prior": "not there"}
    node.ledger.close()
