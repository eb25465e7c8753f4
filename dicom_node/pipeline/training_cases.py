"""DICOM for a training: series with what figures are told apart by, read as a model will get them.

`ai_models.training` knows no DICOM images; this is the reader that it is handed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ai_models.training.cases import Series
from ai_models.training.metrics import age_band
from ai_models.training.settings import TrainingError
from dicom_node.errors import NodeError
from dicom_node.imaging.elements import number, sequence, text
from dicom_node.imaging.patient import age_in_years
from dicom_node.imaging.reading import read_header
from dicom_node.imaging.scan import scan
from dicom_node.pipeline.companions import load_together

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from ai_models.card_entries import InputEntry
    from ai_models.types import ModelInput


class NodeReader:
    """Finds and reads series by the code that reads those of patients."""

    def series(self, folder: Path) -> list[Series]:
        """Every series below a folder, by the header of its first file."""
        found, _ = scan([folder])
        return [_described(uid, paths) for uid, paths in found.items()]

    def load(self, images: Mapping[str, Sequence[Path]], entry: InputEntry) -> ModelInput:
        """The input of a model, by role; ``""`` is the card's own series.

        Raises
        ------
        TrainingError
            The series cannot be used; the message begins with the node's reason.
        """
        companions = {role: paths for role, paths in images.items() if role}
        try:
            return load_together(list(images[""]), entry, companions).model_input
        except NodeError as error:
            raise TrainingError(f"{images[''][0].parent}: {error.reason}: {error}") from error


def _described(uid: str, paths: Sequence[Path]) -> Series:
    header = read_header(paths[0]).dataset
    study = text(header, "StudyInstanceUID")
    # Whoever took the names out may have taken the numbers out as well: then by examination.
    patient = text(header, "PatientID")
    issuer = text(header, "IssuerOfPatientID")
    return Series(
        uid, text(header, "Modality"), tuple(paths), f"{issuer}\n{patient}" if patient else study,
        study, text(header, "FrameOfReferenceUID"), _attributes(header),
        frozenset(text(one, "SeriesInstanceUID")
                  for one in sequence(header, "ReferencedSeriesSequence")),
    )


def _attributes(header: Dataset) -> dict[str, str]:
    """Without the patient: sex, decade of age, and how the images were made."""
    strength = number(header, "MagneticFieldStrength")
    told = {
        "sex": text(header, "PatientSex"),
        "age": age_band(age_in_years(header)),
        "manufacturer": text(header, "Manufacturer"),
        "kernel": text(header, "ConvolutionKernel"),
        "field_strength": f"{strength:g} T" if strength is not None else "",
    }
    return {name: one for name, one in told.items() if one and one != "unknown"}
