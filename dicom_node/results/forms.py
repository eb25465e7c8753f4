"""Builds the forms of a result that ``dicom_node.results.profile`` chooses for destinations.

Everything is built from the objects that the node keeps, and passes its gate before it is handed
out. What cannot be built is replaced: the plan is made anew without it, and says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.errors import NodeError, TransientError
from dicom_node.records import DestinationProfile
from dicom_node.results.form_builders import Source, Workbench, selection_of
from dicom_node.results.kept import Kept
from dicom_node.results.profile import KEY_OBJECTS_WISH, Sending, Wanted, Wish, plan
from dicom_node.results.segmentation import LABEL_MAP_OVERLAP

__all__ = ["Derived", "Kept", "Prepared", "Source", "prepare"]


@dataclass(frozen=True)
class Derived:
    """One object of a form; ``made_from`` is the SOP Instance UID of the kept object."""

    sending: Sending
    dataset: Dataset
    made_from: str


@dataclass(frozen=True)
class Prepared:
    """What goes to each destination.

    Attributes
    ----------
    plans
        Destination to what it gets, in sending order; empty where nothing fits.
    derived
        Every object that a plan names and that is not kept already.
    failed
        Forms that could not be built, and why: free of patient data.
    """

    plans: Mapping[str, tuple[Sending, ...]]
    derived: tuple[Derived, ...]
    failed: Mapping[Wish, str]

    def objects_for(self, destination: str, kept: Kept) -> list[tuple[Sending, Dataset]]:
        """The objects of the plan of ``destination``, in sending order."""
        of_wish: dict[Wish, list[Dataset]] = {}
        for kind, dataset in kept:
            of_wish.setdefault((kind, ""), []).append(dataset)
        for one in self.derived:
            of_wish.setdefault(one.sending.wish, []).append(one.dataset)
        return [
            (sending, dataset)
            for sending in self.plans[destination]
            for dataset in of_wish[sending.wish]
        ]


def prepare(
    destinations: Mapping[str, tuple[DestinationProfile | None, Wanted]],
    kept: Kept,
    source: Source,
) -> Prepared:
    """Choose what goes to each destination and build what is not kept.

    Parameters
    ----------
    kept
        Every object that the node keeps of the result, at least one report; in memory or read
        from the outbox, the forms are the same.

    Raises
    ------
    TransientError
        ``source.display`` could not read the images just now.
    """
    modality = str(source.source_images[0].get("Modality", ""))
    impossible = _impossible(kept, source)
    kinds = [kind for kind, _ in kept]
    workbench = Workbench(kept, source)
    made: dict[Wish, list[Derived]] = {}
    failed: dict[Wish, str] = {}
    while True:
        plans = {
            name: plan(kinds, profile, wanted, modality, {**impossible, **failed})
            for name, (profile, wanted) in destinations.items()
        }
        chosen = [one for sendings in plans.values() for one in sendings if one.form]
        open_ones = [one for one in chosen if one.wish not in made]
        if not open_ones:
            used = {one.wish for one in chosen}
            derived = [one for wish, ones in made.items() if wish in used for one in ones]
            return Prepared(plans, tuple(derived), failed)
        _build(open_ones, workbench, made, failed)


def _impossible(kept: Kept, source: Source) -> dict[Wish, str]:
    """Forms that cannot hold what was found, and why."""
    overlap = any(
        kind == "segmentation" and dataset.get("SegmentsOverlap") == "YES"
        for kind, dataset in kept
    )
    found: dict[Wish, str] = {}
    if overlap:
        found["segmentation", "labelmap"] = LABEL_MAP_OVERLAP
    is_marked = any(kind == "segmentation" for kind, _ in kept)
    if not is_marked and selection_of(kept, source.source_images) is None:
        found[KEY_OBJECTS_WISH] = "the answer rests on no image in particular"
    return found


def _build(
    sendings: Iterable[Sending],
    workbench: Workbench,
    made: dict[Wish, list[Derived]],
    failed: dict[Wish, str],
) -> None:
    """Build each form among ``sendings`` once: what succeeds is ``made``, the rest ``failed``."""
    for sending in sendings:
        wish = sending.wish
        if wish in made or wish in failed:
            continue
        try:
            built = workbench.build(wish)
        except TransientError:
            raise
        except NodeError as problem:
            failed[wish] = f"{sending.kind} could not be built ({problem.reason})"
        # A boundary: odd data may break one form in a library, and another form is the answer.
        except Exception as problem:  # noqa: BLE001
            failed[wish] = f"{sending.kind} could not be built ({type(problem).__name__})"
        else:
            made[wish] = [Derived(sending, dataset, made_from) for dataset, made_from in built]
