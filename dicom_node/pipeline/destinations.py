"""Where the results of a job go, what is wanted there, and what is known of what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import DestinationProfile, Job
from dicom_node.results.profile import Wanted

SENDER = "sender"


@dataclass(frozen=True)
class Destination:
    """One destination of a job; ``profile`` is ``None`` while nothing is known of it."""

    wanted: Wanted
    profile: DestinationProfile | None


class Destinations:
    """The configured peers as destinations.

    Parameters
    ----------
    ledger
        Knows what each of them takes, and who sent the images.
    wanted
        Peer name to what it is to get.
    names_by_ae_title
        Which peer is meant by ``sender``.
    """

    def __init__(
        self,
        ledger: Ledger,
        wanted: Mapping[str, Wanted],
        names_by_ae_title: Mapping[str, str],
    ) -> None:
        self._ledger = ledger
        self._wanted = dict(wanted)
        self._names = dict(names_by_ae_title)

    def of(self, job: Job, name: str) -> Destination:
        """The destination that a job calls ``name``; one that is not configured gets defaults."""
        if name == SENDER:
            series = self._ledger.receipts.find_series(job.series_instance_uid)
            name = self._names.get(series.calling_ae_title if series else "", name)
        return Destination(self._wanted.get(name, Wanted()), self._ledger.profiles.find(name))
