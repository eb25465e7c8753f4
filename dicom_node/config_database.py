"""Where the ledger is: the URL of its database, which may hold a password.

Part of `dicom_node.config`, which reads it from the file.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationError
from pydantic_core import PydanticCustomError

from dicom_node.config_peers import Settings, Text
from dicom_node.errors import ConfigurationError


def _database_url(value: str) -> str:
    if not re.match(r"(sqlite|postgresql(\+psycopg)?)://", value):
        raise PydanticCustomError(
            "database_url", "null, or a URL that begins with postgresql:// or sqlite:///"
        )
    # What stands behind the first of two would be taken for the host, and be told in each error.
    if value.startswith("postgresql") and value.count("@") > 1:
        raise PydanticCustomError(
            "database_url", "a URL whose password has @ as %40 and % as %25"
        )
    return value


class DatabaseSettings(Settings):
    """Where the ledger is; ``None`` means SQLite in ``node.data_dir``.

    ``url_file`` holds the URL instead, so that its password is in no file that many may read;
    `load` puts what stands in it into ``url``.
    """

    url: Annotated[Text, AfterValidator(_database_url)] | None = None
    url_file: Path | None = None


def read_url_file(settings: DatabaseSettings) -> DatabaseSettings:
    """The settings with the URL that stands in ``url_file``, where there is one.

    Raises
    ------
    ConfigurationError
        There is a ``url`` too, or the file cannot be read or holds none.
    """
    file = settings.url_file
    if file is None:
        return settings
    if settings.url is not None:
        raise ConfigurationError(
            "found both url and url_file, expected one of them", key_path="database.url_file"
        )
    try:
        url = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(
            f"cannot read {file}: {why}", key_path="database.url_file"
        ) from error
    with contextlib.suppress(ValidationError):
        return DatabaseSettings(url=url, url_file=file)
    # Not within an `except`: that error quotes what stands in the file.
    raise ConfigurationError(
        f"{file} holds no URL that begins with postgresql:// or sqlite:/// and writes @ "
        "in a password as %40",
        key_path="database.url_file",
    )
