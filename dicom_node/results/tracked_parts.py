"""Tracking UIDs of parts of a label that are findings of their own: by place, not by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ai_models.array.measurements import Measurement
from ai_models.types import Label
from dicom_node.results.identity import ResultIdentity, TrackedIdentity
from dicom_node.results.report_numbers import SegmentMeasurement
from dicom_node.results.segmentation_segments import finding_of

_CELL_MM = 5.0


def tracked_parts(
    identity: ResultIdentity, labels: Sequence[Label],
    measurements: Mapping[int, SegmentMeasurement], series_instance_uid: str,
) -> ResultIdentity:
    """``identity`` with a Tracking UID for each part that follows from its kind and its centroid.

    Parts are numbered by volume, and the number changes with what else is found: two findings of
    different places must not become one by it (PS3.16 TID 4108).
    """
    uids, seen = {}, Counter[str]()
    for label in labels:
        measured = measurements.get(label.value)
        if not isinstance(measured, Measurement):
            continue
        place = [round(mm / _CELL_MM) for mm in measured.centroid_lps_mm]
        key = f"part:{label.type.scheme}:{label.type.value}:{place}"
        seen[key] += 1
        uids[finding_of(label)] = identity.tracking_uid(series_instance_uid, f"{key}:{seen[key]}")
    return TrackedIdentity(
        identity.input_digests, identity.model_id, identity.model_version,
        identity.weights_sha256, identity.effective_configuration, uids,
    )
