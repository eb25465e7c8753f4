"""What stands above the list of studies."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.testclient import TestClient

from tests.operations.test_refused_callers import refuse
from tests.operations.web.conftest import Site


def test_the_first_view_of_the_page_tells_who_was_refused(site: Site, stranger: TestClient) -> None:
    refuse(site.folder / "audit", "<i>NOBODY", at=datetime.now(UTC))
    for address in ("/", "/?fragment=1"):
        assert (
            "Refused in the last day: 1 access.calling_ae_title, last &lt;i&gt;NOBODY 127.0.0.1,"
            in stranger.get(address).text
        )
