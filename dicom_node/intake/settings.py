"""What one listener process must know, taken from the configuration and passed on as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicom_node.config import Config

SPOOL_DIRECTORY = "spool"


@dataclass(frozen=True)
class ListenerSettings:
    """The part of the configuration that receiving needs; plain values only.

    ``calling_ae_titles`` is None when anyone may call. Times are seconds.
    """

    ae_title: str
    host: str
    port: int
    spool_root: str
    refuse_below_free_bytes: int
    calling_ae_titles: tuple[str, ...] | None
    check_called_ae_title: bool
    max_associations: int
    receive_path: str
    max_pdu_bytes: int
    network_timeout_s: float
    dimse_timeout_s: float
    acse_timeout_s: float
    private_sop_classes: tuple[str, ...]
    commitment_report_after_s: float = 1.0

    @classmethod
    def of(cls, config: Config) -> ListenerSettings:
        """The listener's part of `config`; the spool is ``spool`` in ``node.data_dir``."""
        access, intake = config.access, config.intake
        # A DICOMweb server may have no AE title, and so let nobody in.
        callers = tuple(sorted({p.ae_title for p in config.peers.values() if p.ae_title}))
        return cls(
            ae_title=config.node.ae_title,
            host=config.node.host,
            port=config.node.port,
            spool_root=str(config.node.data_dir / SPOOL_DIRECTORY),
            refuse_below_free_bytes=config.storage.refuse_below_free_bytes,
            calling_ae_titles=None if access.accept_unknown_callers else callers,
            check_called_ae_title=access.check_called_ae_title,
            max_associations=access.max_associations,
            receive_path=intake.receive_path,
            max_pdu_bytes=intake.max_pdu_bytes,
            network_timeout_s=intake.network_timeout_s,
            dimse_timeout_s=intake.dimse_timeout_s,
            acse_timeout_s=intake.acse_timeout_s,
            private_sop_classes=tuple(intake.private_sop_classes),
            commitment_report_after_s=intake.commitment_report_after_s,
        )

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ListenerSettings:
        """The inverse of `to_json`."""
        fields = json.loads(text)
        for name in ("calling_ae_titles", "private_sop_classes"):
            if fields[name] is not None:
                fields[name] = tuple(fields[name])
        return cls(**fields)


def listener_count(configured: int | None) -> int:
    """How many listener processes: as configured, else one per two cores, at most four."""
    if configured is not None:
        return configured
    return max(1, min(4, len(os.sched_getaffinity(0)) // 2))
