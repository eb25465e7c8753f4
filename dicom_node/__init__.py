"""DICOM Node: receives images, routes them to AI models, stores DICOM results back in the PACS."""

__version__ = "0.1.0"
