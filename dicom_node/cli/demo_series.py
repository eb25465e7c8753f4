"""A generated chest as a CT series, for the demonstration: no patient is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.results.identity import derived_uid

if TYPE_CHECKING:
    from ai_models.array.phantom import ChestPhantom


def write_phantom_series(folder: Path, seed: int) -> list[Path]:
    """Draw a chest and write it as CT Image Storage; the same seed gives the same UIDs."""
    from ai_models.array.phantom import chest_phantom

    phantom = chest_phantom(seed)
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _write_slice(phantom, index, seed, folder) for index in range(len(phantom.volume_hu))
    ]


def _write_slice(phantom: ChestPhantom, index: int, seed: int, folder: Path) -> Path:
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    affine = phantom.affine_lps
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    sop_instance_uid = derived_uid("demo", "instance", seed, index)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, sop_instance_uid
    dataset.StudyInstanceUID = derived_uid("demo", "study", seed)
    dataset.SeriesInstanceUID = derived_uid("demo", "series", seed)
    dataset.FrameOfReferenceUID = derived_uid("demo", "frame of reference", seed)
    dataset.PatientName, dataset.PatientID = "PHANTOM^CHEST", f"PHANTOM-{seed}"
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20260101"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber, dataset.StudyID, dataset.ReferringPhysicianName = "", "1", ""
    dataset.StudyDescription, dataset.SeriesDescription = "Chest phantom", "Generated chest CT"
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "CT", 1, index + 1
    dataset.Manufacturer, dataset.ManufacturerModelName = "DICOM Node project", "Chest phantom"
    dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    dataset.BodyPartExamined, dataset.PatientPosition = "CHEST", "HFS"
    dataset.PositionReferenceIndicator, dataset.KVP, dataset.AcquisitionNumber = "", None, 1
    dataset.ImagePositionPatient = [float(v) for v in (affine @ [index, 0, 0, 1])[:3]]
    dataset.ImageOrientationPatient = [
        float(v) for axis in (2, 1) for v in affine[:3, axis] / spacing_mm[axis]
    ]
    dataset.PixelSpacing = [float(spacing_mm[1]), float(spacing_mm[2])]
    dataset.SliceThickness = float(spacing_mm[0])
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = -500, 1500
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = phantom.volume_hu.shape[1:]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    stored = np.clip(phantom.volume_hu[index].astype(np.int32) + 1024, -32768, 32767)
    dataset.PixelData = stored.astype("<i2").tobytes()
    path = folder / f"{index:04d}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path
