"""A worker that is late or lost costs its own job, and the next job is answered as ever."""

from __future__ import annotations

import contextlib
import os
import signal

from ai_models.conformance.agreement import is_same_answer
from ai_models.conformance.check import Check, failed, judged, not_applicable, passed
from ai_models.types import ModelInput, Prediction
from dicom_node.cli.verify_model import VerifiedModel
from dicom_node.errors import DeadlineExceeded, NodeError, WorkerLost

DEADLINE, LOST_WORKER = "deadline", "lost worker"
# Over when it is first looked at: within a millisecond a small network, warm, does answer.
_TOO_SHORT_S = 1e-6
# Slow enough to be killed while the network computes, and not before it begins.
_SLOW_S = 1.0


def check_deadline(model: VerifiedModel, source: ModelInput, reference: Prediction) -> Check:
    """A job that cannot be done in time ends as such."""

    def look() -> Check:
        try:
            model.ask(model.card, source, deadline_s=_TOO_SHORT_S)
        except DeadlineExceeded:
            return _next_is_answered(DEADLINE, model, source, reference, "the job was given up")
        except NodeError as error:
            return failed(DEADLINE, f"past its deadline it was {error.reason}: {error}")
        return failed(DEADLINE, "an answer came after the deadline and was taken")

    return judged(DEADLINE, look)


def check_lost_worker(model: VerifiedModel, source: ModelInput, reference: Prediction) -> Check:
    """SIGKILL while the worker holds a job, as the kernel does when memory is short."""
    wait = 1 if model.seconds > _SLOW_S else 0
    asked = 0

    def kill() -> bool:
        nonlocal asked
        # The arrays of the job are there: it is on its way, and the worker is warm.
        if any(model.scratch.glob("inference-*")):
            asked += 1
            if asked > wait:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(model.process_id, signal.SIGKILL)
        return False

    def look() -> Check:
        try:
            model.ask(model.card, source, cancelled=kill)
        except WorkerLost:
            return _next_is_answered(LOST_WORKER, model, source, reference, "the job was told")
        except NodeError as error:
            return failed(LOST_WORKER, f"a killed worker was {error.reason}: {error}")
        return not_applicable(LOST_WORKER, "it answered before it could be killed")

    return judged(LOST_WORKER, look)


def _next_is_answered(
    name: str, model: VerifiedModel, source: ModelInput, reference: Prediction, what: str
) -> Check:
    if not is_same_answer(reference, model.predict(source)):
        return failed(name, f"{what}, and a fresh worker answers something else")
    return passed(name, f"{what}, and a fresh worker answers the same as before")
