"""Reports as data: templates in YAML and the code that turns them into DICOM SR content."""
