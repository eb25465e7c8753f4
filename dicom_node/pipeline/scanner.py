"""Which scanner a series is from, in words that tell no patient, no hospital and no single device.

Manufacturer (0008,0070), Manufacturer's Model Name (0008,1090), and what makes the pictures of one
model look like those of two: Convolution Kernel (0018,1210) of a CT, Magnetic Field Strength
(0018,0087) of an MR. Device Serial Number, Station Name and Institution Name are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_models.types import writable

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_LONGEST_PART = 64
UNKNOWN = "unknown scanner"


def scanner_of(header: Dataset) -> str:
    """``SIEMENS, Sensation 64, B30f``; ``unknown scanner`` where the header says nothing."""
    parts = [_text(header, "Manufacturer"), _text(header, "ManufacturerModelName")]
    if header.get("Modality") == "CT":
        parts.append(_text(header, "ConvolutionKernel"))
    elif header.get("Modality") == "MR" and (strength := _text(header, "MagneticFieldStrength")):
        parts.append(f"{strength} T")
    return ", ".join(part for part in parts if part) or UNKNOWN


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    # Siemens writes a kernel as two values, I41f and 3.
    several = isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
    values = list(value or ()) if several else [value]
    words = [str(one).strip(" \0") for one in values if one not in (None, "")]
    return writable(" ".join(words).replace(",", " "), _LONGEST_PART).strip()
