"""What the loop asks for: the example of a number, cut out of a case and changed at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.utils.data import default_collate

from ai_models.card import Card, ClassificationCard, DetectionCard, SegmentationCard
from ai_models.training.augmentation import Augmentation, Augmenter
from ai_models.training.cases import Case
from ai_models.training.loop import Batch, Example, generator_of, shuffled
from ai_models.training.prepared import Cases, KeptCase
from ai_models.training.settings import TrainingError
from ai_models.types import FloatArray

Index = npt.NDArray[np.int64]
# A thing of which less is in a crop is not one of its boxes.
_LEAST_INSIDE = 0.5


class CaseExamples:
    """Examples of cases, in an order that each has its turn in.

    Parameters
    ----------
    window
        Edges of the crops; ``None``: whole inputs.
    foreground
        Of so many crops the middle is a voxel of a label, each label as often as another.
    """

    def __init__(
        self, cases: Sequence[Case], card: Card, kept: Cases, wanted: Augmentation, *,
        window: Sequence[int] | None, foreground: float = 0.6, seed: int = 20,
    ) -> None:
        if not cases:
            raise TrainingError("there is no case to train on")
        self.cases, self.card, self.kept, self.seed = list(cases), card, kept, seed
        self.window = tuple(window) if window is not None else None
        self.foreground = foreground
        self.order = shuffled(len(self.cases), seed)
        self.wanted = wanted
        self.augmenters: dict[tuple[int, int], Augmenter] = {}
        self.names = [one.name for one in (*getattr(card.output, "scores", ()),
                                           *getattr(card.output, "quantities", ()))]
        self._check()

    def _check(self) -> None:
        needs_labels = isinstance(self.card, SegmentationCard | DetectionCard)
        for case in self.cases:
            if needs_labels and not case.labels:
                raise TrainingError(f"{case.name} has no label")
            missing = [one for one in self.names if one not in case.values]
            if missing and not case.labels:
                raise TrainingError(f"{case.name} does not say its {', '.join(missing)}")

    def __call__(self, number: int) -> Example:
        """The example of a number: ``image``, and by the task ``target``, ``values``, ``boxes``."""
        rng = generator_of(self.seed, number)
        case = self.cases[self.order(number)]
        kept = self.kept.kept(case)
        image, target = self._cut(kept, rng)
        pictures = len(image) - self.card.input.constant_channels
        changed, labels = self._augmenter(image.ndim - 1, pictures)(
            torch.from_numpy(image), None if target is None else torch.from_numpy(target), rng
        )
        example: dict[str, Any] = {"image": changed}
        if isinstance(self.card, SegmentationCard):
            example["target"] = labels
        elif isinstance(self.card, DetectionCard) and labels is not None:
            example["boxes"] = boxes_of(labels.numpy(), kept.classes, kept.voxels)
        else:
            example |= self._values(case, labels)
        return example

    def _augmenter(self, axes: int, pictures: int) -> Augmenter:
        if (axes, pictures) not in self.augmenters:
            self.augmenters[axes, pictures] = Augmenter(self.wanted, axes, pictures)
        return self.augmenters[axes, pictures]

    def _cut(
        self, kept: KeptCase, rng: np.random.Generator
    ) -> tuple[FloatArray, npt.NDArray[Any] | None]:
        """A crop, padded with what lies outside; of whole inputs all of it.

        Where the network takes slices of a volume, one of them.
        """
        image, target = kept.image, kept.target
        shape = np.array(image.shape[1:])
        centre = self._centre(kept, shape, rng)
        if self.card.input.ndim == 2 and image.ndim == 4:
            image = image[:, centre[0]]
            target = None if target is None else target[centre[0]]
            shape, centre = shape[1:], centre[1:]
        if self.window is None:
            return _own(image), None if target is None else _own(target)
        window = np.array(self.window)
        # A crop stays inside wherever it can.
        most = np.maximum(shape - window, 0)
        start = np.clip(centre - window // 2, 0, most)
        inside = tuple(slice(int(a), int(min(a + w, n)))
                       for a, w, n in zip(start, window, shape, strict=True))
        pad = [(0, int(w - (side.stop - side.start)))
               for w, side in zip(window, inside, strict=True)]
        cut = np.pad(image[(slice(None), *inside)], [(0, 0), *pad],
                     constant_values=kept.background)
        return cut, None if target is None else np.pad(target[inside], pad)

    def _centre(self, kept: KeptCase, shape: Index, rng: np.random.Generator) -> Index:
        labels = sorted(kept.places)
        if labels and rng.random() < self.foreground:
            places = kept.places[labels[int(rng.integers(len(labels)))]]
            place: Index = places[int(rng.integers(len(places)))].astype(np.int64)
            if self.window is not None and len(self.window) == len(place):
                # Not always in the very middle: elsewhere a network would not look for it.
                reach = np.array(self.window) // 4
                place = place + rng.integers(-reach, reach + 1)
            return np.clip(place, 0, shape - 1)
        return rng.integers(0, shape)

    def _values(self, case: Case, labels: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Scores or quantities of the case, and where it has labels, what these tell.

        A slice has what is marked in it, a series what is marked in any slice.
        """
        values = [case.values.get(name, 0.0) for name in self.names]
        found: dict[str, torch.Tensor] = {}
        if isinstance(self.card, ClassificationCard) and labels is not None:
            slices = (labels if labels.ndim == 3 else labels[None]).flatten(1)
            marked = torch.stack([
                (slices == number).any(dim=1) for number in range(1, len(self.names) + 1)
            ], dim=1).float()
            if self.card.output.per == "sequence":
                found["slices"] = marked
            if labels.ndim == 2 or not set(self.names) <= set(case.values):
                values = marked.amax(dim=0).tolist()
        found["values"] = torch.tensor(values, dtype=torch.float32)
        return found


def _own(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy that may be changed, of an array that lies in a file."""
    return np.array(array)


def boxes_of(
    things: npt.NDArray[Any], classes: npt.NDArray[np.int64], voxels: npt.NDArray[np.int64]
) -> dict[str, torch.Tensor]:
    """Corners ``(n, 6)`` of what is in a crop, voxel ``i`` from ``i`` to ``i + 1``; and the class.

    ``voxels[k]`` is how many thing ``k`` has in all: one that is mostly elsewhere is left out.
    """
    boxes, labels = [], []
    here = np.bincount(np.ravel(things), minlength=len(voxels))
    for number, box in enumerate(ndimage.find_objects(things.astype(np.int32)), start=1):
        if box is None or here[number] < _LEAST_INSIDE * voxels[number]:
            continue
        boxes.append([*(side.start for side in box), *(side.stop for side in box)])
        labels.append(int(classes[number - 1]) - 1)
    axes = things.ndim
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 2 * axes),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def together(examples: list[Example]) -> Batch:
    """A batch of examples; boxes stay a list, for each has another number of them.

    Raises
    ------
    TrainingError
        The inputs are of several sizes.
    """
    boxes = [one["boxes"] for one in examples if "boxes" in one]
    plain = [{name: one for name, one in example.items() if name != "boxes"}
             for example in examples]
    sizes = {tuple(one["image"].shape) for one in plain}
    if len(sizes) > 1:
        raise TrainingError(
            f"inputs of {len(sizes)} sizes cannot be computed together: set input.size in the "
            "card, runtime.roi, or training.at_once to 1"
        )
    batch: Batch = default_collate(plain)
    return batch | {"boxes": boxes} if boxes else batch
