"""Images of a series that cannot be read: which they are, and when the rest may do without them.

A file may be cut, hold noise instead of a codestream, or bring a codec down. It is left out, and
the result says so, when at most a tenth and at most `MOST_LEFT_OUT` of the images are like that
and the others pass every check of `dicom_node.imaging.geometry`: then it lay at an end of the
stack, or the limits allow the hole. No mask is ever claimed for it. Otherwise the series is
declined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import PermanentError, UnsuitableInput
from dicom_node.imaging.planes import InputNote

MOST_LEFT_OUT = 3
LEFT_OUT = "input.unreadable_left_out"
_NAMED = 5
_COSTLY = frozenset({"input.codec_crashed", "input.codec_timeout"})


@dataclass(frozen=True)
class UnreadableInstance:
    """One image that cannot be read.

    ``reason`` is the code of the error; ``position_mm`` is Image Position (Patient), LPS, where
    the header could be read and has one.
    """

    path: Path
    reason: str
    position_mm: tuple[float, ...] = ()


class UnreadableInstances(UnsuitableInput):
    """Too many images of a series are unreadable, or the others are no stack without them."""

    reason = "input.unreadable_instances"

    def __init__(
        self,
        instances: Sequence[UnreadableInstance],
        images: int,
        why: str,
        folder: Path | None = None,
    ) -> None:
        self.instances, self._images, self._why = tuple(instances), images, why
        super().__init__(f"{named(instances, images, folder)}; {why}")

    def below(self, folder: Path) -> UnreadableInstances:
        """The same with paths relative to ``folder``."""
        return UnreadableInstances(self.instances, self._images, self._why, folder)


def is_costly(error: PermanentError) -> bool:
    """Whether finding out took the life of a codec process."""
    return error.reason in _COSTLY


def too_many(unreadable: int, images: int) -> bool:
    """Whether so many unreadable images end the series."""
    return unreadable > min(MOST_LEFT_OUT, images // 10)


def named(instances: Sequence[UnreadableInstance], images: int, folder: Path | None = None) -> str:
    """How many, and the first of them with path (relative to ``folder``) and reason code."""
    first = [f"{_below(one.path, folder)} ({one.reason})" for one in instances[:_NAMED]]
    if len(instances) > _NAMED:
        first.append(f"{len(instances) - _NAMED} more")
    return f"{len(instances)} of {images} images cannot be read: {', '.join(first)}"


def left_out(instances: Sequence[UnreadableInstance], images: int) -> InputNote:
    """What the result must say: how many, and where they lie. No path, for it goes to others."""
    places = sorted(_place(one) for one in instances)
    were = "was" if len(instances) == 1 else "were"
    return InputNote(
        LEFT_OUT,
        f"{len(instances)} of {images} images could not be read and {were} left out, nothing is "
        f"said of them: {'; '.join(places)}",
    )


def _place(one: UnreadableInstance) -> str:
    if len(one.position_mm) != 3:
        return "one at an unknown position"
    return "slice at ({:.1f}, {:.1f}, {:.1f}) mm".format(*one.position_mm)


def _below(path: Path, folder: Path | None) -> Path:
    return path.relative_to(folder) if folder and path.is_relative_to(folder) else path
