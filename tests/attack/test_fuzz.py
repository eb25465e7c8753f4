"""Some hundred cases of `make attack`, and what they leave of the listener."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack.fuzz import attack, why_harmed


def test_a_listener_outlives_malformed_associations_and_has_not_grown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = attack(tmp_path, 400, seed=20, level="debug")
    assert why_harmed(report) == [], report.to_json()
    kinds = {name.split(":")[0] for name in report.outcomes}
    assert kinds == {"conversation", "data set", "handshake"}
    logged = capfd.readouterr().err
    assert "instance refused" in logged
    for planted in ("Nobody", "PLANTED", "1.2.3.1"):
        assert planted not in logged
    assert report.outcomes["data set: 0x0000"] and report.outcomes["data set: 0xC000"]
