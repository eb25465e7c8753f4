"""Which of several series on disk a model takes together: by the roles of its card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.cli.output import tell_skipped
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.imaging.elements import text
from dicom_node.imaging.reading import read_header
from dicom_node.imaging.scan import scan
from dicom_node.input_roles import PHASES, role_of_phases
from dicom_node.pipeline.companions import load_together
from dicom_node.pipeline.loading import Loaded

if TYPE_CHECKING:
    from ai_models.card_input import CompanionEntry, InputEntry

Series = Mapping[str, Sequence[Path]]
"""Series Instance UID to files."""


@dataclass(frozen=True)
class Together:
    """One series with those that the model takes beside it.

    ``companions`` are files by role; ``missing`` says why there are none; ``uids`` are the Series
    Instance UIDs of the companions.
    """

    uid: str
    paths: Sequence[Path]
    companions: dict[str, Sequence[Path]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    uids: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    modality: str
    frame_of_reference_uid: str


def together(series: Series, entry: InputEntry, named: Mapping[str, Series] = {}) -> list[Together]:
    """Every series that is no companion of another, each with its companions.

    Parameters
    ----------
    named
        Series that somebody gave for a role, by role; they are companions and nothing else.

    Raises
    ------
    NodeError
        ``input.several_companions``: more than one series could have a role.
    ConfigurationError
        The card has no such role.
    """
    roles = {one.role for one in entry.companions}
    roles |= {PHASES} if entry.phases != 1 else set()
    for role in named:
        if role not in roles:
            there = ", ".join(sorted(roles)) or "none"
            raise ConfigurationError(
                f"the model takes no {role!r}; its further series: {there}", key_path="--input"
            )
    given = {uid for one in named.values() for uid in one}
    places = {uid: _place(paths) for uid, paths in series.items()}
    references = [
        uid for uid in series
        if uid not in given and (places[uid].modality in entry.modality or not entry.companions)
    ]
    found = [
        _with_companions(uid, series, entry, named, places, given) for uid in references
    ]
    taken = given | {uid for one in found for uid in one.uids.values()}
    # What nothing takes is shown to the model, which says why not.
    rest = [uid for uid in series if uid not in taken and uid not in references]
    return [*found, *(Together(uid, series[uid]) for uid in rest)]


def found_in(paths: Iterable[Path]) -> tuple[dict[str, list[Path]], list[tuple[Path, str]]]:
    """The series in some files and folders, and the files left out with a reason each.

    Raises
    ------
    NodeError
        ``input.no_dicom``: there is none.
    """
    series, skipped = scan(paths)
    if not series:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in skipped[:5])
        raise NodeError(f"no DICOM series was found. {reasons}", reason="input.no_dicom")
    return series, skipped


def loaded_together(shown: Together, entry: InputEntry) -> Loaded:
    """The series and its companions as the card asks; raises as `load_input` and companions do."""
    return load_together(shown.paths, entry, shown.companions, shown.missing)


def largest_together(paths: Sequence[Path], entry: InputEntry) -> Together | None:
    """The largest series below some paths that the model could take, with what belongs to it.

    ``None`` where no paths were given. Raises as `found_in` and `together`.
    """
    if not paths:
        return None
    series, skipped = found_in(paths)
    tell_skipped(skipped)
    if not entry.companions:
        uid = max(series, key=lambda one: len(series[one]))
        return Together(uid, series[uid])
    found = together(series, entry)
    return max(found, key=lambda one: (bool(one.companions or one.missing), len(one.paths)))


def _with_companions(
    uid: str, series: Series, entry: InputEntry, named: Mapping[str, Series],
    places: Mapping[str, _Place], given: set[str],
) -> Together:
    one = Together(uid, series[uid])
    for number, paths in enumerate(named.get(PHASES, {}).values(), start=1):
        one.companions[role_of_phases(number)] = paths
    for companion in entry.companions:
        candidates = named.get(companion.role)
        if candidates is None:
            candidates = {
                other: paths for other, paths in series.items()
                if other != uid and other not in given
                and _may_be(companion, places[other], places[uid])
            }
        if len(candidates) > 1:
            raise NodeError(
                f"{len(candidates)} series could be {companion.role}: name one with "
                f"--input {companion.role}=PATH", reason="input.several_companions",
            )
        if not candidates:
            one.missing[companion.role] = "not among the files"
        for other, paths in candidates.items():
            one.companions[companion.role] = paths
            one.uids[companion.role] = other
    return one


def _may_be(companion: CompanionEntry, place: _Place, reference: _Place) -> bool:
    return (
        place.modality in companion.modality
        and bool(place.frame_of_reference_uid)
        and place.frame_of_reference_uid == reference.frame_of_reference_uid
    )


def _place(paths: Sequence[Path]) -> _Place:
    header = read_header(paths[0]).dataset
    return _Place(text(header, "Modality"), text(header, "FrameOfReferenceUID"))
