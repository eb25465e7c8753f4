"""DICOM Node: receives images, routes them to AI models, stores DICOM results back in the PACS."""

__version__ = "0.1.0"
# How this implementation names itself in files and associations (PS3.7 D.3.3.2); fixed for the
# product, derived like our other UIDs (2.25 and a UUID).
IMPLEMENTATION_CLASS_UID = "2.25.302415288372834911905731540216447301123"
IMPLEMENTATION_VERSION_NAME = "DICOM_NODE"
