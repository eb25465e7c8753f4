"""Tests of DICOM Node."""
