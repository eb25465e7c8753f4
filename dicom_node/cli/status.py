"""``dicom-node status``: what arrived, what runs, what waits, and what needs somebody."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config, open_ledger, running_roles
from dicom_node.cli.output import print_json, print_table, when
from dicom_node.cli.takes import is_choice
from dicom_node.node_documents import taken_by
from dicom_node.node_outlook import Outlook
from dicom_node.operations.refused_callers import refused_lately
from dicom_node.records import CircuitState, DeliveryState, DutyKind, JobState, SeriesState

if TYPE_CHECKING:
    from dicom_node.ledger.hosts import HostState
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.records import Delivery, Duty, Job, ModelProblem, RuleWithoutModel, Series

_OWED = {
    DutyKind.ANSWER: "answer(s) for jobs without results",
    DutyKind.FORMS: "choice(s) of what a destination gets",
}


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("status", help="what arrived, what runs, what needs somebody")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--limit", type=int, default=20, help="how many series (default 20)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print counts by state, who is away, and the latest series with their reasons."""
    config = open_config(arguments)
    ledger = open_ledger(config, read_only=True)
    outlook = Outlook(ledger, config)
    series = ledger.receipts.recent_series(arguments.limit)
    counts = {
        "series": ledger.receipts.count_by_state(),
        "jobs": ledger.jobs.count_by_state(),
        "deliveries": ledger.deliveries.count_by_state(),
        "commitments": ledger.deliveries.count_by_commitment(),
        "waiting_jobs": ledger.jobs.count_waiting_by_priority(),
    }
    notes = ledger.notes.latest(5)
    hosts = ledger.hosts.all()
    problems = ledger.stages.problems()
    without = ledger.stages.rules_without_model()
    away = [one for one in outlook.circuits.values() if one.state is CircuitState.OPEN]
    running = running_roles(config)
    removals = ledger.removals.latest(5)
    removed_studies, removed_bytes = ledger.removals.totals()
    refused = refused_lately(config.node.data_dir / "audit")
    latest = [(one, _outcome(ledger, one, outlook)) for one in series]
    if arguments.json:
        print_json({
            **counts, "running": running, "hosts": [vars(one) for one in hosts],
            "away": [vars(one) for one in away],
            "duties": [vars(duty) for duty in outlook.duties],
            "node": [vars(note) for note in notes],
            "model_problems": [vars(one) for one in problems],
            "rules_without_model": [vars(one) for one in without],
            "removed": {
                "studies": removed_studies, "bytes": removed_bytes,
                "latest": [vars(one) for one in removals],
            },
            "refused_in_a_day": vars(refused) if refused is not None else None,
            "latest": [{**vars(one), "outcome": outcome} for one, outcome in latest],
        })
        return 0
    _print_node(running, hosts, counts)
    if outlook.duties:
        print(f"{'owed':13} {_owed_text(outlook.duties)}")
    for one in away:
        print(f"away          {one.destination} since {when(one.opened_at or one.changed_at)} "
              f"({one.reason}, {one.failures} failures), asked again {when(one.not_before)}")
    if refused is not None:
        print(f"{'refused':13} in the last day: {refused.in_words()}, {when(refused.last_at)}")
    _print_models(problems, without)
    if removals:
        days = config.storage.keep_records_for_d
        print(f"{'removed':13} {removed_studies} studies in {days:g} days, "
              f"{removed_bytes / 1e9:.2f} GB; the last {when(removals[0].at)}: "
              f"{removals[0].reason}")
    for note in notes:
        print(f"{note.key:13} {note.to_state} {when(note.at)}: {note.reason}")
    print()
    _print_latest(latest)
    return 0


def _print_node(
    running: dict[str, int], hosts: Sequence[HostState], counts: dict[str, dict[str, int]]
) -> None:
    # What these import is heavy, and others only ask for help.
    from dicom_node.ledger.hosts import without_former
    from dicom_node.node_host_facts import in_words, roles_of_nobody

    lives = any(host.lives for host in hosts)
    print(f"node          {_running_text(running, elsewhere=lives)}")
    for host in without_former(hosts):
        print(f"host          {host.host_name}: {in_words(host)}")
    idle = roles_of_nobody(hosts)
    if idle:
        print(f"host          {idle}")
    for kind, by_state in counts.items():
        text = ", ".join(f"{number} {state}" for state, number in sorted(by_state.items()))
        print(f"{kind.replace('_', ' '):13} {text or 'none'}")


