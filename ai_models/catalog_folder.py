"""One folder with a model, watched: its card is taken up when the folder has come to rest.

A folder that is being copied or edited has a card before it has its weights, or the other way
round. So a change counts when nothing in the folder has moved for a while, the card is whole, the
weights are there, and whoever runs the models admits it. Until then, and for as long as something
is wrong, the last good card goes on being used.

The weights of a card in use are looked at too: if their size or time changes while the card stays,
they are compared with its SHA-256 again, and a card whose weights are others is not used any more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from ai_models.card import CARD_NAME, Card, load_card
from ai_models.types import CardError, ModelError, writable

# More files than that are a program's environment, and say nothing of a copy under way.
_MOST_FILES = 2000
_NOT_LOOKED_AT = ("__pycache__", ".")
_LONGEST_ID = 64
# Weights that cannot be read may be readable again without a change of the folder: another mode of
# a file, a share that answers. They are looked for as often.
_AGAIN_S = 30.0
# Weights that are one file cost a `stat` each time. A folder of them is walked less often.
_FOLDERS_EVERY_S = 5.0
MISSING = "model.weights_missing"
_OTHER = "model.unknown"
_OF_A_FOLDER = frozenset(
    {MISSING, "model.hash_mismatch", "model.refused", "model.directory_missing"}
)

Admit = Callable[[Card], None]
Signature = tuple[int, ...]


class What(StrEnum):
    """What happened to the models of a folder."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    PROBLEM = "problem"
    SOLVED = "solved"


@dataclass(frozen=True)
class Problem:
    """Why a folder is not used as it is now.

    ``since`` is when its card or its weights were last written; of a card in use whose weights are
    found to be others, when that was found.

    ``model_id`` is what the folder seems to be: of its last good card, or as the card says.
    ``version`` is set where another folder says that it is the same version. ``reason`` is the
    code that a job gets which wants the model: ``model.weights_missing``,
    ``model.hash_mismatch``, ``model.refused``, ``model.directory_missing``, or ``model.unknown``
    of a card or report that is wrong.
    """

    folder: Path
    message: str
    since: datetime
    model_id: str
    version: str = ""
    reason: str = _OTHER


@dataclass(frozen=True)
class Change:
    """One thing that happened to a folder; ``former`` is the card that it had."""

    what: What
    folder: Path
    card: Card | None = None
    former: Card | None = None
    problem: Problem | None = None


