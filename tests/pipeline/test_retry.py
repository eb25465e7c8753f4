"""Causes of failure and what follows from each."""

from __future__ import annotations

import pytest

from dicom_node import errors
from dicom_node.pipeline.retry import (
    LONGEST_DELAY_S,
    POLICIES,
    Cause,
    cause_of,
    last_words,
    next_delay_s,
)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("worker.lost: was ended by SIGKILL", Cause.ELSEWHERE),
        ("worker.no_heartbeat", Cause.ELSEWHERE),
        ("worker.device_failed: CUDA error", Cause.ELSEWHERE),
        ("worker.codec_stalled", Cause.TRANSIENT),
        ("worker.endpoint_unavailable: nobody answers", Cause.ENDPOINT),
        ("model.card_changed", Cause.CHANGED),
        ("worker.deadline_exceeded: late", Cause.LATE),
        ("worker.stopping", Cause.NODE),
        ("worker.cancelled", Cause.NODE),
        ("engine_lost_it", Cause.NODE),
        ("worker.out_of_memory: CUDA", Cause.MEMORY),
        ("worker.storage_failed", Cause.DISK),
        ("storage.out_of_space: 1 GiB", Cause.DISK),
        ("storage.failed", Cause.DISK),
        ("ledger.unavailable", Cause.TRANSIENT),
        ("model.failed: RuntimeError", Cause.MODEL),
        ("model.hash_mismatch", Cause.ABSENT),
        ("model.weights_missing", Cause.ABSENT),
        ("model.unknown: no model", Cause.ABSENT),
        ("model.unknown_label: 7", Cause.NEVER),
        ("model.no_live_version", Cause.ABSENT),
        ("model.directory_missing", Cause.ABSENT),
        ("model.refused: not clinical", Cause.ABSENT),
        ("store.timeout: it does not answer", Cause.DISK),
        ("store.refused", Cause.DISK),
        ("store.damaged", Cause.TRANSIENT),
        ("model.wrong_output", Cause.NEVER),
        ("input.missing_slices: a hole", Cause.NEVER),
        ("gate.refused", Cause.NEVER),
        ("configuration.unknown_name", Cause.NEVER),
        ("unexpected.KeyError", Cause.NEVER),
        ("node.ended_while_running", Cause.NEVER),
        ("", Cause.NEVER),
    ],
)
def test_every_reason_has_its_cause(reason: str, cause: Cause) -> None:
    assert cause_of(reason) is cause


def test_what_an_error_says_of_itself_agrees_with_the_table() -> None:
    """Only a failed model, which calls itself permanent, has one more try."""
    kinds = [
        kind for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.NodeError)
        and kind is not errors.NodeError and not kind.reason.startswith("peer.")
    ]
    again = {kind for kind in kinds if cause_of(kind.reason) is not Cause.NEVER}
    assert again - {errors.ModelFailed} == {kind for kind in kinds if kind.transient}


def delays(reason: str, max_attempts: int = 5, upto: int = 40) -> list[float]:
    found: list[float] = []
    for number in range(upto):
        delay_s = next_delay_s(reason, [reason] * number, max_attempts=max_attempts, chance=0.5)
        if delay_s is None:
            break
        found.append(delay_s)
    return found


def test_each_cause_has_its_number_of_attempts() -> None:
    assert len(delays("ledger.unavailable")) == 4
    assert len(delays("ledger.unavailable", max_attempts=10)) == 9
    assert len(delays("worker.endpoint_unavailable", max_attempts=10)) == 9
    for once_more in ("worker.lost", "worker.no_heartbeat", "worker.deadline_exceeded"):
        assert len(delays(once_more, max_attempts=100)) == 1
        assert delays(once_more, max_attempts=1) == []
    assert len(delays("model.card_changed")) == 9 and sum(delays("model.card_changed")) > 120
    assert 590 < sum(delays("model.hash_mismatch")) < 630 and max(delays("model.unknown")) <= 60
    assert len(delays("worker.out_of_memory")) == 7
    assert len(delays("model.failed")) == 1
    assert delays("model.failed", max_attempts=1) == []
    assert len(delays("worker.out_of_memory", max_attempts=1)) == 7
    assert delays("input.modality") == []
    assert len(delays("storage.failed", upto=3000)) == 3000
    assert delays("worker.stopping") == [0.0] * 40


def test_delays_grow_to_a_limit_and_differ_by_chance() -> None:
    disk = delays("storage.failed")
    assert disk == sorted(disk) and disk[0] == 4.0 and disk[-1] == 300.0
    early, late = (
        next_delay_s("worker.lost", [], max_attempts=5, chance=chance) for chance in (0.0, 1.0)
    )
    assert (early, late) == (2.0, 6.0)
    pairs = zip(delays("worker.endpoint_unavailable"), delays("ledger.unavailable"), strict=True)
    assert all(endpoint > ledger for endpoint, ledger in pairs)
    assert max(policy.longest_s for policy in POLICIES.values()) * 1.5 <= LONGEST_DELAY_S


def test_other_causes_before_do_not_count() -> None:
    mixed = ["storage.failed", "worker.stopping", "ledger.unavailable", "model.failed"] * 3
    assert next_delay_s("ledger.unavailable", mixed, max_attempts=5, chance=0.5) == 32.0
    assert next_delay_s("ledger.unavailable", mixed, max_attempts=4, chance=0.5) is None


def test_a_worker_that_died_and_then_hung_is_two_losses_of_one_job() -> None:
    assert next_delay_s("worker.no_heartbeat", ["worker.lost"], max_attempts=5, chance=0.5) is None


def test_what_is_given_up_names_every_device_on_which_it_was_lost() -> None:
    first, second = "worker.lost: cuda:0 was ended by SIGSEGV", "worker.no_heartbeat: cuda:1"
    assert last_words(second, ["storage.failed: EROFS", first]) == (
        "worker.no_heartbeat: cuda:1; before that: worker.lost: cuda:0 was ended by SIGSEGV"
    )
    assert last_words(second, []) == second
    assert last_words("model.failed: no", ["model.failed: no"]) == "model.failed: no"