def _print_models(
    problems: Sequence[ModelProblem], without: Sequence[RuleWithoutModel]
) -> None:
    for problem in problems:
        print(f"model folder  {problem.folder} is not used as it is, since "
              f"{when(problem.since)}: {problem.message}")
    for rule in without:
        print(f"rule          {rule.rule} is without its model {rule.model_id}, since "
              f"{when(rule.since)}: {rule.reason}: {rule.message}")


def _running_text(running: dict[str, int], *, elsewhere: bool) -> str:
    if not running and elsewhere:
        return "does not run here, and runs on other hosts"
    if not running:
        return "does not run here: nothing is received, computed or sent until `serve`"
    missing = [role for role in ("intake", "work", "deliver") if role not in running]
    pids = ", ".join(str(pid) for pid in sorted(set(running.values())))
    text = f"runs ({', '.join(running)}; pid {pids})"
    return text + (f", not here: {', '.join(missing)}" if missing else "")


def _owed_text(duties: Sequence[Duty]) -> str:
    """How much is owed, by kind; and of what was tried most often in vain, why."""
    numbers = Counter(DutyKind(duty.kind) for duty in duties)
    text = ", ".join(f"{number} {_OWED[kind]}" for kind, number in sorted(numbers.items()))
    worst = max(duties, key=lambda duty: duty.attempt)
    return text + (f"; tried {worst.attempt} times: {worst.reason}" if worst.attempt else "")


def _print_latest(latest: Sequence[tuple[Series, str]]) -> None:
    print_table(
        ("series", "modality", "from", "images", "state", "since", "outcome"),
        [
            (s.series_instance_uid, s.modality, s.calling_ae_title, s.instance_count, s.state,
             when(s.changed_at), outcome)
            for s, outcome in latest
        ],
    )
    if latest:
        print("\ndicom-node show UID: every change of one; dicom-node explain UID: why a rule does "
              "not match")


def _outcome(ledger: Ledger, series: Series, outlook: Outlook) -> str:
    """What became of a series: why it is in its state, or how its jobs and deliveries stand."""
    jobs = ledger.jobs.of_series(series.series_instance_uid)
    taken = "".join(
        f"; {one['role']} of job {one['job_id']}, {one['model_id']} {one['state']}"
        for one in taken_by(ledger, series.series_instance_uid)
    )
    if series.state == SeriesState.DECLINED:
        dead = [job for job in jobs if job.state is JobState.DEAD]
        answers = [one for job in dead for one in ledger.deliveries.of_job(job.job_id)]
        return series.reason + taken + _sent_text(answers, outlook, ", answer to ")
    if series.state != SeriesState.ROUTED or not jobs:
        return series.reason + taken
    return "; ".join(
        _job_outcome(job, ledger.deliveries.of_job(job.job_id), outlook)
        for job in jobs if not job.shadow
    ) + taken


def _job_outcome(job: Job, deliveries: list[Delivery], outlook: Outlook) -> str:
    text = f"{job.model_id} {job.state}"
    if job.state in (JobState.DEAD, JobState.FAILED, JobState.CANCELLED, JobState.HELD):
        text += f": {job.reason}"
    if job.state is JobState.QUEUED:
        text += f" ({job.priority}), waits for {outlook.of_job(job)}"
    is_answer = job.state in (JobState.DEAD, JobState.CANCELLED)
    return text + _sent_text(deliveries, outlook, ", answer to " if is_answer else ", ")


def _sent_text(deliveries: Sequence[Delivery], outlook: Outlook, introduction: str) -> str:
    """How many objects are where, by destination; empty where there are none."""
    destinations = sorted({one.destination for one in deliveries})
    texts = []
    for destination in destinations:
        numbers = Counter(
            _state_text(one, outlook) for one in deliveries if one.destination == destination
        )
        parts = ", ".join(f"{number} {state}" for state, number in sorted(numbers.items()))
        texts.append(f"{destination}: {parts}")
    return introduction + ", ".join(texts) if texts else ""


def _state_text(delivery: Delivery, outlook: Outlook) -> str:
    if delivery.state is DeliveryState.SENT and outlook.requires_commitment(delivery.destination):
        return f"{delivery.state}, not committed yet"
    tells_why = delivery.state in (DeliveryState.PENDING, DeliveryState.DEAD)
    if tells_why and delivery.reason and not is_choice(delivery.reason):
        return f"{delivery.state} ({delivery.reason})"
    return str(delivery.state)
