"""Who has a SQLite ledger open, and the word that it is damaged.

    ledger.db.lock      held shared by every process that has the ledger open, and alone by the
                        one that sets a damaged ledger aside: none of the others then writes on
                        into a file that is no longer the ledger
    ledger.db.suspect   made by whoever meets damage while the node runs; every process of the
                        node that sees it ends, and the next start looks closely

Neither holds anything; both may be deleted while nothing runs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from dicom_node.errors import LedgerUnavailable

_POLL_S = 0.1


def suspect_path(ledger: Path) -> Path:
    """The file that says that ``ledger`` is damaged."""
    return ledger.with_name(ledger.name + ".suspect")


class Guard:
    """One holder's lock on the SQLite ledger at ``ledger``.

    Parameters
    ----------
    ledger
        The database file; it need not exist.
    alone
        Whether nobody else may have it open.
    patience_s
        How long to wait for the others.

    Raises
    ------
    LedgerUnavailable
        Others kept it for longer, or the lock file cannot be made.
    """

    def __init__(self, ledger: Path, *, alone: bool = False, patience_s: float = 60.0) -> None:
        path = ledger.with_name(ledger.name + ".lock")
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as failure:
            raise LedgerUnavailable(
                f"the ledger's lock cannot be opened ({errno.errorcode.get(failure.errno or 0)})"
            ) from failure
        deadline = time.monotonic() + patience_s
        while not self._try(fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                self.release()
                raise LedgerUnavailable(
                    "other processes of this node still have the damaged ledger open"
                    if alone
                    else "the ledger is being rebuilt"
                )
            time.sleep(_POLL_S)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let go; harmless when done already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def suspect(ledger: Path, found: str) -> None:
    """Leave word that ``ledger`` is damaged, as far as the disk lets us."""
    with contextlib.suppress(OSError):
        suspect_path(ledger).write_text(found + "\n", "utf-8")
