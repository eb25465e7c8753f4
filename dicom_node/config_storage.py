"""Where images and results are kept, how full that may become, and how long what is done stays.

Part of `dicom_node.config`, which reads it from the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, Strict
from pydantic_core import PydanticCustomError

from dicom_node.config_peers import Seconds, Settings, Text, Whole
from dicom_node.config_security import files_below

GIBIBYTE = 1024**3
Hours = Annotated[float, Strict(), Field(ge=0, le=876_000)]
Days = Annotated[float, Strict(), Field(ge=0, le=36_500)]


_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/[A-Za-z0-9!_.*'()/-]+)?")


def _spool(value: str) -> str:
    is_store = value.startswith("s3://")
    parts = value.partition("://")[2].split("/")[1:]
    wrong = is_store and (not _BUCKET.fullmatch(value) or {"", ".", ".."} & set(parts))
    if not value.strip() or wrong or ("://" in value and not is_store):
        raise PydanticCustomError(
            "spool", "null, the path of a folder that all hosts mount, or s3://bucket/prefix"
        )
    return value


def _endpoint(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None \
            or parts.query or parts.fragment or parts.path.strip("/"):
        raise PydanticCustomError("endpoint", "https://host[:port] or http://..., nothing behind")
    return value.rstrip("/")


class S3Settings(Settings):
    """The object store of ``storage.spool``.

    ``endpoint_url`` ``None``: Amazon S3 in ``region``. ``credentials_file`` is one as the AWS
    command line has it, ``None``: the variables of the environment that it uses. ``addressing``
    ``auto``: the bucket in the path where there is an ``endpoint_url``, else in the host name.
    ``cache_bytes`` is about what may be kept on this host of what was read. One try of one request
    may take ``timeout_s``; ``connections`` are made at a time by one process.
    """

    endpoint_url: Annotated[Text, AfterValidator(_endpoint)] | None = None
    region: Text = "us-east-1"
    credentials_file: Path | None = None
    ca_file: Path | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    server_side_encryption: Literal["AES256", "aws:kms"] | None = None
    kms_key_id: Text | None = None
    cache_bytes: Annotated[Whole, Field(ge=1 << 20)] = 50 * GIBIBYTE
    timeout_s: Annotated[Seconds, Field(gt=0, le=300)] = 10
    connections: Annotated[Whole, Field(ge=1, le=256)] = 16


class StorageSettings(Settings):
    """Where files are kept, how full the disk may become and how long what is done with stays.

    ``spool`` ``None``: ``spool`` in ``node.data_dir``; else a folder that all hosts mount, or an
    object store. Below ``make_room_below_free_bytes`` what was delivered goes before
    ``keep_delivered_for_h``.
    """

    spool: Annotated[Text, AfterValidator(_spool)] | None = None
    s3: S3Settings = S3Settings()
    refuse_below_free_bytes: Annotated[Whole, Field(ge=0)] = 5 * GIBIBYTE
    make_room_below_free_bytes: Annotated[Whole, Field(ge=0)] = 20 * GIBIBYTE
    keep_delivered_for_h: Hours = 24
    keep_declined_for_h: Hours = 24
    keep_committed_for_d: Days = 30
    keep_quarantined_for_d: Days = 30
    keep_records_for_d: Days = 30

    def anchored(self, base: Path) -> Self:
        """With relative paths that begin at ``base``."""
        found: dict[str, object] = {"s3": files_below(base, self.s3)}
        if self.spool is not None and self.store is None:
            found["spool"] = str(base / self.spool)
        return self.model_copy(update=found)

    @property
    def store(self) -> tuple[str, str] | None:
        """Bucket and prefix, where the spool is an object store."""
        if self.spool is None or not self.spool.startswith("s3://"):
            return None
        bucket, _, prefix = self.spool.removeprefix("s3://").partition("/")
        return bucket, prefix
