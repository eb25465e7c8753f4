"""A scanner is named by make, model and what changes its pictures, and by nothing else."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.pipeline.scanner import UNKNOWN, scanner_of


def _header(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def test_a_ct_is_told_apart_by_its_kernel_and_an_mr_by_its_field() -> None:
    assert scanner_of(_header(
        Modality="CT", Manufacturer="SIEMENS", ManufacturerModelName="Definition",
        ConvolutionKernel=["I41f", "3"], DeviceSerialNumber="12345", StationName="CT02",
        InstitutionName="St. Elsewhere", MagneticFieldStrength="3",
    )) == "SIEMENS, Definition, I41f 3"
    assert scanner_of(_header(
        Modality="MR", Manufacturer="GE, Medical", ManufacturerModelName="SIGNA",
        MagneticFieldStrength="1.5",
    )) == "GE  Medical, SIGNA, 1.5 T"


def test_a_header_that_says_nothing_is_an_unknown_scanner() -> None:
    assert scanner_of(_header(Modality="CT", Manufacturer="")) == UNKNOWN
    assert scanner_of(Dataset()) == UNKNOWN
