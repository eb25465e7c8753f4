"""A series that is read as a whole while it waits for what may still come; its job takes it.

    Ahead -> MadeReady.make  (nothing has come for a while)  ->  MadeReady.take  (once, by a job)

What is taken is what `dicom_node.pipeline.loading.load_input` gives of the same files, or nothing:
of files that have changed since, of others, or for another model the job reads for itself. So it
comes to the same results and refusals with and without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_models.card_entries import InputEntry
from ai_models.types import ModelInput, Volume
from dicom_node.errors import NodeError
from dicom_node.imaging.decode import pixel_format
from dicom_node.imaging.decoded import Decoded, Identity, file_identity
from dicom_node.imaging.reading import read_header
from dicom_node.pipeline.beforehand import make_ready
from dicom_node.pipeline.loading import Loaded, load_input

# Of a series that is being made ready; then its job reads it beside.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class _Made:
    """What was read of which files, as they were then, for which input of a card."""

    paths: tuple[Path, ...]
    identities: tuple[Identity | None, ...]
    entry: InputEntry
    loaded: Loaded
    size_bytes: int


class MadeReady:
    """Thread-safe.

    Parameters
    ----------
    decoded
        Images that were read one by one: they are taken from there, and the room that they had
        there is what the whole of them has.
    lay_out, forget
        Told of an input that will be asked for, and of one that will not.
    """

    def __init__(
        self, decoded: Decoded, lay_out: Callable[[ModelInput], object] = lambda _: None,
        forget: Callable[[ModelInput], object] = lambda _: None,
    ) -> None:  # fmt: skip
        self._decoded = decoded
        self._lay_out = lay_out
        self._forget = forget
        self._changed = threading.Condition()
        self._making = ""
        self._made: dict[str, _Made] = {}

    @property
    def series(self) -> list[str]:
        """The series that are ready."""
        with self._changed:
            return list(self._made)

    def make(self, series: str, paths: Sequence[Path], entry: InputEntry) -> bool:
        """Read a series for a card that takes nothing beside it; whether it is ready.

        It is not where anything about it is wrong: the job will find that out, and say so.
        """
        if entry.is_joint or entry.kind != "volume":
            return False
        self.drop([series])
        with self._changed:
            self._making = series
        try:
            made = self._read(paths, entry)
            return made is not None and self._keep(series, made)
        except NodeError:
            return False
        finally:
            with self._changed:
                self._making = ""
                self._changed.notify_all()

    def take(self, series: str, paths: Sequence[Path], entry: InputEntry) -> Loaded | None:
        """What was read of these files, which is not kept any longer; ``None``: read them.

        While it is being made ready, this waits. Who got something calls `let_go` at the end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._making != series, _PATIENCE_S)
            made = self._made.pop(series, None)
        if made is None:
            return None
        self._decoded.give_up(made.size_bytes)
        if made.paths == tuple(paths) and made.entry == entry and _as_they_were(made):
            return made.loaded
        self._forget(made.loaded.model_input)
        return None

    def let_go(self, loaded: Loaded) -> None:
        """The job that took this has ended, whether or not it came as far as its model."""
        self._forget(loaded.model_input)

    def drop(self, series: Iterable[str]) -> None:
        """Keep nothing of these series any longer."""
        with self._changed:
            dropped = [self._made.pop(one) for one in series if one in self._made]
        for made in dropped:
            self._decoded.give_up(made.size_bytes)
            self._forget(made.loaded.model_input)

    def _read(self, paths: Sequence[Path], entry: InputEntry) -> _Made | None:
        identities = tuple(map(file_identity, paths))
        if not self._has_room(paths):
            return None
        loaded = load_input(paths, entry, self._decoded)
        source = loaded.model_input
        if loaded.unreadable or not isinstance(source, Volume):
            return None
        make_ready(loaded)
        made = _Made(tuple(paths), identities, entry, loaded, source.array.nbytes)
        return made if _as_they_were(made) else None

    def _has_room(self, paths: Sequence[Path]) -> bool:
        """Whether it is worth reading: what has its room already needs no other."""
        lacking = self._decoded.lacking(paths)
        if not lacking:
            return True
        # Of one series images are alike; what is wrong with one is found by who reads it.
        form = pixel_format(read_header(lacking[0]))
        size_bytes = form.frames * form.rows * form.columns * form.dtype.itemsize
        return self._decoded.could_hold(size_bytes * len(lacking))

    def _keep(self, series: str, made: _Made) -> bool:
        if not self._decoded.set_aside(made.size_bytes):
            return False
        self._lay_out(made.loaded.model_input)
        with self._changed:
            self._made[series] = made
        return True


def _as_they_were(made: _Made) -> bool:
    return None not in made.identities and made.identities == tuple(map(file_identity, made.paths))
