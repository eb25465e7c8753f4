"""A prediction as plain JSON values: for ``predictions.json``, the ledger, and people's eyes.

Free of patient data: numbers, names of the card, and nothing of the headers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ai_models.types import (
    ClassificationPrediction,
    DetectionPrediction,
    ModelInput,
    RegressionPrediction,
    SegmentationPrediction,
    TextPrediction,
    Volume,
)
from dicom_node.results.report_numbers import ml_text
from dicom_node.results.segmentation_segments import finding_of, kind_of

if TYPE_CHECKING:
    from dicom_node.pipeline.analysis import Analysis
    from dicom_node.results.report_numbers import SegmentMeasurement


def summary(analysis: Analysis) -> dict[str, Any]:
    """What was found, under the keys that the task has; and beside an earlier examination."""
    followed = analysis.request.follow_up
    beside = {} if followed is None else {"follow_up": followed.document()}
    return {**_found(analysis), **beside}


def _found(analysis: Analysis) -> dict[str, Any]:
    prediction = analysis.prediction
    if isinstance(prediction, SegmentationPrediction):
        return {"labels": _labels(analysis)}
    if isinstance(prediction, DetectionPrediction):
        return {"labels": _labels(analysis), "detections": _detections(prediction)}
    if isinstance(prediction, ClassificationPrediction):
        by_slice = {
            name: [round(float(score), 4) for score in scores]
            for name, scores in prediction.by_slice.items()
        }
        scores = {name: round(score, 6) for name, score in prediction.scores.items()}
        undetermined = {
            name: f"not told without {', '.join(roles)}"
            for name, roles in prediction.undetermined.items()
        }
        return {
            "scores": scores, **({"scores_by_slice": by_slice} if by_slice else {}),
            **({"undetermined": undetermined} if undetermined else {}),
        }
    if isinstance(prediction, RegressionPrediction):
        return {"values": {name: round(value, 6) for name, value in prediction.values.items()}}
    return {"text": prediction.text, "language": prediction.language}


def without_text(document: dict[str, Any]) -> dict[str, Any]:
    """The same for the ledger: what a language model wrote about a patient stays out of it."""
    if "text" not in document:
        return document
    return {**document, "text": f"{len(document['text'])} characters"}


def lines(analysis: Analysis) -> list[str]:
    """The same for a person."""
    document = summary(analysis)
    if isinstance(analysis.prediction, TextPrediction):
        return [f"  {line}" for line in document["text"].splitlines()]
    told = [
        f"  {name:32} {value:10.4f}"
        for name, value in {**document.get("scores", {}), **document.get("values", {})}.items()
    ]
    told += [
        f"  {name:32} undetermined: {why}"
        for name, why in document.get("undetermined", {}).items()
    ]
    for label in document.get("labels", ()):
        if not label["found"]:
            told.append(f"  {label['name']:24} not found")
            continue
        line = f"  {label['name']:24}"
        has_volume = label["volume_ml"] is not None
        line += f" {ml_text(label['volume_ml']):>9} ml" if has_volume else " found"
        if label["mean_hu"] is not None:
            line += (
                f"   mean {label['mean_hu']:7.1f} HU   standard deviation "
                f"{label['standard_deviation_hu']:6.1f} HU"
            )
        if "probability" in label:
            line += f"   probability {label['probability']:.3f}"
        told.append(line)
    if not told:
        told.append("  nothing found")
    return told + _compared(document.get("follow_up"))


def _compared(document: dict[str, Any] | None) -> list[str]:
    """What `FollowUp.document` says, for a person."""
    if document is None:
        return []
    if "problem" in document:
        return [f"  not compared with an earlier examination: {document['problem']}"]
    told = [f"  compared with an examination {document['days']} days before"]
    for one in document["followed"]:
        doubling_d = one["volume_doubling_time_d"]
        line = f"    {one['value']}: {one['change']}, from "
        line += f"{ml_text(one['earlier_volume_ml'])} ml to "
        line += f"{ml_text(one['volume_ml'])} ml"
        told.append(line + (f", doubling time {doubling_d:.0f} days" if doubling_d else ""))
    told += [f"    {value}: new" for value in document["new"]]
    told += [f"    {one['name']} before: not found any more" for one in document["gone"]]
    return told


def _labels(analysis: Analysis) -> list[dict[str, Any]]:
    source = analysis.loaded.reference
    is_ct = isinstance(source, Volume) and source.unit == "HU"
    series_uid = str(analysis.request.source_images[0].SeriesInstanceUID)
    entries = []
    for label in analysis.request.labels:
        found = analysis.findings.measurements.get(label.value)
        spread = getattr(found, "standard_deviation_hu", None)
        centre = getattr(found, "centroid_lps_mm", None) if isinstance(source, Volume) else None
        entry: dict[str, Any] = {
            "value": label.value,
            "name": label.name,
            "found": found is not None,
            "volume_ml": _volume_ml(source, found),
            "mean_hu": round(found.mean_hu, 3) if found and is_ct else None,
            "standard_deviation_hu": round(spread, 3) if spread is not None and is_ct else None,
            "centroid_lps_mm": None if centre is None else [round(float(c), 3) for c in centre],
        }
        if found is not None:
            # What a later examination of the patient is compared with.
            identity = analysis.request.identity
            entry["kind"] = kind_of(label)
            entry["tracking_uid"] = identity.tracking_uid(series_uid, finding_of(label))
        probability = getattr(found, "probability", None)
        if probability is not None:
            entry["probability"] = round(float(probability), 6)
        entries.append(entry)
    return entries


def _volume_ml(source: ModelInput, found: SegmentMeasurement | None) -> float | None:
    """A projection has no volumes."""
    if not isinstance(source, Volume):
        return None
    return round(found.volume_ml, 6) if found else 0.0


def _detections(prediction: DetectionPrediction) -> list[dict[str, Any]]:
    names = {label.value: label.name for label in prediction.labels}
    return [
        {
            "name": names.get(one.label_value, ""),
            "score": round(one.score, 6),
            "center_lps_mm": [round(c, 3) for c in one.center_lps_mm],
            "size_mm": [round(edge, 3) for edge in np.asarray(one.size_mm).tolist()],
        }
        for one in prediction.detections
    ]
