"""``dicom-node models agreement ID``: how far a shadow version agrees with the live one."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import print_json, print_table
from dicom_node.records import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicom_node.records import Agreement, Job


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser(
        "agreement", help="how far a shadow version agrees with the live one"
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
    if version is None:
        print(f"dicom-node: {arguments.model} has and had no shadow", file=sys.stderr)
        return 1
    document = _document(arguments.model, version, agreements, failed)
    if arguments.json:
        print_json(document)
    else:
        _print(document)
    return 0


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
