"""What a model computed, as DICOM objects: headers, segmentation, reports, pictures, gate."""