class _Trial:
    """Whether a card is admitted, found out beside the main loop: hashing takes its time."""

    def __init__(self, card: Card, admit: Admit, one_at_a_time: threading.Lock) -> None:
        self.card = card
        self.refusal: ModelError | None = None
        self._admit = admit
        self._lock = one_at_a_time
        self._thread = threading.Thread(target=self._run, name="model check", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether ``refusal`` says what came of it: none, when the card is admitted."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with self._lock:
                self._admit(self.card)
        except ModelError as error:
            self.refusal = error
        # A thread's boundary: what goes wrong with a folder is told as its problem.
        except Exception as error:  # noqa: BLE001
            self.refusal = ModelError(
                f"{self.card.folder} could not be checked: {type(error).__name__}"
            )


class ModelFolder:
    """A folder that has, or had, a ``model.yaml``.

    Attributes
    ----------
    card
        The last good card; ``None`` while there was none, or when it was doubted and found wrong.
    problem
        Why the folder is not used as it is now; ``None`` when it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.card: Card | None = None
        self.problem: Problem | None = None
        # As the folder was when it was last decided on, and what was seen since, from when on.
        self._decided: Signature | None = None
        self._seen: Signature | None = None
        self._card_seen: Signature | None = None
        self._since_s: float | None = None
        self._trial: _Trial | None = None
        self._doubted = False
        self._refused_s = 0.0
        # Of the card in use: its weights as they were when they were last compared.
        self._weights: Signature = ()
        self._weights_seen: Signature = ()
        self._weights_looked_s = 0.0
        # What was in use before it was found to be damaged.
        self._damaged: Card | None = None

    def read(self) -> None:
        """Take the folder as it is at this moment; what is wrong becomes its problem."""
        seen, self._card_seen = folder_signature(self.path), card_signature(self.path)
        try:
            card = _whole(self.path)
            self._weights_seen = weights_signature(card)
            self._take(card)
        except ModelError as error:
            self._refuse(error, seen, 0.0)

    def doubt(self) -> None:
        """Look at the folder again though nothing changed: its card goes if it is not admitted.

        Of a card that was good once only its weights can be others now, or gone. `look` does so by
        itself when the weights have another size or time.
        """
        self._doubted, self._decided = True, None

    def look(
        self, now_s: float, quiet_s: float, admit: Admit | None, one_at_a_time: threading.Lock
    ) -> Change | None:
        """Take up what changed, once it is at rest; ``None`` while the card stays what it is.

        ``now_s`` is of a monotonic clock. A folder whose card is as it was costs two ``stat``, and
        where its weights are a folder a walk through that now and then.
        """
        card = card_signature(self.path)
        if card is None and self.card is None:
            return self._go()
        if card == self._decided and self._has_its_weights(now_s):
            self._since_s = self._trial = None
            return None
        # Of what is new or has a problem the weights are watched too: they may be what is wrong.
        whole = folder_signature(self.path) if card is not None else None
        if whole is not None and whole == self._decided and not self._is_due_again(now_s):
            self._since_s = self._trial = None
            return None
        if self._since_s is None or whole != self._seen:
            self._seen, self._card_seen = whole, card
            self._since_s, self._trial = now_s, None
            return None
        if now_s - self._since_s < quiet_s:
            return None
        if whole is None:
            return self._go()
        return self._try(whole, admit, one_at_a_time, now_s)

    def _has_its_weights(self, now_s: float) -> bool:
        """False, and the card is doubted, when its weights are not as they were last compared."""
        if self.card is None:
            return True
        every_s = _FOLDERS_EVERY_S if self.card.weights_path.is_dir() else 0.0
        if now_s - self._weights_looked_s < every_s:
            return True
        self._weights_looked_s = now_s
        if weights_signature(self.card) == self._weights:
            return True
        self.doubt()
        return False

    def _is_due_again(self, now_s: float) -> bool:
        is_missing = self.problem is not None and self.problem.reason == MISSING
        return is_missing and now_s - self._refused_s >= _AGAIN_S

    def _try(
        self, seen: Signature, admit: Admit | None, one_at_a_time: threading.Lock, now_s: float
    ) -> Change | None:
        if self._trial is None:
            try:
                card = _whole(self.path)
            except ModelError as error:
                self._refuse(error, seen, now_s)
                return None
            self._weights_seen = weights_signature(card)
            if admit is None:
                return self._take(card)
            self._trial = _Trial(card, admit, one_at_a_time)
        if not self._trial.is_over:
            return None
        if self._trial.refusal is not None:
            self._refuse(self._trial.refusal, seen, now_s)
            return None
        return self._take(self._trial.card)

    def _take(self, card: Card) -> Change | None:
        former, self.card, self.problem = self.card, card, None
        self._decided, self._since_s, self._trial = self._card_seen, None, None
        self._doubted, self._weights = False, self._weights_seen
        damaged, self._damaged = self._damaged, None
        if damaged is not None and damaged.fingerprint != card.fingerprint:
            # Weights that were copied before their card are damage until it comes, and then not.
            former = former or damaged
        if former is None:
            return Change(What.ADDED, self.path, card)
        if former.fingerprint == card.fingerprint:
            return None
        return Change(What.CHANGED, self.path, card, former)

    def _refuse(self, error: ModelError, seen: Signature, now_s: float) -> None:
        model_id = self.card.id if self.card is not None else _id_in(self.path)
        reason = error.reason if error.reason in _OF_A_FOLDER else _OTHER
        since = written_at(self.path)
        # A card that cannot be read says nothing of the weights of the last good one.
        if self._doubted and not isinstance(error, CardError):
            self._damaged = self.card or self._damaged
            self.card, self._doubted, since = None, False, datetime.now(UTC)
        self.problem = Problem(self.path, str(error), since, model_id, reason=reason)
        self._decided, self._since_s, self._trial = seen, None, None
        self._refused_s = now_s

    def _go(self) -> Change:
        former, self.card, self.problem = self.card, None, None
        return Change(What.REMOVED, self.path, None, former)


def card_signature(folder: Path) -> Signature | None:
    """What changes when the card does: times, size and number of its file; ``None`` without one."""
    try:
        found = (folder / CARD_NAME).stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def folder_signature(folder: Path) -> Signature:
    """What changes while a folder is being copied: number, bytes and times of its files."""
    count = size = latest = names_and_times = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(_NOT_LOOKED_AT)]
        for name in names:
            try:
                found = (Path(place) / name).stat()
            except OSError:
                continue
            count += 1
            size += found.st_size
            latest = max(latest, found.st_mtime_ns)
            names_and_times ^= hash((place, name, found.st_ino, found.st_mtime_ns))
        if count > _MOST_FILES:
            break
    return (count, size, latest, names_and_times)


def weights_signature(card: Card) -> Signature:
    """What changes when the weights of a card do: size, time and number of what it names."""
    if card.weights.path is None:
        return ()
    found: list[int] = []
    for path in (card.weights_path, *(card.folder / one.path for one in card.weights.ensemble)):
        try:
            there = path.stat()
        except OSError:
            found.append(-1)
            continue
        if path.is_dir():
            found += folder_signature(path)
        else:
            found += (there.st_mtime_ns, there.st_size, there.st_ino)
    return tuple(found)


def written_at(folder: Path) -> datetime:
    """When the card was last written; now where that cannot be told."""
    try:
        return datetime.fromtimestamp((folder / CARD_NAME).stat().st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)


def duplicate(card: Card, holder: Card) -> Problem:
    """Two folders say that they are the same version of the same model."""
    message = writable(
        f"{card.folder / CARD_NAME}: {card.id!r} version {card.version} is already that of "
        f"{holder.folder / CARD_NAME}: give one of them another version or id"
    )
    return Problem(card.folder, message, written_at(card.folder), card.id, card.version)


def _whole(folder: Path) -> Card:
    """The card of a folder whose weights are there.

    Raises
    ------
    CardError
    ModelError
        ``model.weights_missing``
    """
    card = load_card(folder)
    named = [card.weights_path] if card.weights.path is not None else []
    named += [folder / member.path for member in card.weights.ensemble]
    missing = next((path for path in named if not path.exists()), None)
    if missing is not None:
        raise ModelError(f"the weights {missing} are missing", reason=MISSING)
    return card


def _id_in(folder: Path) -> str:
    """The id that a broken card seems to have; the folder's name where it has none."""
    return writable(_id_or_name(folder), _LONGEST_ID)


def _id_or_name(folder: Path) -> str:
    try:
        if not (folder / CARD_NAME).is_file():
            return folder.name
        with (folder / CARD_NAME).open("rb") as file:
            beginning = file.read(1 << 16).decode("utf-8", "replace")
    except OSError:
        return folder.name
    for line in beginning.splitlines():
        key, _, value = line.partition(":")
        if key == "id":
            return value.split("#")[0].strip().strip("'\"") or folder.name
    return folder.name
