"""Tests of dicom_node/delivery."""
