"""Where the settings say that files are kept, in a form that is handed to other processes."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.spool.access import QUARANTINE_LIMIT_BYTES, Spool

if TYPE_CHECKING:
    from dicom_node.config import Config


@dataclass(frozen=True)
class SpoolPlace:
    """Where files are kept; plain values only, and no secret.

    ``root`` is a folder, shared with other hosts where there is a ``host``. With a ``bucket`` files
    are kept in an object store, and ``root`` is a folder of this host.
    """

    root: str
    refuse_below_free_bytes: int = 0
    host: str = ""
    bucket: str = ""
    prefix: str = ""
    s3: dict[str, Any] | None = None

    @classmethod
    def of(cls, config: Config) -> SpoolPlace:
        """The place that ``storage.spool`` names; ``None``: ``spool`` in ``node.data_dir``."""
        storage, data_dir = config.storage, config.node.data_dir
        watermark_bytes = storage.refuse_below_free_bytes
        if storage.spool is None:
            return cls(str(data_dir / "spool"), watermark_bytes)
        if storage.store is None:
            return cls(storage.spool, watermark_bytes, host_of(config))
        bucket, prefix = storage.store
        s3 = storage.s3.model_dump(mode="json")
        root = str(data_dir / "spool-of-store")
        return cls(root, watermark_bytes, "", bucket, prefix, s3)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> SpoolPlace:
        """The inverse of `dataclasses.asdict`."""
        return cls(**fields)

    @property
    def is_shared(self) -> bool:
        """Whether other hosts keep their files there too."""
        return bool(self.host or self.bucket)

    def open(self) -> Spool:
        """The spool; raises `ConfigurationError` where it cannot be used."""
        if not self.bucket:
            return Spool(Path(self.root), self.refuse_below_free_bytes, host=self.host)
        from dicom_node.config_storage import S3Settings
        from dicom_node.spool.cache import Cache
        from dicom_node.spool.objects import ObjectKept
        from dicom_node.spool.store import Store

        settings = S3Settings.model_validate(self.s3)
        store = Store(self.bucket, self.prefix, settings)
        root = Path(self.root)
        cache = Cache(root, settings.cache_bytes, self.refuse_below_free_bytes)
        kept = ObjectKept(store, cache, QUARANTINE_LIMIT_BYTES, settings.connections)
        return Spool(root, self.refuse_below_free_bytes, kept=kept)


def open_spool(config: Config) -> Spool:
    """The spool of the settings; an object store is not asked anything yet.

    Raises
    ------
    ConfigurationError
        It belongs to another user.
    StorageFailed
    """
    return SpoolPlace.of(config).open()


def host_of(config: Config) -> str:
    """What this host is called beside others."""
    return config.node.host_name or socket.gethostname()
