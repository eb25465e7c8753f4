"""Peers on the page: whether each answers, as far as that is known."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from tests.operations.web.conftest import form


def test_a_peer_that_did_not_answer_just_now_is_not_called_well(operator: TestClient) -> None:
    page = operator.get("/peers").text
    assert "no delivery has found it away" in page
    answer = operator.post("/peers/pacs", data={"what": "echo", **form(operator, "/peers")}).text
    (line,) = re.findall(r'"Answers">(.*?)</td>', answer)
    assert "! no" in line and "just now" in line
