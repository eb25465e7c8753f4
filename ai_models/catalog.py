"""Which models there are: the built-in zoo and the model directories of the configuration.

A model is a folder with a ``model.yaml``. A directory may itself be such a folder, or hold some;
folders whose name begins with a dot are left alone, so that one can be made ready there and then
be renamed. Several folders may hold versions of one model: which of them is live is decided
elsewhere, and told by `Catalog.prefer`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ai_models.card import CARD_NAME, Card
from ai_models.catalog_folder import Admit, Change, ModelFolder, Problem, What, duplicate
from ai_models.types import ModelError

ZOO = Path(__file__).resolve().parent / "zoo"
QUIET_S = 1.0


@dataclass(frozen=True)
class _State:
    """What the catalogue says; replaced as a whole, for it is read from several threads."""

    versions: Mapping[str, tuple[Card, ...]]
    problems: tuple[Problem, ...]
    # Of those the ones of folders without any card that could be used, and of directories away.
    broken: tuple[Problem, ...]


class Catalog:
    """All models of some directories; a bad card is a problem of its folder and of no other.

    `refresh` is for one thread; everything else may be called from any.

    Parameters
    ----------
    directories
        Where models are, besides the built-in ones.
    admit
        Asked by `refresh`, in a thread of its own, of every card that is new or changed; raises
        ModelError with the reason why it is not to be used.
    quiet_s
        For how long nothing in a folder may change before `refresh` takes it up.
    missing_ok
        Whether a directory that is not there is a problem like others, and is waited for.

    Raises
    ------
    ModelError
        ``model.directory_missing``: a configured directory is not there, without ``missing_ok``.
    """

    def __init__(
        self, directories: Sequence[Path] = (), *, admit: Admit | None = None,
        quiet_s: float = QUIET_S, missing_ok: bool = False,
    ) -> None:
        self._directories = [ZOO, *map(Path, directories)]
        self._admit = admit
        self._quiet_s = quiet_s
        self._one_at_a_time = threading.Lock()
        self._folders: dict[Path, ModelFolder] = {}
        self._holders: dict[tuple[str, str], Path] = {}
        self._away: dict[Path, Problem] = {}
        self._updated: dict[tuple[str, str], str] = {}
        self._live: Mapping[str, str] = {}
        self._withdrawn: frozenset[tuple[str, str]] = frozenset()
        self._doubts: deque[Path] = deque()
        self._aside: frozenset[tuple[str, str]] = frozenset()
        self._look_for_folders()
        for problem in self._away.values():
            if not missing_ok:
                raise ModelError(problem.message, reason=problem.reason)
        for folder in self._folders.values():
            folder.read()
        self._state = self._now()

    def refresh(self) -> list[Change]:
        """Look at the directories again and take up what came, changed or went.

        Costs one ``stat`` for each model while nothing changes. Of a directory that is away the
        models stay known. A problem is told once, when it begins and when it ends.
        """
        self._look_for_folders()
        while self._doubts:
            self._folder_of(self._doubts.popleft()).doubt()
        now_s = time.monotonic()
        changes = []
        for key, folder in list(self._folders.items()):
            if any(folder.path.is_relative_to(directory) for directory in self._away):
                continue
            change = folder.look(now_s, self._quiet_s, self._admit, self._one_at_a_time)
            if change is None:
                continue
            if change.what is What.REMOVED:
                del self._folders[key]
            self._note_update(change)
            if change.card is not None or change.former is not None:
                changes.append(change)
        before, self._state = self._state, self._now()
        return [*changes, *_difference(before.problems, self._state.problems)]

    def doubt(self, card: Card) -> None:
        """Have the next `refresh` look at the folder of a card again, though nothing changed there.

        If it is not admitted, the card is not used any more: of what was good once the weights
        may have been damaged or taken away.
        """
        self._doubts.append(card.folder)

    def set_aside_copies(self) -> None:
        """Use no version that several folders have in different forms, until one of them is left.

        For a beginning: whoever looked on while a copy came knows which was there before. Else
        the names of the folders would decide which of them runs.
        """
        forms: dict[tuple[str, str], set[str]] = {}
        for folder in self._folders.values():
            if folder.card is not None:
                name = (folder.card.id, folder.card.version)
                forms.setdefault(name, set()).add(folder.card.fingerprint)
        self._aside = frozenset(name for name, several in forms.items() if len(several) > 1)
        self._state = self._now()

    def knows(self, model_id: str) -> bool:
        """Whether some folder is this model, however bad it is; true while it cannot be told."""
        return bool(self.versions(model_id)) or self._broken(model_id) is not None

    def prefer(
        self, live: Mapping[str, str], withdrawn: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Say which version of each model is live, and which (id, version) are not to run again."""
        self._live, self._withdrawn = dict(live), frozenset(withdrawn)

    def cards(self) -> list[Card]:
        """Every card, by id; the versions of one id in the order in which they were found."""
        versions = self._state.versions
        return [card for model_id in sorted(versions) for card in versions[model_id]]

    def versions(self, model_id: str) -> tuple[Card, ...]:
        """The cards of one model in the order in which they were found; none of an unknown one."""
        return self._state.versions.get(model_id, ())

    def problems(self) -> list[Problem]:
        """Every folder that is not used as it is, and why."""
        return list(self._state.problems)

    def get(
        self, model_id: str, version: str | None = None, *, live: str | None = None
    ) -> Card:
        """The card of a model: of one version, or of the live one.

        ``live`` says which that is, in place of `prefer`. While nobody said so, it is the one
        that was found first. If it is gone, only the version that its folder has now takes its
        place: what is left in other folders nobody has said to run.

        Raises
        ------
        ModelError
            ``model.unknown``, naming those there are; the reason of the problem of a folder of
            that id, where it may be the one that is wanted, and what is wrong with it;
            ``model.no_live_version`` when what is left is not live.
        """
        cards = self.versions(model_id)
        broken = self._broken(model_id)
        if not cards and broken is not None:
            raise ModelError(
                f"model {model_id!r} cannot be used: {broken.message}", reason=broken.reason
            )
        if not cards:
            known = ", ".join(sorted(self._state.versions)) or "none"
            raise ModelError(
                f"no model {model_id!r}; there are: {known}", reason="model.unknown"
            )
        wanted = version or live or self._live.get(model_id) or cards[0].version
        found = _with_version(cards, wanted)
        if found is None and not version:
            found = _with_version(cards, self._updated.get((model_id, wanted), ""))
        if found is not None:
            return found
        there = ", ".join(card.version for card in cards)
        if version:
            raise ModelError(
                f"no version {version} of {model_id}; there are: {there}", reason="model.unknown"
            )
        if broken is not None:
            # What is damaged is not gone: another version does not take its place by itself.
            raise ModelError(
                f"the live version {wanted} of {model_id} cannot be used: {broken.message}",
                reason=broken.reason,
            )
        raise ModelError(
            f"the live version {wanted} of {model_id} is gone, and no other takes its place by "
            f"itself: bring its folder back, or choose one of {there} by "
            f"dicom-node models promote {model_id} VERSION",
            reason="model.no_live_version",
        )

    def card_for(self, model_id: str, version: str) -> Card:
        """What runs a job that was asked for with a version: that one, or else the live one.

        A version that is gone, or was withdrawn since, is not run any more.

        Raises
        ------
        ModelError
            As `get` raises it for the live one.
        """
        if (model_id, version) not in self._withdrawn:
            found = _with_version(self.versions(model_id), version)
            if found is not None:
                return found
        return self.get(model_id)

    def _broken(self, model_id: str) -> Problem | None:
        """What is wrong where this model is, or may be; ``None`` where nothing is."""
        broken = self._state.broken
        of_it = (one for one in broken if one.model_id == model_id)
        return next(of_it, next((one for one in broken if not one.model_id), None))

    def _folder_of(self, path: Path) -> ModelFolder:
        return next(
            (one for one in self._folders.values() if one.path == path), ModelFolder(path)
        )

    def _look_for_folders(self) -> None:
        for directory in self._directories:
            try:
                self._meet(_model_folders(directory))
                self._away.pop(directory, None)
            except ModelError as error:
                problem = Problem(
                    directory, str(error), datetime.now(UTC), "", reason=error.reason
                )
                self._away.setdefault(directory, problem)

    def _note_update(self, change: Change) -> None:
        """Remember which version took the place of which in its folder, over several updates."""
        card, former = change.card, change.former
        if card is None or former is None or card.id != former.id:
            return
        for name, version in list(self._updated.items()):
            if name[0] == card.id and version == former.version:
                self._updated[name] = card.version
        self._updated[card.id, former.version] = card.version

    def _meet(self, folders: Sequence[Path]) -> None:
        known = {one.path: key for key, one in self._folders.items()}
        for path in folders:
            key, former = path.resolve(), known.get(path)
            if key in self._folders:
                continue
            if former is None:
                self._folders[key] = ModelFolder(path)
                continue
            # A link that leads elsewhere now: what it was is not there beside what it is.
            self._folders[key] = self._folders.pop(former)
            self._holders = {
                name: key if holder == former else holder
                for name, holder in self._holders.items()
            }

    def _now(self) -> _State:
        versions: dict[str, tuple[Card, ...]] = {}
        problems = [*self._away.values()]
        broken = [*problems]
        cards = {key: one.card for key, one in self._folders.items() if one.card is not None}
        names = {key: (card.id, card.version) for key, card in cards.items()}
        # Whoever had a name first keeps it: a copy must not take the place of what runs.
        holders = {
            name: key for name, key in self._holders.items() if names.get(key) == name
        }
        self._aside &= {name for name, count in Counter(names.values()).items() if count > 1}
        for key, folder in self._folders.items():
            if folder.problem is not None:
                problems.append(folder.problem)
            if key not in cards:
                broken += [folder.problem] if folder.problem is not None else []
                continue
            card, holder = cards[key], holders.setdefault(names[key], key)
            if names[key] in self._aside:
                other = next(one for one in cards if one != key and names[one] == names[key])
                broken.append(duplicate(card, cards[other]))
                problems.append(broken[-1])
            elif holder == key:
                versions[card.id] = (*versions.get(card.id, ()), card)
            elif folder.problem is None:
                problems.append(duplicate(card, cards[holder]))
        self._holders = holders
        return _State(versions, tuple(problems), tuple(broken))


def _with_version(cards: Sequence[Card], version: str) -> Card | None:
    return next((card for card in cards if card.version == version), None)


def _difference(before: Sequence[Problem], after: Sequence[Problem]) -> list[Change]:
    """The problems that began, and those that ended."""
    known = {(one.folder, one.message) for one in before}
    still = {one.folder for one in after}
    began = [one for one in after if (one.folder, one.message) not in known]
    ended = [one for one in before if one.folder not in still]
    return [
        *(Change(What.PROBLEM, one.folder, problem=one) for one in began),
        *(Change(What.SOLVED, one.folder, problem=one) for one in ended),
    ]


def _model_folders(directory: Path) -> list[Path]:
    """The folders with a card in a directory, by name.

    Raises
    ------
    ModelError
        ``model.directory_missing``
    """
    if (directory / CARD_NAME).is_file():
        return [directory]
    try:
        names = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ModelError(
            f"the model directory {directory} does not exist or cannot be read: "
            f"{error.strerror}", reason="model.directory_missing",
        ) from error
    return [path for path in names if (path / CARD_NAME).is_file()]
