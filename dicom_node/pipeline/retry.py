"""Whether a failed job is tried again, and when: one table by cause, and no clock of its own.

    node        the node was stopped, or gave the job back: at once, for ever; nobody's fault
    disk        the disk took nothing: without end, for all jobs would die of a full disk
    memory      the device's memory: later and later, for another job may have had it
    transient   the ledger did not answer: soon, a limited number of times
    elsewhere   a worker died or hung, or its GPU failed: once more, on another one if there is one
    late        the deadline passed: once more and elsewhere, for each costs the device that long
    endpoint    a host that serves models does not answer: later and later, as often as set
    changed     the model's folder is being changed: later and later, until that is done
    absent      the model is missing, damaged or not allowed: for ten minutes, then an answer
    model       the model failed: twice, for the same input gives the same failure
    never       the input, the settings, a result that failed its check: an answer, not a failure
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

OUT_OF_MEMORY = "worker.out_of_memory"
DEVICE_FAILED = "worker.device_failed"
SCRATCH_FAILED = "worker.storage_failed"
# No delay that this table gives is longer; what says that it waits for longer has another clock.
LONGEST_DELAY_S = 3600.0


class Cause(StrEnum):
    """What a failure is owed to."""

    NODE = "node"
    DISK = "disk"
    MEMORY = "memory"
    TRANSIENT = "transient"
    ELSEWHERE = "elsewhere"
    LATE = "late"
    ENDPOINT = "endpoint"
    CHANGED = "changed"
    ABSENT = "absent"
    MODEL = "model"
    NEVER = "never"


@dataclass(frozen=True)
class Policy:
    """How often in all (``None``: for ever; 0: as the settings say), and how long between.

    What is ``costly`` is not tried more often than the settings say either. The n-th delay is
    ``first_s * 2**(n-1)``, at most ``longest_s``, and half to one and a half of that by chance, so
    that what failed together is not tried together.
    """

    attempts: int | None
    first_s: float = 0.0
    longest_s: float = 0.0
    costly: bool = False


AS_CONFIGURED = 0
POLICIES = {
    Cause.NODE: Policy(None),
    Cause.DISK: Policy(None, 4.0, 300.0),
    Cause.MEMORY: Policy(8, 30.0, 900.0),
    Cause.TRANSIENT: Policy(AS_CONFIGURED, 4.0, 600.0),
    Cause.ELSEWHERE: Policy(2, 4.0, 4.0, costly=True),
    Cause.LATE: Policy(2, 60.0, 600.0, costly=True),
    Cause.ENDPOINT: Policy(AS_CONFIGURED, 15.0, 1800.0),
    # The node takes up a folder once it is at rest and its weights were looked through.
    Cause.CHANGED: Policy(10, 2.0, 60.0),
    # Ten minutes in all: time to mend a folder, and no longer without a word about the series.
    Cause.ABSENT: Policy(14, 5.0, 60.0),
    Cause.MODEL: Policy(2, 4.0, 4.0, costly=True),
    Cause.NEVER: Policy(1),
}

# After these another device may do what this one did not.
LEAVES_A_DEVICE = frozenset({Cause.ELSEWHERE, Cause.LATE, Cause.MEMORY})

_BY_REASON = {
    "worker.stopping": Cause.NODE,
    "worker.cancelled": Cause.NODE,
    SCRATCH_FAILED: Cause.DISK,
    "engine_lost_it": Cause.NODE,
    "host_left": Cause.NODE,
    "routed_again": Cause.NODE,
    OUT_OF_MEMORY: Cause.MEMORY,
    "worker.lost": Cause.ELSEWHERE,
    DEVICE_FAILED: Cause.ELSEWHERE,
    "worker.no_heartbeat": Cause.ELSEWHERE,
    "worker.deadline_exceeded": Cause.LATE,
    "worker.endpoint_unavailable": Cause.ENDPOINT,
    "model.card_changed": Cause.CHANGED,
    "model.unknown": Cause.ABSENT,
    "model.no_live_version": Cause.ABSENT,
    "model.directory_missing": Cause.ABSENT,
    "model.weights_missing": Cause.ABSENT,
    "model.hash_mismatch": Cause.ABSENT,
    "model.refused": Cause.ABSENT,
    # What the network did, and not what its card, files or labels are.
    "model.failed": Cause.MODEL,
    "transient": Cause.TRANSIENT,
    # One object, and not the store: whoever waits for the series is to hear of it in the end.
    "store.damaged": Cause.TRANSIENT,
}
_BY_GROUP = {
    "storage": Cause.DISK,
    # The disk of all hosts: see `dicom_node.spool.store`.
    "store": Cause.DISK,
    "worker": Cause.TRANSIENT,
    "ledger": Cause.TRANSIENT,
}


def cause_of(reason: str) -> Cause:
    """The cause that a reason stands for; ``code: text`` as the ledger has it, or the code.

    A code that is not known is not tried again.
    """
    code = reason.partition(":")[0]
    group = code.partition(".")[0]
    return _BY_REASON.get(code) or _BY_GROUP.get(group) or Cause.NEVER


def next_delay_s(
    reason: str, earlier: Sequence[str], *, max_attempts: int, chance: float
) -> float | None:
    """After how many seconds a job is tried again; ``None``: it is a dead letter.

    Parameters
    ----------
    reason
        Why it failed now.
    earlier
        Why it failed before, since it was asked for or an operator retried it.
    max_attempts
        How often a job is tried that fails of transient causes, and at most how often one is
        whose model fails or is late, or whose worker was lost.
    chance
        From 0 to 1, for the jitter.
    """
    cause = cause_of(reason)
    policy = POLICIES[cause]
    failures = 1 + sum(cause_of(one) is cause for one in earlier)
    attempts = max_attempts if policy.attempts == AS_CONFIGURED else policy.attempts
    if attempts is not None and policy.costly:
        attempts = min(attempts, max_attempts)
    if attempts is not None and failures >= attempts:
        return None
    # The exponent is bounded before the power: a disk may be full a thousand times.
    delay_s = min(policy.longest_s, policy.first_s * 2.0 ** min(failures - 1, 30))
    return delay_s * (0.5 + chance)


def last_words(reason: str, earlier: Sequence[str]) -> str:
    """Why a job is given up: the last reason, and the earlier ones of the same cause beside it.

    Only where each attempt was at another place or time, and says which.
    """
    if cause_of(reason) not in (Cause.ELSEWHERE, Cause.LATE):
        return reason
    before = [one for one in earlier if cause_of(one) is cause_of(reason)]
    return "; before that: ".join([reason, *reversed(before)])
