"""Checks of a node, each with a time in which it must answer: well, a warning, or failed.

A check that hangs (a dead network share, a driver) is itself what is wrong: it is given up and
told, and the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dicom_node.errors import NodeError


class Outcome(StrEnum):
    """How one check came out; a warning does not make the whole fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do next where something is to be done.

    ``details`` are for programs.
    """

    check: str
    outcome: Outcome
    found: str
    todo: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes
    ----------
    look
        Says what is found: a text where all is well. A `NodeError` is a failure.
    todo
        What to do where it fails and the finding itself does not say.
    within_s
        Longer than it ever takes where all is well.
    beside
        Whether it may run beside others: it measures nothing, and mostly waits.
    """

    name: str
    look: Callable[[], str | Finding | Sequence[Finding]]
    todo: str = ""
    within_s: float = 30.0
    beside: bool = False


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Outcome.OK, found)


def warning(check: str, found: str, todo: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(check, Outcome.WARNING, found, todo)


def failed(check: str, found: str, todo: str) -> Finding:
    """It does not work."""
    return Finding(check, Outcome.FAILED, found, todo)


def examine(checks: Sequence[Check]) -> list[Finding]:
    """Run all: first, one after the other, those that must be alone, then the others at once."""
    running = {id(check): _Running(check) for check in checks}
    for check in checks:
        if not check.beside:
            running[id(check)].start()
            running[id(check)].wait()
    beside = [running[id(check)] for check in checks if check.beside]
    for one in beside:
        one.start()
    for one in beside:
        one.wait()
    return [finding for check in checks for finding in running[id(check)].findings]


class _Running:
    """A check in a thread of its own, which is left behind when it does not end in time."""

    def __init__(self, check: Check) -> None:
        self.findings: list[Finding] = []
        self._check = check
        self._answer: list[Finding] | None = None
        self._until_s = 0.0
        self._thread = threading.Thread(target=self._run, name=check.name, daemon=True)

    def start(self) -> None:
        self._until_s = time.monotonic() + self._check.within_s
        self._thread.start()

    def wait(self) -> None:
        self._thread.join(max(0.0, self._until_s - time.monotonic()))
        check = self._check
        late = failed(check.name, f"no answer within {check.within_s:.0f} s", check.todo)
        self.findings = [late] if self._answer is None else self._answer

    def _run(self) -> None:
        check = self._check
        try:
            found = check.look()
        except NodeError as error:
            self._answer = [failed(check.name, f"{error.reason}: {error}", check.todo)]
        # A boundary: one check that breaks must not hide what the others find.
        except Exception as error:  # noqa: BLE001
            words = getattr(error, "strerror", None) or type(error).__name__
            self._answer = [failed(check.name, f"could not be looked at: {words}", check.todo)]
        else:
            self._answer = _as_list(check.name, found)


def _as_list(name: str, found: str | Finding | Sequence[Finding]) -> list[Finding]:
    if isinstance(found, str):
        return [ok(name, found)]
    return [found] if isinstance(found, Finding) else list(found)
