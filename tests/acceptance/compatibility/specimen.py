"""One object that is shown to the tools, and what they should find in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SegmentationStorage,
)

from tests.dicom_samples import write_instance, write_series

LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENTATIONS = (SegmentationStorage, LABEL_MAP_SEGMENTATION)
REPORTS = (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    BasicTextSRStorage,
)
DOCUMENTS = (*REPORTS, KeyObjectSelectionDocumentStorage)
PARAMETRIC_MAP = ParametricMapStorage


@dataclass(frozen=True)
class Specimen:
    """An object of one kind.

    Attributes
    ----------
    kind, form
        As the ledger calls them; the form is empty for what the node keeps of every result.
    of
        What sets it apart from others of its kind: its source, its template.
    dataset
        The object itself.
    sources
        The images it was made from, with pixel data, in slice order.
    voxels
        Segment number (or label) to voxels above zero, as they were written.
    measurements
        Lengths and areas that a viewer can draw on the images.
    """

    kind: str
    of: str
    dataset: Dataset
    sources: Sequence[Dataset]
    voxels: Mapping[int, int] = field(default_factory=dict)
    measurements: int = 0
    form: str = ""

    @property
    def name(self) -> str:
        """How the row is called."""
        says_more = self.form and self.form != self.kind.replace(" ", "_")
        return f"{self.kind}{f' ({self.form})' if says_more else ''}, {self.of}"


@dataclass(frozen=True)
class Filed:
    """A specimen as Part 10 files."""

    specimen: Specimen
    path: Path
    sources: tuple[Path, ...]

    @property
    def sop_class(self) -> str:
        """SOP Class UID of the object."""
        return str(self.specimen.dataset.SOPClassUID)


def write(specimens: Sequence[Specimen], directory: Path) -> list[Filed]:
    """Write every specimen and its sources below ``directory``; sources are shared."""
    directory.mkdir(parents=True, exist_ok=True)
    written: dict[str, tuple[Path, ...]] = {}
    filed = []
    for number, specimen in enumerate(specimens):
        series = str(specimen.sources[0].SeriesInstanceUID)
        if series not in written:
            folder = directory / f"source-{len(written):02d}"
            written[series] = tuple(write_series(specimen.sources, folder))
        path = directory / f"{number:02d}.dcm"
        filed.append(Filed(specimen, write_instance(specimen.dataset, path), written[series]))
    return filed
