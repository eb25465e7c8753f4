"""An S3-compatible object store: the few requests that the spool makes, and what failures mean.

Every object is written by one PUT that carries its MD5, so that the store refuses what was damaged
on its way, and with a condition: only where there is nothing yet (``If-None-Match: *``), or only in
the place of the very object that was seen (``If-Match``). A store that does not know these
conditions cannot be used: `Store.check_conditions` finds out.

Everything about the connection itself is in `dicom_node.spool.store_client`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

from dicom_node.durable import read_chunks
from dicom_node.errors import (
    ConfigurationError,
    PermanentError,
    StorageFailed,
    StoreUnavailable,
)
from dicom_node.spool.store_client import TRIES, client_of, credentials_of, store_error, translated

if TYPE_CHECKING:
    from dicom_node.config_storage import S3Settings

# One PUT takes no more (5 GiB, Amazon S3 user guide, "Uploading objects").
MOST_BYTES = 5 << 30
_CHUNK = 1 << 18


class Taken(Exception):
    """The condition of a PUT did not hold: another object is there, or none any more."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object of the store; ``key`` is relative to the prefix, times are the store's."""

    key: str
    size_bytes: int
    etag: str
    modified_at: float
    metadata: Mapping[str, str] = field(default_factory=dict)
    asked_at: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Another one when the object is replaced by another."""
        return f"{self.size_bytes}-{self.etag}"


@dataclass(frozen=True, slots=True)
class Body:
    """What is stored: a file or bytes, and their MD5, which every store checks."""

    source: str | bytes
    md5: str

    @classmethod
    def of(cls, source: str | bytes) -> Body:
        """Read once to know the digest."""
        md5 = hashlib.md5(usedforsecurity=False)
        for chunk in [source] if isinstance(source, bytes) else read_chunks(source):
            md5.update(chunk)
        return cls(source, b64encode(md5.digest()).decode("ascii"))

    @contextmanager
    def open(self) -> Iterator[bytes | BinaryIO]:
        """As botocore takes it: it goes back to the beginning by itself to try again."""
        if isinstance(self.source, bytes):
            yield self.source
            return
        with Path(self.source).open("rb") as file:
            yield file


class Store:
    """One bucket, below one prefix; safe for many threads. Nothing else is ever connected to.

    Every method raises `StoreUnavailable` where the store does not answer as it should, and
    `OutOfSpace` where it is full.
    """

    def __init__(self, bucket: str, prefix: str, settings: S3Settings) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._settings = settings
        self._lock = threading.Lock()
        self._client: Any = None
        self._keys: tuple[str, str, str | None] | None = None
        self._encryption = _encryption(settings)

    def put(
        self, key: str, body: Body, *, instead_of: str = "",
        metadata: Mapping[str, str] = MappingProxyType({}), anyway: bool = False,
    ) -> str:  # fmt: skip
        """Store where nothing is, or in the place of the object with this ETag; the new ETag.

        ``anyway``: whatever is there.

        Raises
        ------
        Taken
        """
        condition = {"IfMatch": f'"{instead_of}"'} if instead_of else {"IfNoneMatch": "*"}
        with body.open() as content:
            answer = self._ask("put_object", {
                "Key": self._prefix + key, "Body": content, "ContentMD5": body.md5,
                "Metadata": {"md5": body.md5, **metadata}, **self._encryption,
                **({} if anyway else condition),
            })
        return str(answer["ETag"]).strip('"')

    def get(self, key: str, into: BinaryIO) -> Found | None:
        """Write an object into an empty file, checked by its size and digest; ``None``: absent.

        Raises
        ------
        OSError
            The file takes no more.
        """
        failure: StorageFailed | None = None
        for _ in range(TRIES):
            into.seek(0)
            into.truncate()
            try:
                answer = self._ask("get_object", {"Key": self._prefix + key}, absent_ok=True)
                if answer is None:
                    return None
                found = _found(key, answer, answer["ContentLength"])
                with translated():
                    digest = _copy(answer["Body"], into)
                if into.tell() == found.size_bytes and found.metadata.get(
                    "md5", digest
                ) == digest:
                    return found
                failure = StoreUnavailable(
                    "an object came out of the store otherwise than it went in",
                    reason="store.damaged",
                )
            except StoreUnavailable as error:
                failure = error
        raise failure or StoreUnavailable("the object store does not answer")

    def head(self, key: str) -> Found | None:
        """What is stored under a key."""
        answer = self._ask("head_object", {"Key": self._prefix + key}, absent_ok=True)
        return None if answer is None else _found(key, answer, answer["ContentLength"])

    def list(self, prefix: str, most: int | None = None) -> Iterator[Found]:
        """Objects whose keys begin so, in byte order of the keys; without their metadata."""
        token: dict[str, str] = {}
        while True:
            answer = self._ask("list_objects_v2", {
                "Prefix": self._prefix + prefix, "MaxKeys": min(most or 1000, 1000), **token,
            })
            for one in answer.get("Contents", ()):
                yield _found(one["Key"][len(self._prefix) :], one, one["Size"])
            if most is not None or not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        """Delete an object; absent is fine."""
        self._ask("delete_object", {"Key": self._prefix + key}, absent_ok=True)

    def check_conditions(self) -> None:
        """Store, read and delete a small object.

        Raises
        ------
        ConfigurationError
            The store overwrites although it was told not to: two receivers would lose images.
        """
        key, body = f"probe/{uuid4().hex}", Body.of(b"a probe of DICOM Node")
        try:
            etag = self.put(key, body)
            for other in ("", "0" * 32):
                try:
                    self.put(key, body, instead_of=other)
                except Taken:
                    continue
                raise ConfigurationError(
                    "the object store does not know conditional writes (If-None-Match, If-Match): "
                    "it would overwrite images; expected one that does",
                    key_path="storage.spool", reason="store.no_conditions",
                )
            self.put(key, body, instead_of=etag)
        finally:
            self.delete(key)

    def is_versioned(self) -> bool:
        """Whether the bucket keeps what is deleted; False where it does not say."""
        try:
            return bool(self._ask("get_bucket_versioning", {}).get("Status") == "Enabled")
        except (StorageFailed, PermanentError):
            return False

    def _ask(self, operation: str, what: dict[str, Any], *, absent_ok: bool = False) -> Any:
        from botocore.exceptions import ClientError

        try:
            with translated():
                return getattr(self._connected(), operation)(Bucket=self._bucket, **what)
        except ClientError as error:
            said = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status in (409, 412) and "put" in operation:
                raise Taken from error
            if status == 404 and said != "NoSuchBucket":
                if absent_ok:
                    return None
                if "put" in operation:
                    raise Taken from error
            failure = store_error(said, status)
            if failure.reason == "store.refused":
                # They may have been renewed: the next request reads them again.
                self._forget_credentials()
            raise failure from error

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._keys = credentials_of(self._settings)
                self._client = client_of(self._settings, self._keys)
            return self._client

    def _forget_credentials(self) -> None:
        with self._lock, suppress(ConfigurationError):
            if credentials_of(self._settings) != self._keys:
                self._client = None


def _encryption(settings: S3Settings) -> dict[str, str]:
    asked: dict[str, str] = {}
    if settings.server_side_encryption is not None:
        asked["ServerSideEncryption"] = settings.server_side_encryption
    if settings.kms_key_id is not None:
        asked["SSEKMSKeyId"] = settings.kms_key_id
    return asked


def _copy(source: Any, into: BinaryIO) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    read: Callable[[int], bytes] = source.read
    while chunk := read(_CHUNK):
        digest.update(chunk)
        into.write(chunk)
    return b64encode(digest.digest()).decode("ascii")


def _found(key: str, answer: Mapping[str, Any], size_bytes: int) -> Found:
    from email.utils import parsedate_to_datetime

    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    date = headers.get("date", "")
    return Found(
        key, size_bytes, str(answer["ETag"]).strip('"'), answer["LastModified"].timestamp(),
        dict(answer.get("Metadata", {})),
        parsedate_to_datetime(date).timestamp() if date else time.time(),
    )
