"""The jobs that `retry`, `cancel`, `hold` and `release` are to act on, by name or by state."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from dicom_node.cli import audited
from dicom_node.records import Job, JobState

if TYPE_CHECKING:
    from dicom_node.ledger.ledger import Ledger

_MOST = 100_000


def add_arguments(parser: argparse.ArgumentParser, states: Iterable[JobState]) -> None:
    """Declare ``JOB...`` and ``--state``, one of which is to be given."""
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="a job, as `jobs` prints it")
    parser.add_argument("--state", choices=[str(state) for state in states],
                        help="every job in this state")


def is_wrong(arguments: argparse.Namespace) -> bool:
    """Whether neither or both of ``JOB...`` and ``--state`` were given; says so."""
    wrong = bool(arguments.jobs) == bool(arguments.state)
    if wrong:
        print(f"dicom-node: {arguments.command} takes JOB... or --state", file=sys.stderr)
    return wrong


def find(ledger: Ledger, names: Sequence[str]) -> tuple[list[Job], bool]:
    """The jobs of these names, and whether all of them are known; names that are not are told."""
    found = {name: ledger.jobs.find(name) for name in names}
    for name, job in found.items():
        if job is None:
            near = ledger.decisions.near(name)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            print(f"dicom-node: no job {name}{hint}", file=sys.stderr)
    return [job for job in found.values() if job is not None], None not in found.values()


def wanted(arguments: argparse.Namespace, ledger: Ledger) -> tuple[list[Job], bool]:
    """As `find`, for ``JOB...`` or ``--state``."""
    if arguments.state:
        return ledger.jobs.latest(JobState(arguments.state), limit=_MOST), True
    return find(ledger, arguments.jobs)


def decide(
    arguments: argparse.Namespace,
    ledger: Ledger,
    act: Callable[[Job], object],
    reached: JobState,
    done: str,
) -> int:
    """Act on each job; one that is in the state ``reached`` already is left as it is.

    Returns the exit code: 1 when a job is not known, or its state does not allow it.
    """
    from dicom_node.ledger.states import IllegalTransition

    jobs, all_good = wanted(arguments, ledger)
    changed: list[str] = []
    for job in jobs:
        if job.state is reached:
            print(f"{job.job_id} is {reached} already")
            continue
        try:
            act(job)
        except IllegalTransition:
            # Read again: it may have come to its end since it was looked at.
            now = ledger.jobs.find(job.job_id) or job
            print(f"dicom-node: job {job.job_id} is {now.state}{_hint(now)}", file=sys.stderr)
            all_good = False
        else:
            changed.append(job.job_id)
    print(f"{len(changed)} {done}")
    audited.note(arguments, f"{arguments.command} job", changed)
    return 0 if all_good else 1


def _hint(job: Job) -> str:
    if job.state is JobState.SUCCEEDED:
        return ("; what waits to be sent of it is stopped by `dicom-node cancel --deliveries "
                f"{job.job_id}`")
    if job.state in (JobState.DEAD, JobState.CANCELLED):
        return f"; `dicom-node retry {job.job_id}` runs it again"
    return ""
