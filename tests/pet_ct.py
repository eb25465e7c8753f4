"""A small PET-CT study as pydicom data sets: one patient, one frame of reference, two grids."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage

from tests.dicom_samples import ORIGIN_MM, ct_series, with_attributes

HALF_LIFE_S = 6586.2
DOSE_BQ = 350e6
WEIGHT_KG = 70.0
STEP_BQML = 2.0


def pet_of(
    reference: Dataset,
    shape: tuple[int, int, int] = (6, 10, 8),
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0),
    *,
    values_bqml: np.ndarray | None = None,
    **attributes: Any,
) -> list[Dataset]:
    """A PET of the patient, study and frame of reference of ``reference``, decayed to its start.

    Injected an hour before the scan. ``values_bqml`` are even numbers up to 60000.
    """
    values = np.zeros(shape) if values_bqml is None else values_bqml
    datasets = ct_series(
        values.shape, spacing_mm, origin_mm=ORIGIN_MM,
        values_hu=np.rint(values / STEP_BQML).astype(np.int16) - 1024,
    )
    injected = Dataset()
    injected.Radiopharmaceutical = "FDG"
    injected.RadiopharmaceuticalStartTime = "091500"
    injected.RadionuclideTotalDose = str(DOSE_BQ)
    injected.RadionuclideHalfLife = str(HALF_LIFE_S)
    for dataset in datasets:
        dataset.SOPClassUID = PositronEmissionTomographyImageStorage
        dataset.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        dataset.Modality = "PT"
        dataset.SeriesNumber = 4
        for keyword in (
            "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
            "FrameOfReferenceUID", "StudyDate", "StudyTime",
        ):
            setattr(dataset, keyword, reference[keyword].value)
        dataset.SeriesTime, dataset.AcquisitionDate = "101500", dataset.SeriesDate
        dataset.AcquisitionTime = "101500"
        dataset.RescaleIntercept, dataset.RescaleSlope = "0", str(STEP_BQML)
        dataset.Units = "BQML"
        dataset.DecayCorrection = "START"
        dataset.CorrectedImage = ["NORM", "DTIM", "ATTN", "SCAT", "DECY"]
        dataset.PatientWeight = str(WEIGHT_KG)
        dataset.ActualFrameDuration, dataset.FrameReferenceTime = "120000", "0"
        dataset.RadiopharmaceuticalInformationSequence = [injected]
        for keyword in ("RescaleType", "KVP"):
            delattr(dataset, keyword)
    return with_attributes(datasets, **attributes)


def suv_of(bqml: float, elapsed_s: float = 3600.0) -> float:
    """SUVbw in g/ml by the definition."""
    return bqml * WEIGHT_KG * 1000.0 / (DOSE_BQ * 0.5 ** (elapsed_s / HALF_LIFE_S))
