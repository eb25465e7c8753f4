"""Inputs that lie where a worker reads them before their job asks for it."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from ai_models.types import ModelInput, Volume
from dicom_node.pipeline.exchange import write_source

_PREFIX, OF_REQUESTS = "ahead-", "inference-"


class LaidOut:
    """Thread-safe. Each input is known by itself, not by what it holds.

    Parameters
    ----------
    scratch
        The folder in which workers read, of this process alone. What a former one that was killed
        left there is removed: it shows patients, and nobody will ask for it.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._lock = threading.Lock()
        self._laid: dict[int, tuple[ModelInput, Path, dict[str, Any]]] = {}
        for prefix in (_PREFIX, OF_REQUESTS):
            for left in scratch.glob(f"{prefix}*"):
                _remove(left)

    def lay(self, source: ModelInput) -> None:
        """Write a volume. Never raises: what could not be written is when it is needed."""
        if not isinstance(source, Volume):
            return
        try:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._scratch))
        except OSError:
            return
        try:
            told = write_source(folder, source)
        except OSError:
            _remove(folder)
            return
        with self._lock:
            self._laid[id(source)] = (source, folder, told)

    def forget(self, source: ModelInput) -> None:
        """Remove an input that nobody will ask for, where it was laid out."""
        with self._lock:
            laid = self._laid.pop(id(source), None)
        if laid is not None:
            _remove(laid[1])

    def told(self, source: ModelInput, folder: Path) -> dict[str, Any]:
        """What a request says of an input, which lies in ``folder`` then, if it did not before.

        Raises
        ------
        OSError
            It could not be written.
        """
        with self._lock:
            laid = self._laid.pop(id(source), None)
        if laid is not None:
            _, held_in, told = laid
            here = folder / Path(told["path"]).name
            try:
                Path(told["path"]).replace(here)
            except OSError:
                # Removed by somebody: it is written as if it had never been here.
                return write_source(folder, source)
            finally:
                _remove(held_in)
            return {**told, "path": str(here)}
        return write_source(folder, source)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            laid, self._laid = self._laid, {}
        for _, folder, _ in laid.values():
            _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
