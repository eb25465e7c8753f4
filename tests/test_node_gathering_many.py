"""Studies of hundreds of series: looked at a little at a time, and never all against all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node import node_gathering, node_routing
from dicom_node.config_conditions import Condition
from dicom_node.records import JobInput, SeriesState
from dicom_node.routing.rules import Mismatch
from tests.test_node_gathering import CT, PT, Node

PET = {"pt": {"when": {"Modality": "PT"}}}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    found = Node(tmp_path, inputs=PET)
    yield found
    found.ledger.close()


def companions(node: Node, series: list[str]) -> set[str]:
    """What the jobs of these series take."""
    return {
        one.series_instance_uid
        for uid in series for job in node.ledger.jobs.of_series(uid)
        for one in node.ledger.inputs.of(job.job_id)
    }


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_more_series_than_are_looked_at_the_same_one_is_taken_in_any_order(
    node: Node, monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    monkeypatch.setattr(node_gathering, "MOST_SERIES", 2)
    pets = [(f"{PT}.{number}", 2 + number) for number in range(3)]
    for number in order:
        node.receive(pets[number][0], "PT", pets[number][1])
    # The series itself has fewer images than those that are looked at.
    node.receive(CT, "CT", 1)
    assert node.inputs() == {"pt": f"{PT}.2"}


def test_jobs_of_one_study_have_their_turns_and_the_rounds_of_the_node_go_on(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = [f"{CT}.{number}" for number in range(5)]
    for uid in series:
        node.receive(uid, "CT")
    monkeypatch.setattr(node_gathering, "_TURN_S", 0.0)
    node.receive(PT, "PT", complete=False)
    node.ledger.receipts.change(PT, SeriesState.COMPLETE, "quiet_period")
    rounds = 0
    while companions(node, series) != {PT}:
        rounds += 1
        assert rounds < 20
        node.router.route_complete()
    assert rounds >= len(series)


def test_complete_series_are_routed_in_as_many_rounds_as_they_take(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_routing, "_ROUND_S", 0.0)
    series = [f"{CT}.{number}" for number in range(3)]
    for uid in series:
        node.receive(uid, "CT", complete=False)
        node.ledger.receipts.change(uid, SeriesState.COMPLETE, "quiet_period")
    for left in (2, 1, 0):
        node.router.route_complete()
        assert len(node.ledger.receipts.series_in(SeriesState.COMPLETE)) == left
    assert all(node.ledger.jobs.of_series(uid) for uid in series)


def test_no_series_is_held_against_the_rule_once_for_every_job_of_its_study(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        node.receive(f"{CT}.{number}", "CT")
    compared: list[object] = []
    compare = node_gathering.compare

    def counted(condition: Condition, header: Dataset) -> tuple[Mismatch, ...]:
        compared.append(header)
        return compare(condition, header)

    monkeypatch.setattr(node_gathering, "compare", counted)
    monkeypatch.setattr("dicom_node.routing.selection.compare", counted)
    monkeypatch.setattr(node_gathering, "_TURN_S", 60.0)
    node.passes()
    assert 0 < len(compared) <= 6


def test_a_job_that_cannot_be_looked_at_keeps_no_other_of_its_study_waiting(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = [f"{CT}.{number}" for number in range(3)]
    for uid in series:
        node.receive(uid, "CT")
    gathering = node.router._gathering
    tend = gathering._tend

    def breaks(job: Any, study: Any, inputs: list[JobInput]) -> int:
        if job.series_instance_uid == series[0]:
            raise RuntimeError("a header that nobody thought of")
        return tend(job, study, inputs)

    monkeypatch.setattr(gathering, "_tend", breaks)
    node.receive(PT, "PT")
    for _ in range(5):
        node.router.route_complete()
    assert companions(node, series) == {PT, ""}
    assert companions(node, series[1:]) == {PT}
