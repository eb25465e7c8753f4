"""Why something waits, in a few words: for `jobs`, `show`, `status` and the web page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dicom_node.delivery.recipients import lane_of
from dicom_node.input_roles import in_words
from dicom_node.node_host_facts import nobody_does, when
from dicom_node.pipeline.choice import in_order
from dicom_node.pipeline.retry import LONGEST_DELAY_S
from dicom_node.records import (
    DRAFTING,
    Circuit,
    CircuitState,
    Delivery,
    DeliveryState,
    DutyKind,
    Job,
    JobState,
)

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.ledger.ledger import Ledger

_MOST = 1000


class Outlook:
    """What stands before each job and delivery of one ledger, at one moment."""

    def __init__(self, ledger: Ledger, config: Config) -> None:
        self._now = datetime.now(UTC)
        self._config = config
        self._per_model = config.jobs.per_model
        self._commitment = config.delivery.storage_commitment
        self._peers = config.peers
        waiting = ledger.jobs.waiting(longest_delay_s=2 * LONGEST_DELAY_S, limit=_MOST)
        order = in_order(waiting, self._now, config.jobs.promote_after_s)
        self._before = {job.job_id: number for number, job in enumerate(order)}
        waits = [job.job_id for job in ledger.inputs.waiting()]
        self._inputs = ledger.inputs.of_jobs(waits)
        self._arriving = ledger.inputs.arriving()
        self._running = Counter(
            job.model_id for job in ledger.jobs.running() if job.reason != DRAFTING
        )
        self.duties = ledger.duties.waiting()
        self._owed = {(duty.kind, duty.key): duty for duty in self.duties}
        self.circuits = ledger.circuits.all()
        hosts = ledger.hosts.all()
        self._no_worker, self._no_deliverer = (
            nobody_does(role, hosts) for role in ("work", "deliver")
        )

    def age_s(self, job: Job) -> float:
        """How long ago a job was asked for."""
        return max(0.0, (self._now - job.created_at).total_seconds())

    def requires_commitment(self, destination: str) -> bool:
        """Whether what this destination took counts only once it committed to it."""
        peer = self._peers.get(destination)
        policy = peer.storage_commitment if peer is not None else None
        return (policy or self._commitment) == "required" and (peer is None or peer.speaks_dimse)

    def next_try(self, delivery: Delivery, sender_ae_title: str = "") -> datetime:
        """When it is tried: not before its own time, nor while its destination is away."""
        circuit = self._open_circuit(
            lane_of(self._config, delivery.destination, sender_ae_title)
        )
        return max(delivery.not_before, circuit.not_before) if circuit else delivery.not_before

    def _open_circuit(self, destination: str) -> Circuit | None:
        circuit = self.circuits.get(destination)
        return circuit if circuit is not None and circuit.state is CircuitState.OPEN else None

    def of_job(self, job: Job, deliveries: Sequence[Delivery] = ()) -> str:
        """What a job or its results wait for; empty when for nothing."""
        if job.state is JobState.HELD:
            return f"held since {when(job.changed_at)}, until `release`"
        if job.state is JobState.QUEUED:
            return self._of_queued(job)
        if job.state is JobState.RUNNING and self._no_worker:
            return f"a host that goes on with it: {self._no_worker}"
        if job.state is JobState.SUCCEEDED:
            destinations = sorted({one.destination for one in deliveries})
            return "; ".join(filter(None, (
                self._of_destination([d for d in deliveries if d.destination == name], name)
                for name in destinations
            )))
        is_owed = self._owes(DutyKind.ANSWER, job.job_id)
        return "an answer that says why there is no result" if is_owed else ""

    def _owes(self, kind: str, key: str) -> str:
        """Why something is owed; empty when it is not."""
        duty = self._owed.get((kind, key))
        return duty.reason if duty is not None else ""

    def _of_queued(self, job: Job) -> str:
        arriving = self._arriving.get(job.job_id)
        if arriving:
            return f"all images of {_roles(arriving)}, which are arriving again"
        number = self._before.get(job.job_id)
        if number is None:
            missing = [
                one.role for one in self._inputs.get(job.job_id, ())
                if one.waits and not one.series_instance_uid
            ]
            if missing and job.not_before > self._now:
                return f"{_roles(missing)}, until {when(job.not_before)}"
            if job.not_before > self._now:
                return f"the next attempt, not before {when(job.not_before)}"
            return f"more than {_MOST} others"
        if self._no_worker:
            return f"a host that does it: {self._no_worker}"
        most = self._per_model.get(job.model_id)
        if most is not None and self._running[job.model_id] >= most:
            return f"its model, of which {most} may run at once"
        if number == 0:
            return "a free device, next in turn"
        return f"{number} others before it" if number > 1 else "1 other before it"

    def _of_destination(self, deliveries: Sequence[Delivery], name: str) -> str:
        waiting = [one for one in deliveries if one.state is DeliveryState.PENDING]
        choice = self._owes(DutyKind.FORMS, f"{deliveries[0].job_id}:{name}")
        asked = Counter(one.commitment for one in deliveries if one.state is DeliveryState.SENT)
        words = [f"another choice of what goes to {name} ({choice})"] if choice else []
        if waiting and not choice:
            earliest = min(self.next_try(one) for one in waiting)
            circuit = self._open_circuit(name)
            until = f" at {when(earliest)}" if earliest > self._now else " now"
            if circuit is not None:
                until = f", which is away ({circuit.reason}), asked again{until}"
            else:
                until = f", not before {when(earliest)}" if earliest > self._now else ""
            if self._no_deliverer:
                until = f": {self._no_deliverer}"
            words.append(f"{name} to take {len(waiting)}{until}")
        words += [
            f"{name} to commit to {asked[commitment]} ({commitment})"
            for commitment in ("wanted", "asked") if asked[commitment]
        ]
        # One that is away or offers no commitment was not asked: nothing is recorded then.
        if asked[""] and self.requires_commitment(name):
            words.append(f"{name} to commit to {asked['']} (required, not asked yet)")
        return ", ".join(words)


def _roles(roles: Sequence[str]) -> str:
    """Roles of series as a person reads them: ``pt and an earlier examination``."""
    words = in_words(roles)
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def duration(seconds: float) -> str:
    """A length of time in one or two words."""
    whole = timedelta(seconds=int(seconds))
    hours, minutes = divmod(whole.seconds // 60, 60)
    if whole.days:
        return f"{whole.days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole.seconds} s"
