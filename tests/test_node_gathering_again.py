"""A further series that is sent again after the job with it ran."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.records import SeriesState
from tests.test_node_gathering import CT, PT, Node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    found = Node(tmp_path, inputs={"pt": {"when": {"Modality": "PT"}}})
    yield found
    found.ledger.close()


@pytest.mark.parametrize("is_changed", [True, False])
def test_only_an_image_that_is_another_one_now_makes_another_job(
    node: Node, is_changed: bool
) -> None:
    node.receive(CT, "CT")
    node.receive(PT, "PT")
    first = node.run()
    images = node.ledger.receipts.instances(PT)
    if is_changed:
        images[0] = dataclasses.replace(images[0], fingerprint="another")
    node.ledger.index(images)
    again = node.ledger.receipts.find_series(PT)
    assert again is not None and (again.state is SeriesState.RECEIVING) is is_changed
    if is_changed:
        node.ledger.receipts.change(PT, SeriesState.COMPLETE, "quiet_period")
        node.router.route_complete()
    node.passes()
    assert (node.job.job_id != first.job_id) is is_changed
    if is_changed:
        assert node.is_due() and node.inputs() == {"pt": PT}
