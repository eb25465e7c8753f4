"""When what waits to be sent is tried next: not before its own time, nor while its peer is away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from dicom_node.config import SENDER, Config
from dicom_node.ledger.overview import StudyRow
from dicom_node.records import Circuit, CircuitState


class NextTries:
    """What the circuits say at one moment."""

    def __init__(self, config: Config, circuits: Mapping[str, Circuit]) -> None:
        self._peer_of = {peer.ae_title: name for name, peer in reversed(config.peers.items())}
        self._away_until = {
            name: one.not_before for name, one in circuits.items()
            if one.state is CircuitState.OPEN
        }

    def of(self, destination: str, sender_ae_title: str, not_before: datetime) -> datetime:
        """The later of a delivery's own time and of when its peer is asked again."""
        name = destination
        if destination == SENDER:
            name = self._peer_of.get(sender_ae_title, destination)
        return max(not_before, self._away_until.get(name, not_before))

    def in_study(self, study: StudyRow) -> StudyRow:
        """The same study, with the times at which its objects are really tried."""
        sender_of = {one.series_instance_uid: one.calling_ae_title for one in study.series}
        by_job = {one.job_id: sender_of.get(one.series_instance_uid, "") for one in study.jobs}
        return replace(study, sendings=tuple(
            replace(one, not_before=self.of(
                one.destination, by_job.get(one.job_id, ""), one.not_before
            ))
            for one in study.sendings
        ))
