"""Facts for conformance statements, collected once: results are built for them."""

from __future__ import annotations

import pytest

from dicom_node.cli.conformance_facts import collect
from dicom_node.config import Config
from dicom_node.operations.conformance_facts import Facts


@pytest.fixture(scope="session")
def facts() -> Facts:
    """What a node without settings knows of itself."""
    return collect(Config())
