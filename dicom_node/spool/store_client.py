"""The connection to an object store: with which credentials, and what its failures mean.

Only `dicom_node.spool` knows botocore, and nothing that this machine's user has set for other
programs reaches it: no proxy, no endpoint, no credentials that are asked for over the network.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from dicom_node.errors import ConfigurationError, OutOfSpace, StorageFailed, StoreUnavailable

if TYPE_CHECKING:
    from dicom_node.config_storage import S3Settings

TRIES = 3
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "EntityTooLarge"}
_REASONS = {
    "AccessDenied": ("store.refused", "the object store refuses the node's credentials"),
    "RequestTimeTooSkewed": (
        "store.clock", "the clocks of this host and of the object store differ by too much"
    ),
    "NoSuchBucket": (
        "store.no_bucket", "the object store has no such bucket, and the node makes none: "
        "`aws s3api create-bucket --bucket NAME` or the store's own console; without versions and "
        "closed to the public"
    ),
    "SlowDown": ("store.busy", "the object store asks to slow down"),
    "BadDigest": ("store.damaged", "the bytes were damaged on their way to the object store"),
}
_ALIKE = {
    "InvalidAccessKeyId": "AccessDenied", "SignatureDoesNotMatch": "AccessDenied",
    "ExpiredToken": "AccessDenied", "InvalidToken": "AccessDenied", "Forbidden": "AccessDenied",
    "403": "AccessDenied", "401": "AccessDenied", "AccountProblem": "AccessDenied",
    "RequestExpired": "RequestTimeTooSkewed", "ServiceUnavailable": "SlowDown",
    "RequestTimeout": "SlowDown", "TooManyRequests": "SlowDown", "503": "SlowDown",
    "429": "SlowDown", "InvalidDigest": "BadDigest", "XAmzContentSHA256Mismatch": "BadDigest",
    "XAmzContentChecksumMismatch": "BadDigest",
}


def credentials_of(settings: S3Settings) -> tuple[str, str, str | None]:
    """Key id, secret key and session token; nothing is ever asked for them.

    From ``credentials_file``, as the AWS command line has it, or the variables of the environment
    that it uses.

    Raises
    ------
    ConfigurationError
    """
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    file = settings.credentials_file
    if file is None:
        found = {name: os.environ.get(name.upper(), "") for name in names}
        where = "the environment of the service"
    else:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            why = getattr(error, "strerror", None) or "it is no credentials file"
            raise ConfigurationError(
                f"cannot read {file}: {why}", key_path="storage.s3.credentials_file",
            ) from None
        section = "default" if parser.has_section("default") else "DEFAULT"
        found = {name: parser.get(section, name, fallback="") for name in names}
        where = str(file)
    if not found[names[0]] or not found[names[1]]:
        raise ConfigurationError(
            f"found no {names[0]} and {names[1]} in {where}, expected both",
            key_path="storage.s3.credentials_file",
        )
    return found[names[0]], found[names[1]], found[names[2]] or None


def client_of(settings: S3Settings, credentials: tuple[str, str, str | None]) -> Any:
    """A client of botocore; raises `ConfigurationError` where that is not installed."""
    try:
        from botocore.config import Config as ClientConfig
        from botocore.session import Session
    except ImportError as error:
        raise ConfigurationError(
            "an object store needs the extra s3: pip install 'dicom-node[s3]'",
            key_path="storage.spool",
        ) from error
    session = Session(session_vars={"profile": (None, None, None, None)})
    session.register_component("data_loader", _descriptions())
    session.set_config_variable("config_file", os.devnull)
    style = settings.addressing
    if style == "auto":
        style = "path" if settings.endpoint_url else "virtual"
    key, secret, token = credentials
    return session.create_client(
        "s3", region_name=settings.region, endpoint_url=settings.endpoint_url,
        verify=str(settings.ca_file) if settings.ca_file else True,
        aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token,
        config=ClientConfig(
            signature_version="s3v4", proxies={}, s3={"addressing_style": style},
            connect_timeout=min(5.0, settings.timeout_s), read_timeout=settings.timeout_s,
            retries={"mode": "standard", "total_max_attempts": TRIES}, tcp_keepalive=True,
            max_pool_connections=2 * settings.connections, ignore_configured_endpoint_urls=True,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@cache
def _descriptions() -> Any:
    """What botocore knows of services, read once per process: it takes a good part of a second."""
    from botocore.loaders import create_loader

    return create_loader()


def store_error(code: str, status: int) -> StorageFailed | OutOfSpace:
    """What an error code of the store, or its HTTP status, means for us."""
    if code in _FULL or status == 507:
        return OutOfSpace(f"the object store is full ({code or status})", reason="store.full")
    known = _REASONS.get(_ALIKE.get(code, code)) or _REASONS.get(_ALIKE.get(str(status), ""))
    reason, text = known or ("store.failed", "the object store failed")
    return StoreUnavailable(f"{text} ({code or status})", reason=reason)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the connection as ours; those that the store answers with stay as they are."""
    from botocore import exceptions

    kinds: list[tuple[type[Exception], str, str]] = [
        (exceptions.SSLError, "store.tls", "the object store has no certificate that is trusted"),
        (exceptions.ReadTimeoutError, "store.timeout", "the object store does not answer in time"),
        (exceptions.BotoCoreError, "store.unreachable", "the object store cannot be reached"),
    ]
    try:
        yield
    except tuple(kind for kind, _, _ in kinds) as error:
        for kind, reason, text in kinds:
            if isinstance(error, kind):
                raise StoreUnavailable(
                    f"{text} ({type(error).__name__})", reason=reason
                ) from error
        raise
