"""``python -m dicom_node``."""

from dicom_node.cli.main import main

main()
