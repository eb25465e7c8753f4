"""Every storage class pynetdicom knows, every transfer syntax whose pixels come along."""

from __future__ import annotations

from pynetdicom.sop_class import _STORAGE_CLASSES

from dicom_node.intake.contexts import (
    VERIFICATION,
    SupportedContexts,
    storage_transfer_syntaxes,
)

NAMED = {
    "implicit little endian": "1.2.840.10008.1.2",
    "explicit little endian": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "explicit big endian": "1.2.840.10008.1.2.2",
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG extended": "1.2.840.10008.1.2.4.51",
    "JPEG lossless process 14": "1.2.840.10008.1.2.4.57",
    "JPEG lossless SV1": "1.2.840.10008.1.2.4.70",
    "JPEG-LS lossless": "1.2.840.10008.1.2.4.80",
    "JPEG-LS": "1.2.840.10008.1.2.4.81",
    "JPEG 2000 lossless": "1.2.840.10008.1.2.4.90",
    "JPEG 2000": "1.2.840.10008.1.2.4.91",
    "MPEG-2": "1.2.840.10008.1.2.4.100",
    "MPEG-4": "1.2.840.10008.1.2.4.102",
    "HEVC": "1.2.840.10008.1.2.4.107",
    "HTJ2K lossless": "1.2.840.10008.1.2.4.201",
    "HTJ2K": "1.2.840.10008.1.2.4.203",
    "RLE": "1.2.840.10008.1.2.5",
}


def test_every_storage_class_and_verification_is_supported() -> None:
    supported = {str(context.abstract_syntax) for context in SupportedContexts().all()}
    # A private class of another test stays in pynetdicom's table for the whole process.
    standard = {uid for uid in _STORAGE_CLASSES.values() if uid.startswith("1.2.840.10008.")}
    assert supported == standard | {VERIFICATION}


def test_every_transfer_syntax_that_carries_its_pixels_is_listed_once() -> None:
    listed = storage_transfer_syntaxes()
    assert len(listed) == len(set(listed))
    assert set(NAMED.values()) <= set(listed)
    assert "1.2.840.10008.1.2.4.94" not in listed


def test_only_what_is_asked_for_is_matched_and_once() -> None:
    ct = "1.2.840.10008.5.1.4.1.1.2"
    found = SupportedContexts().matching([ct, "1.2.3", VERIFICATION, ct])
    assert [str(context.abstract_syntax) for context in found] == [ct, VERIFICATION]
