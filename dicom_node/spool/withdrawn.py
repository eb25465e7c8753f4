"""Studies that leave an object store, which has no rename: a marker sets all of one aside at once.

    removing/<token>,<study>         the objects that are set aside, and their ETags
    removing/<token>,<study>,gone    they are being deleted: nothing comes back
    spared/<token>/<path>            came again since: not to be deleted
    came/<study>                     written when an image of it came that was here already

Whoever walks the store passes over what a marker names. Until the ledger has written down that the
study is removed, deleting the marker puts all of it back.

Nothing acknowledged is deleted. Whoever stores an image must know all markers of its study that
were put more than `_STALE_S` before it answered; so it may look at the markers now and then only.
Objects are deleted no sooner than three times as long after their marker, and only those that are
still what the marker says and that nobody has spared. An image that is here already leaves a trace
(``came``) before its sender is answered, and whoever sets a study aside looks for it after the
marker is put: one of the two sees the other.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from dicom_node.errors import StoreUnavailable
from dicom_node.spool.kept import SetAside
from dicom_node.spool.names import INSTANCES, OUTBOX
from dicom_node.spool.store import Body, Found, Store

_STALE_S = 10.0
_WAITS = 3
_ROUND_S = 0.2
# So long it counts that a marker was there when it was looked for.
_TRUSTED_S = 5.0


@dataclass(frozen=True)
class Marker:
    """One removal, as the name of its marker says."""

    token: str
    study: str
    is_gone: bool
    put_at: float

    @property
    def key(self) -> str:
        """Of the object that lists what is set aside."""
        return f"removing/{self.token},{self.study}"


@dataclass(frozen=True)
class Known:
    """The markers as they were when ``asked_at`` (monotonic seconds)."""

    asked_at: float
    markers: tuple[Marker, ...]

    def about(self, relative: str) -> list[Marker]:
        """Those that may name this path; of which study a result is, its path does not say."""
        kind, name = relative.split("/")[:2]
        return [one for one in self.markers if kind == OUTBOX or one.study == name]


class Withdrawn:
    """What is being removed from a store; setting aside and deleting is for one thread of one host.

    Parameters
    ----------
    executor
        Deletes side by side.
    forget
        Told of every object that is deleted.
    """

    def __init__(self, store: Store, executor: Callable[[], Executor],
                 forget: Callable[[str], None]) -> None:
        self._store = store
        self._executor = executor
        self._forget = forget
        self._lock = threading.Lock()
        self._known = Known(-1e9, ())
        self._came: dict[str, float] = {}
        self._left: dict[str, list[str]] = {}

    def known(self, *, fresh: bool = False) -> Known:
        """The markers, read anew when they are older than half the time that they hold."""
        with self._lock:
            known = self._known
        if not fresh and time.monotonic() - known.asked_at < _STALE_S / 2:
            return known
        asked_at = time.monotonic()
        found = self._markers()
        known = Known(asked_at, found)
        with self._lock:
            if asked_at > self._known.asked_at:
                self._known = known
        return known

    def _markers(self) -> tuple[Marker, ...]:
        listed = list(self._store.list("removing/"))
        names = {one.key.removeprefix("removing/") for one in listed}
        found = []
        for one in listed:
            token, study, *rest = one.key.removeprefix("removing/").split(",")
            if not rest:
                is_gone = f"{token},{study},gone" in names
                found.append(Marker(token, study, is_gone, one.modified_at))
        return tuple(found)

    def note_came(self, study: str) -> None:
        """Leave a trace that an image of a study came which is here already."""
        now = time.monotonic()
        with self._lock:
            if now - self._came.get(study, -1e9) < _STALE_S / 2:
                return
        self._store.put(f"came/{study}", Body.of(b"came again"), anyway=True)
        self.known(fresh=True)
        # Not before: who finds it here goes by markers that were read after the trace was left.
        with self._lock:
            self._came = {one: at for one, at in self._came.items() if now - at < _STALE_S}
            self._came[study] = now

    def settle(self, relative: str, etag: str, before: Known) -> None:
        """Make sure that what has just been kept stays; ``before`` is what was known before it.

        Raises
        ------
        StoreUnavailable
            Its study is being deleted: it may be gone.
        """
        if not before.about(relative) and time.monotonic() - before.asked_at <= _STALE_S:
            return
        for marker in self.known(fresh=True).about(relative):
            self._store.put(f"spared/{marker.token}/{relative}", Body.of(b"came"), anyway=True)
        # Not before it is spared: who deletes says so first and then looks for what is spared.
        is_gone = any(
            one.is_gone and relative in self._listed(one)
            for one in self.known(fresh=True).about(relative)
        )
        there = self._store.head(relative)
        if is_gone or there is None or there.etag != etag:
            raise StoreUnavailable(
                "the study is being removed, and may be sent again in a moment",
                reason="store.being_removed",
            )

    def tokens(self) -> list[str]:
        """What is set aside, whether or not it is removed already."""
        return sorted({one.token for one in self._markers()})

    def hidden(self) -> set[str]:
        """The paths that are set aside."""
        found: set[str] = set()
        for marker in self._markers():
            found |= self._listed(marker).keys() - self._spared(marker)
        return found

    def is_hidden(self, relative: str) -> bool:
        """Whether this path is set aside now."""
        return any(
            relative in self._listed(one) and relative not in self._spared(one)
            for one in self.known(fresh=True).about(relative)
        )

    def _listed(self, marker: Marker) -> dict[str, str]:
        content = io.BytesIO()
        if self._store.get(marker.key, content) is None:
            return {}
        found: dict[str, str] = json.loads(content.getvalue())
        return found

    def _spared(self, marker: Marker) -> set[str]:
        prefix = f"spared/{marker.token}/"
        return {one.key.removeprefix(prefix) for one in self._store.list(prefix)}

    def fingerprints(self, study: str) -> dict[str, str]:
        """Those of the images of a study, by path."""
        hidden = self.hidden() if self.known(fresh=True).about(f"{INSTANCES}/{study}") else set()
        return {
            one.key: one.fingerprint for one in self._store.list(f"{INSTANCES}/{study}/")
            if one.key not in hidden
        }

    def set_aside(self, token: str, study: str, jobs: Iterable[str]) -> SetAside:
        """Take a study and the results of its jobs out of what is kept."""
        images = list(self._store.list(f"{INSTANCES}/{study}/"))
        results = [one for job in jobs for one in self._store.list(f"{OUTBOX}/{job}/")]
        content = json.dumps({one.key: one.etag for one in (*images, *results)}).encode()
        self._store.put(f"removing/{token},{study}", Body.of(content), anyway=True)
        came = self._store.head(f"came/{study}")
        times = [one.modified_at for one in (*images, *([came] if came else []))]
        return SetAside(
            {one.key: one.fingerprint for one in images},
            sum(one.size_bytes for one in (*images, *results)),
            max(times, default=0.0) if images else 0.0,
        )

    def put_back(self, token: str) -> None:
        """Undo `set_aside`; may be done again. What is being deleted already is deleted."""
        for marker in self._of(token):
            if marker.is_gone:
                self.discard(token)
            else:
                self._end(marker)

    def _of(self, token: str) -> list[Marker]:
        return [one for one in self._markers() if one.token == token]

    def discard(self, token: str, most: int | None = None) -> bool:
        """Delete what is set aside, ``most`` objects of it; whether all of it is gone.

        With ``most`` it does not wait until that may begin.
        """
        while True:
            if token in self._left and not self._of(token):
                # Another host has brought it to its end, and what is there now came since.
                del self._left[token]
                return True
            if token not in self._left and not self._begin(token):
                if most is not None:
                    return False
                time.sleep(_ROUND_S)
                continue
            left = self._left.pop(token)
            until_s = time.monotonic() + _TRUSTED_S
            # What is not deleted now, whatever the reason, is found anew.
            asked = left[:most]
            done = list(self._executor().map(partial(self._delete, until_s=until_s), asked))
            rest = [key for key, is_done in zip(asked, done, strict=True) if not is_done]
            rest += left[len(asked) :]
            if rest:
                self._left[token] = rest
                if most is None:
                    continue
                return False
            for marker in self._of(token):
                self._end(marker)
            return True

    def may_begin(self, token: str) -> bool:
        """Whether it has begun."""
        return token in self._left

    def _begin(self, token: str) -> bool:
        """Find out what is to be deleted, as soon as that is safe."""
        markers = self._of(token)
        if not all(self._mark_gone(one) for one in markers):
            return False
        victims: list[str] = []
        for marker in markers:
            listed, spared = self._listed(marker), self._spared(marker)
            folders = {"/".join(key.split("/")[:2]) for key in listed}
            there = {
                one.key: one.etag for folder in sorted(folders)
                for one in self._store.list(f"{folder}/")
            }
            victims += [
                key for key, etag in listed.items()
                if key not in spared and there.get(key) == etag
            ]
        self._left[token] = victims
        return True

    def _mark_gone(self, marker: Marker) -> bool:
        if marker.is_gone:
            return True
        seen = self._store.head(marker.key)
        if seen is not None and not _is_old(seen):
            return False
        self._store.put(f"{marker.key},gone", Body.of(b"gone"), anyway=True)
        return True

    def _delete(self, key: str, until_s: float) -> bool:
        """Not after a pause: another host may have ended it, and what is there came since."""
        if time.monotonic() > until_s:
            return False
        self._store.delete(key)
        self._forget(key)
        return True

    def _end(self, marker: Marker) -> None:
        """Last the marker: without one, nobody is deleting."""
        for key in self._spared(marker):
            self._store.delete(f"spared/{marker.token}/{key}")
        if marker.is_gone or self._store.head(f"{marker.key},gone"):
            self._store.delete(f"came/{marker.study}")
            self._store.delete(f"{marker.key},gone")
        self._store.delete(marker.key)


def _is_old(seen: Found) -> bool:
    """By the clock of the store, which shows whole seconds."""
    return seen.asked_at - seen.modified_at > _WAITS * _STALE_S + 1.0
