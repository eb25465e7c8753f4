"""Loads what the first result of a process would wait for: libraries and their tables."""

from __future__ import annotations


def get_ready() -> None:
    """Load highdicom and what it looks up for every object; a second time this costs nothing."""
    from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
    from scipy import ndimage  # noqa: F401

    import sr_templates.measurement_report  # noqa: F401

    get_module_attribute_map()
    get_iod_module_map()
