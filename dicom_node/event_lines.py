"""How an event becomes a line: console text, JSON or an entry of the journal, on stderr.

Part of `dicom_node.events`. Libraries that read DICOM quote element values in their warnings and
exceptions, so neither the text of an exception nor what those libraries say is written: only where
it happened, and its type.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

_log = logging.getLogger("dicom_node")
_QUOTING = frozenset({"pydicom", "pynetdicom", "highdicom", "py"})
# They call an error what is an everyday answer (nobody listens there, refused), which the node
# tells itself, with peer and reason; an exception in them is told still.
_TOLD_BY_THE_NODE = frozenset({"pynetdicom.transport", "pynetdicom.acse"})
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
_ExceptionInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def hash_uid(uid: str) -> str:
    """The name by which a UID appears in logs and metrics: 12 hexadecimal digits."""
    return hashlib.sha256(uid.encode("ascii", "replace")).hexdigest()[:12]


_study: ContextVar[str] = ContextVar("study", default="")


@contextmanager
def about_study(study_instance_uid: str) -> Iterator[None]:
    """Every line of this thread in this block is about a study, and carries its hash.

    An empty UID: it is not known which one.
    """
    # Hashed where a line is written: most of what happens writes none.
    token = _study.set(study_instance_uid)
    try:
        yield
    finally:
        _study.reset(token)


class _DiscreetFormatter(logging.Formatter):
    """Says where and what kind of thing happened, and never what a file or a peer said."""

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """What stands behind the text, and the study that all of this is about."""
        fields: dict[str, object] = getattr(record, "fields", {})
        study = _study.get()
        return {"study": hash_uid(study), **fields} if study else fields

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - the library's name
        """The traceback of an exception and its causes, without their texts."""
        lines: list[str] = []
        error = ei[1]
        while error is not None:
            frames = "".join(traceback.format_tb(error.__traceback__))
            lines.append(f"{frames}{type(error).__module__}.{type(error).__qualname__}")
            hidden = error.__suppress_context__
            error = error.__cause__ or (None if hidden else error.__context__)
        return "\ncaused by\n".join(lines)

    def event(self, record: logging.LogRecord) -> str:
        """The text of a record, or for a library that quotes values, where it spoke."""
        library = record.name.partition(".")[0]
        if library in _QUOTING:
            return f"{library} reported something at {record.module}:{record.lineno}"
        return record.getMessage()


class _JsonFormatter(_DiscreetFormatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": self.event(record),
            **self.fields(record),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class _ConsoleFormatter(_DiscreetFormatter):
    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(f"{name}={value}" for name, value in self.fields(record).items())
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        line = f"{at} {record.levelname.lower():7} {self.event(record)} {text}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logging(level: str, form: str) -> None:
    """Send the node's events to stderr as ``console`` lines or ``json`` documents.

    Libraries speak only from WARNING up; those that read DICOM only from ERROR up, and without
    their text. That a peer was not reached or refused is told once, by the node.
    Python's warnings are told at ``debug`` level, without their text. Where stderr goes to the
    journal of systemd, each line begins with its priority, as sd-daemon(3) has it.
    """
    handler = _Journal() if _is_journal() else _Stderr()
    if level.lower() != "debug":
        handler.addFilter(_is_news)
    handler.setFormatter(_JsonFormatter() if form == "json" else _ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for quoting in ("pynetdicom", "pydicom", "highdicom"):
        log = logging.getLogger(quoting)
        log.setLevel(logging.ERROR)
        log.handlers.clear()
        log.propagate = True
    warnings.showwarning = _tell_warning
    _log.setLevel(level.upper())


def _is_news(record: logging.LogRecord) -> bool:
    """Whether the node does not tell it by itself."""
    return record.name not in _TOLD_BY_THE_NODE or bool(record.exc_info)


class _Stderr(logging.StreamHandler[TextIO]):
    """Whatever ``sys.stderr`` is when something is said."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _stream: Any) -> None:
        """The base class assigns the stream of its beginning; it is not kept."""


class _Journal(_Stderr):
    def format(self, record: logging.LogRecord) -> str:
        prefix = next(f"<{priority}>" for level, priority in _PRIORITIES if record.levelno >= level)
        # Every line is an entry of its own there, those of a traceback too.
        return "\n".join(prefix + line for line in super().format(record).split("\n"))


def _is_journal() -> bool:
    """Whether stderr is the stream that systemd has told (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _tell_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In place of `warnings.showwarning`, which prints a text that may quote element values."""
    where = f"{filename}:{lineno}"
    _log.debug("warning", extra={"fields": {"category": category.__name__, "where": where}})
