"""UIDs of results: derived, so that the same input always gives the same objects.

A UID is ``2.25.`` and the integer of a version 5 UUID (PS3.5 B.2) over a canonical JSON text of
what made the object. Nothing random and no clock is in it: a retry, a restart or an identical
re-send makes the same UIDs, and a changed slice, model or setting makes others.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

_NAMESPACE = uuid.UUID("b0c0d1a6-6a4f-5e0b-9d4c-3a5e7b1f2c60")


def derived_uid(*parts: Any) -> str:
    """UID over ``parts``, which must be JSON values.

    Returns
    -------
    str
        ``2.25.<integer>``, at most 44 characters (PS3.5 9.1 allows 64).

    Raises
    ------
    TypeError
        A part has no canonical JSON form.
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, _canonical(parts)).int}"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True)
class ResultIdentity:
    """What a result depends on.

    Attributes
    ----------
    input_digests
        SOP Instance UID to a digest of the decoded content, for every input instance.
    model_id, model_version, weights_sha256
        The model.
    effective_configuration
        The settings of that job that can change its result; JSON values only.
    """

    input_digests: Mapping[str, str]
    model_id: str
    model_version: str
    weights_sha256: str
    effective_configuration: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _basis(self) -> dict[str, Any]:
        return {
            "inputs": sorted(self.input_digests.items()),
            "model": [self.model_id, self.model_version, self.weights_sha256],
            "configuration": _plain(self.effective_configuration),
        }

    @property
    def configuration_sha256(self) -> str:
        """Digest of the effective configuration, 64 hexadecimal digits."""
        text = _canonical(self._basis["configuration"])
        return hashlib.sha256(text.encode()).hexdigest()

    def uid(self, purpose: str) -> str:
        """UID of one thing in this result, such as ``segmentation.instance``.

        Raises
        ------
        TypeError
            The effective configuration holds something that is not a JSON value.
        """
        return derived_uid(purpose, self._basis)

    def tracking_uid(self, series_instance_uid: str, finding: str) -> str:
        """Tracking UID of a finding that keeps its value when the series is analysed again.

        It leaves out versions, weights and contents on purpose: the same lung of the same series
        is tracked as one finding through a late slice and a new release of the model
        (PS3.16 TID 4108).
        """
        return derived_uid("tracking", series_instance_uid, self.model_id, finding)


@dataclass(frozen=True)
class TrackedIdentity(ResultIdentity):
    """The identity of a result some of whose findings have their Tracking UIDs from elsewhere.

    ``tracking_uids`` maps a finding to the one it has: in a kept object, or by its place.
    """

    tracking_uids: Mapping[str, str] = field(default_factory=dict)

    def tracking_uid(self, series_instance_uid: str, finding: str) -> str:
        """As it is known, or as it would be derived."""
        known = self.tracking_uids.get(finding)
        return known or super().tracking_uid(series_instance_uid, finding)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
