"""How inputs looked is kept by model and scanner, the newest of each version only."""

from __future__ import annotations

import pytest

from dicom_node.ledger import encoder_features
from dicom_node.ledger.ledger import Ledger


def test_features_are_found_by_model_and_version_in_the_order_they_came(ledger: Ledger) -> None:
    ledger.features.keep("a", "lungs-ct", "1", "ACME, A", (0.5, -1.0))
    ledger.features.keep("b", "lungs-ct", "1", "ACME, B", (1.0, 2.0))
    ledger.features.keep("c", "lungs-ct", "2", "ACME, A", (3.0, 2.0))
    seen = ledger.features.of("lungs-ct", "1")
    assert [(one.scanner, one.features) for one in seen] == [
        ("ACME, A", (0.5, -1.0)), ("ACME, B", (1.0, 2.0)),
    ]
    assert ledger.features.counts() == {("lungs-ct", "1"): 2, ("lungs-ct", "2"): 1}


def test_a_second_attempt_of_a_job_takes_the_place_of_the_first(ledger: Ledger) -> None:
    ledger.features.keep("a", "lungs-ct", "1", "ACME, A", (0.5,))
    ledger.features.keep("a", "lungs-ct", "1", "ACME, A", (0.7,))
    assert [one.features for one in ledger.features.of("lungs-ct", "1")] == [(0.7,)]


def test_the_oldest_make_way(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_features, "MOST_KEPT", 3)
    for number in range(6):
        ledger.features.keep(f"job-{number}", "lungs-ct", "1", "ACME", (float(number),))
    ledger.features.keep("other", "lungs-ct", "2", "ACME", (9.0,))
    assert [one.features[0] for one in ledger.features.of("lungs-ct", "1")] == [3.0, 4.0, 5.0]
    assert len(ledger.features.of("lungs-ct", "2")) == 1
