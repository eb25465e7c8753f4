from __future__ import annotations

from typing import Any

from bench.soak_report import remembered, report, verdicts


def a_sample(at_s: float, **told: Any) -> dict[str, Any]:
    use = {"memory_mb": 400.0, "own_mb": 300.0, "handles": 50, "threads": 30, "processes": 1}
    kept = {"ledger_mb": 5.0 + at_s / 1000, "removed": int(at_s / 10), "kept": 100}
    return {
        "at_s": at_s, "uses": {"node": {**use, **told.pop("use", {})}}, "cpu_s": at_s / 5,
        "store_ms": [10.0], "result_s": [3.0], "load": 1.0, "open_jobs": 0, **kept, **told,
    }  # fmt: skip


def an_hour(**of_time: Any) -> list[dict[str, Any]]:
    """Samples of which some figures follow the time."""
    return [
        a_sample(float(at_s), **{name: one(at_s) for name, one in of_time.items()})
        for at_s in range(10, 3610, 10)
    ]


def test_a_process_whose_share_of_a_library_grows_has_grown_by_nothing() -> None:
    found = verdicts(an_hour(use=lambda at_s: {"memory_mb": 400.0 + at_s / 30}))
    assert found["memory of node, MB"].is_flat
    assert not found["memory and shared libraries, MB"].is_flat


def test_a_process_that_keeps_more_and_more_grows() -> None:
    found = verdicts(an_hour(use=lambda at_s: {"own_mb": 300.0 + at_s / 60}))
    assert round(found["memory of node, MB"].per_h) == 60
    assert not found["memory of node, MB"].is_flat


def test_a_ledger_that_remembers_each_removed_study_by_as_much_is_as_it_should_be() -> None:
    hour = an_hour()
    found = remembered(hour)
    assert found is not None and found.is_constant
    assert round(found.after.per_h, 1) == 10.0
    assert "in the one before | constant |" in report(hour, {})


def test_studies_that_are_kept_for_a_while_are_no_growth_of_what_is_remembered() -> None:
    def kept(at_s: int) -> int:
        return 400 if 2000 < at_s < 2500 else 100

    hour = an_hour(kept=kept, ledger_mb=lambda at_s: 5.0 + at_s / 1000 + 0.02 * kept(at_s))
    found = remembered(hour)
    assert found is not None and found.is_constant
    assert round(found.before.per_h, 1) == round(found.after.per_h, 1) == 10.0


def test_a_ledger_that_keeps_more_of_each_study_than_before_grows() -> None:
    found = remembered(an_hour(ledger_mb=lambda at_s: 5.0 + (at_s / 1000) ** 2))
    assert found is not None and not found.is_constant


def test_a_run_without_removals_says_nothing_of_them() -> None:
    assert remembered(an_hour(removed=lambda _: 0)) is None
