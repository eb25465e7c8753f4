"""Who may look and who may act: a file with one line for each token, ``NAME ROLE SHA256HEX``.

The tokens themselves are 256 random bits and are kept nowhere; who reads the file cannot use it.
A line that is taken out ends what was opened with it at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import tempfile
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dicom_node.errors import ConfigurationError

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._@-]{0,63}) +(viewer|operator) +([0-9a-f]{64})")
_LONGEST_TOKEN = 256
KEY_PATH = "web.tokens_file"


class Role(StrEnum):
    """What somebody may do: look, or also act."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True)
class User:
    """Somebody who was authenticated."""

    name: str
    role: Role

    @property
    def may_act(self) -> bool:
        """Whether they may change anything."""
        return self.role is Role.OPERATOR


@dataclass(frozen=True)
class TokenLine:
    """One line of the file."""

    name: str
    role: Role
    sha256: str


def read_tokens(path: Path) -> list[TokenLine]:
    """The lines of the file.

    Raises
    ------
    ConfigurationError
        It cannot be read, or a line is none; the message carries no part of the line.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not plain text"
        raise ConfigurationError(f"cannot be read: {why}; `dicom-node web-token NAME` writes it",
                                 key_path=KEY_PATH, file=str(path)) from error
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ConfigurationError(
                "expected lines NAME viewer|operator SHA256, as `dicom-node web-token` writes them",
                key_path=KEY_PATH, line=number, file=str(path),
            )
        lines.append(TokenLine(found[1], Role(found[2]), found[3]))
    return lines


def add_token(path: Path, name: str, role: Role) -> str:
    """Write a line for a new token, in place of any of this name, and return the token.

    The file is readable for its owner alone, and is replaced as a whole.

    Raises
    ------
    ConfigurationError
        The name cannot be one, or the file cannot be read or written.
    """
    token = secrets.token_urlsafe(32)
    line = f"{name} {role} {digest(token)}"
    if not _LINE.fullmatch(line):
        raise ConfigurationError(
            f"found the name {name!r}, expected 1 to 64 of A-Z a-z 0-9 . _ @ -", key_path="NAME"
        )
    kept = [one for one in (read_tokens(path) if path.exists() else []) if one.name != name]
    text = "".join(f"{one.name} {one.role} {one.sha256}\n" for one in kept) + f"{line}\n"
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="ascii", dir=path.parent, prefix=f".{path.name}", delete=False
        ) as file:  # made with mode 0600
            if path.exists():
                # The node reads it as the owner that it has.
                there = path.stat()
                os.fchown(file.fileno(), there.st_uid, there.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"cannot be written: {error.strerror}", key_path=KEY_PATH, file=str(path)
        ) from error
    return token


def digest(token: str) -> str:
    """What stands in the file for a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class Tokens:
    """The file as it is now; while it cannot be read, nobody is known by it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._lines: list[TokenLine] = []

    def find(self, token: str) -> TokenLine | None:
        """The line of a token; every line is compared, however early one is the right one."""
        found = None
        presented = digest(token[:_LONGEST_TOKEN])
        for line in self._now():
            if hmac.compare_digest(line.sha256, presented):
                found = line
        return found

    def still_there(self, name: str, sha256_start: str) -> User | None:
        """Who this is, while the line that opened a session stands in the file."""
        for line in self._now():
            if line.name == name and hmac.compare_digest(line.sha256[:16], sha256_start):
                return User(line.name, line.role)
        return None

    def _now(self) -> list[TokenLine]:
        with self._lock:
            try:
                stat = self._path.stat()
                seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                if seen != self._seen:
                    self._lines = read_tokens(self._path)
                    self._seen = seen
            except (OSError, ConfigurationError):
                self._seen, self._lines = None, []
            return list(self._lines)
