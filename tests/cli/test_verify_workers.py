"""Whether a job is given up in time does not depend on how fast its model is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from dicom_node.cli.verify_model import VerifiedModel
from dicom_node.cli.verify_workers import check_deadline
from dicom_node.errors import DeadlineExceeded

# What a small network takes once it is warm.
ANSWERED_IN_S = 0.0005


def test_a_model_that_answers_within_a_millisecond_is_past_its_deadline_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dicom_node.cli.verify_workers.is_same_answer", lambda *_: True)

    def ask(_card: Any, _source: Any, *, deadline_s: float) -> str:
        if deadline_s < ANSWERED_IN_S:
            raise DeadlineExceeded("the model passed its deadline")
        return "answered"

    quick = SimpleNamespace(card=None, ask=ask, predict=lambda _: "answered")
    check = check_deadline(cast(VerifiedModel, quick), cast(Any, None), cast(Any, None))
    assert check.outcome == "passed"
