"""Tests of dicom_node.imaging."""
