"""One series or job with everything that is known of it, for `show`, the API and the web page."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from dicom_node.input_roles import is_told
from dicom_node.node_outlook import Outlook
from dicom_node.pipeline.retry import cause_of
from dicom_node.records import Delivery, DeliveryState, Job, Result, Series

if TYPE_CHECKING:
    from dicom_node.ledger.ledger import Ledger

_WAITING = (DeliveryState.PENDING, DeliveryState.FAILED)


def describe_series(
    ledger: Ledger, series: Series, jobs: list[Job], outlook: Outlook
) -> dict[str, Any]:
    """A series with its history and every job of it."""
    return {
        **vars(series),
        "history": ledger.history("series", series.series_instance_uid),
        "jobs": [
            describe_job(ledger, job, outlook, series.calling_ae_title) for job in jobs
        ],
    }


def taken_by(ledger: Ledger, series_instance_uid: str) -> list[dict[str, str]]:
    """Jobs of other series that take this one beside theirs, and as what; rules may decline it."""
    return [
        {
            "job_id": job.job_id, "series_instance_uid": job.series_instance_uid, "role": one.role,
            "model_id": job.model_id, "state": str(job.state),
        }
        for job in ledger.inputs.taking(series_instance_uid) if not job.shadow
        for one in ledger.inputs.of(job.job_id)
        if one.series_instance_uid == series_instance_uid
    ]


def describe_job(
    ledger: Ledger, job: Job, outlook: Outlook, sender_ae_title: str
) -> dict[str, Any]:
    """A job with its inputs, what it waits for, its draft, its history, results and deliveries."""
    deliveries = ledger.deliveries.of_job(job.job_id)
    results = {one.sop_instance_uid: one for one in ledger.jobs.results(job.job_id)}
    return {
        **vars(job),
        "host": ledger.claims.host_of(job.job_id, job.attempt),
        "age_s": round(outlook.age_s(job), 1),
        "waits_for": outlook.of_job(job, deliveries),
        "inputs": [
            vars(one) for one in ledger.inputs.of(job.job_id)
            if is_told(one.role, one.series_instance_uid)
        ],
        "failures": Counter(cause_of(one) for one in ledger.jobs.failures(job.job_id)),
        "seconds_by_stage": ledger.jobs.seconds_by_stage(job.job_id),
        "impression": (ledger.predictions.of(job.job_id) or {}).get("impression"),
        "history": ledger.history("job", job.job_id),
        "results": [vars(result) for result in results.values()],
        "deliveries": [
            {
                **_describe_delivery(ledger, one, results.get(one.sop_instance_uid)),
                "next_try": outlook.next_try(one, sender_ae_title)
                if one.state in _WAITING else None,
            }
            for one in deliveries
        ],
    }


def _describe_delivery(
    ledger: Ledger, delivery: Delivery, result: Result | None
) -> dict[str, Any]:
    """A delivery with what its object is, in which form, and why it was chosen."""
    history = ledger.history("delivery", delivery.delivery_id)
    # The same object may be of an earlier job.
    result = result or ledger.jobs.find_result(delivery.sop_instance_uid)
    return {
        **vars(delivery),
        "kind": result.kind if result is not None else "object",
        "form": result.form if result is not None else "",
        "chosen_because": history[0].reason if history else "",
        "history": history,
    }
