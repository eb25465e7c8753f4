"""The SOP classes that results are of (PS3.4 B.5), and what people call them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"

CLASS_NAMES: Mapping[str, str] = MappingProxyType(
    {
        SEGMENTATION: "Segmentation (66.4)",
        LABEL_MAP_SEGMENTATION: "Label Map Segmentation (66.7)",
        PARAMETRIC_MAP: "Parametric Map (30)",
        COMPREHENSIVE_3D_SR: "Comprehensive 3D SR (88.34)",
        COMPREHENSIVE_SR: "Comprehensive SR (88.33)",
        ENHANCED_SR: "Enhanced SR (88.22)",
        BASIC_TEXT_SR: "Basic Text SR (88.11)",
        RT_STRUCTURE_SET: "RT Structure Set (481.3)",
        PRESENTATION_STATE: "Grayscale Softcopy Presentation State (11.1)",
        SECONDARY_CAPTURE: "Secondary Capture (7)",
        KEY_OBJECTS: "Key Object Selection Document (88.59)",
        ENCAPSULATED_PDF: "Encapsulated PDF (104.1)",
    }
)
