"""The hosts of a node on the page of peers."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.operations.test_hosts_shown import GONE, WORKER
from tests.operations.web.conftest import Site


def test_hosts_are_listed_with_what_they_lead_and_a_clock_that_is_wrong(
    site: Site, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Hosts of this node" not in viewer.get("/peers").text
    monkeypatch.setattr(site.ledger.hosts, "all", lambda: [WORKER, GONE])
    page = viewer.get("/peers").text
    assert "Hosts of this node" in page and "worker-1" in page
    assert "61 s fast" in page and "for 70 s" in page
