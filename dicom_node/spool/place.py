"""Where the settings say that files are kept, in a form that is handed to other processes."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.spool.access import Spool

if TYPE_CHECKING:
    from dicom_node.config import Config


@dataclass(frozen=True)
class SpoolPlace:
    """Where files are kept; plain values only.

    ``root`` is a folder, shared with other hosts where there is a ``host``.
    """

    root: str
    refuse_below_free_bytes: int = 0
    host: str = ""

    @classmethod
    def of(cls, config: Config) -> SpoolPlace:
        """The place that ``storage.spool`` names; ``None``: ``spool`` in ``node.data_dir``."""
        storage = config.storage
        if storage.spool is None:
            return cls(str(config.node.data_dir / "spool"), storage.refuse_below_free_bytes)
        return cls(storage.spool, storage.refuse_below_free_bytes, host_of(config))

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> SpoolPlace:
        """The inverse of `dataclasses.asdict`."""
        return cls(**fields)

    def open(self) -> Spool:
        """The spool; raises `ConfigurationError` where it cannot be used."""
        return Spool(Path(self.root), self.refuse_below_free_bytes, host=self.host)


def open_spool(config: Config) -> Spool:
    """The spool of the settings.

    Raises
    ------
    ConfigurationError
        It belongs to another user.
    StorageFailed
    """
    return SpoolPlace.of(config).open()


def host_of(config: Config) -> str:
    """What this host is called beside others."""
    return str(getattr(config.node, "host_name", None) or socket.gethostname())
