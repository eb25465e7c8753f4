"""DICOM images to arrays with their place in the patient: volumes, radiographs, decoding."""
