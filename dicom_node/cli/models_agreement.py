"""``dicom-node models agreement ID``: how a shadow or canary does beside the live version."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import print_json, print_table, when
from dicom_node.records import CANDIDATE, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicom_node.ledger.ledger import Ledger
    from dicom_node.records import Agreement, CanaryFailure, Job


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser(
        "agreement", help="how far a shadow version agrees with the live one; failed canaries"
    )
    parser.add_argument("model", metavar="ID")
    parser.add_argument("--version", metavar="V",
                        help="a version that is or was the shadow (default: the one that is)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print count, agreement by label, score and value, and failures of the shadow."""
    ledger = open_ledger(open_config(arguments), read_only=True)
    shadow = next(
        (one.version for one in ledger.stages.of(arguments.model) if one.stage is Stage.SHADOW),
        None,
    )
    version = arguments.version or shadow
    agreements = ledger.agreements.of(arguments.model, version)
    if version is None and agreements:
        # No shadow now: the one that was compared last is what is asked for.
        version = agreements[-1].shadow_version
        agreements = [one for one in agreements if one.shadow_version == version]
    failed = ledger.agreements.failed(arguments.model, version)
    canaries = _canaries(ledger, arguments.model, arguments.version)
    if version is None and not canaries:
        print(f"dicom-node: {arguments.model} has and had neither shadow nor failing canary",
              file=sys.stderr)
        return 1
    document = _document(arguments.model, version or "", agreements, failed)
    document["canaries"] = canaries
    if arguments.json:
        print_json(document)
        return 0
    if version is not None:
        _print(document)
    for one in canaries:
        reasons = ", ".join(f"{number} {code}" for code, number in one["by_reason"].items())
        print(f"{arguments.model} {one['version']} as canary (now {one['stage']}): failed on "
              f"{one['count']} series ({reasons}), which the live version did, last "
              f"{when(one['last'])}")
    return 0


def _canaries(ledger: Ledger, model_id: str, version: str | None) -> list[dict[str, Any]]:
    """What each version failed of as a canary; nothing of those that failed of nothing."""
    stages = {one.version: str(one.stage) for one in ledger.stages.of(model_id)}
    by_version: dict[str, list[CanaryFailure]] = {}
    for one in ledger.canaries.failures(model_id, version):
        by_version.setdefault(one.version, []).append(one)
    return [
        {
            "version": name, "stage": stages.get(name, CANDIDATE), "count": len(ones),
            "by_reason": dict(Counter(one.reason.partition(":")[0] for one in ones)),
            "jobs": [one.job_id for one in ones], "last": ones[-1].at,
        }
        for name, ones in by_version.items()
    ]


def _document(
    model_id: str, version: str, agreements: Sequence[Agreement], failed: Sequence[Job]
) -> dict[str, Any]:
    from dicom_node.pipeline.agreement import summarise

    documents = [one.document for one in agreements]
    seconds = [one["seconds"] for one in documents if "seconds" in one]
    means = {
        which: round(sum(one[which] for one in seconds) / len(seconds), 3)
        for which in ("live", "shadow") if seconds
    }
    return {
        "id": model_id,
        "shadow_version": version,
        "live_versions": sorted({one.live_version for one in agreements}),
        **summarise(documents),
        "mean_seconds": means,
        "failures": {
            "count": len(failed),
            "by_reason": dict(Counter(job.reason.partition(":")[0] for job in failed)),
            "jobs": [job.job_id for job in failed],
        },
    }


def _print(document: dict[str, Any]) -> None:
    against = ", ".join(document["live_versions"]) or "none yet"
    print(f"{document['id']} {document['shadow_version']} beside live version(s) {against}: "
          f"{document['count']} series compared")
    if "labels" in document:
        _table(("label", "series", "mean Dice", "lowest Dice"), document["labels"],
               ("count", "mean_dice", "lowest_dice"))
    if "scores" in document:
        _table(("score", "series", "mean difference", "largest", "same side of 0.5"),
               document["scores"], ("count", "mean_difference", "largest_difference", "same_side"))
    if "values" in document:
        _table(("value", "series", "mean difference", "largest"), document["values"],
               ("count", "mean_difference", "largest_difference"))
    if "detections" in document:
        boxes = document["detections"]
        print(f"\ndetections: {boxes['live']} by the live version, {boxes['shadow']} by the "
              f"shadow, {boxes['both']} by both")
    if "text" in document:
        words = document["text"]
        print(f"\nthe same words: {words['mean_same_words']:.0%} in the mean, "
              f"{words['lowest_same_words']:.0%} at least")
    for reason, number in document.get("not_compared", {}).items():
        print(f"\nnot compared, {number} series: {reason}")
    if document["mean_seconds"]:
        print("\nseconds in the mean: " + ", ".join(
            f"{which} {seconds:.2f}" for which, seconds in document["mean_seconds"].items()))
    failures = document["failures"]
    reasons = ", ".join(f"{number} {reason}" for reason, number in failures["by_reason"].items())
    print(f"\nfailures of the shadow: {failures['count']}" + (f" ({reasons})" if reasons else ""))


def _table(
    header: tuple[str, ...], entries: dict[str, dict[str, Any]], keys: tuple[str, ...]
) -> None:
    print()
    print_table(header, [
        (name, *(f"{one[key]:.4f}" if isinstance(one[key], float) else one[key] for key in keys))
        for name, one in entries.items()
    ])
