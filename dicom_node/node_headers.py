"""The header that speaks for a series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dicom_node.errors import NotUnderstood
from dicom_node.imaging.reading import read_header
from dicom_node.records import Instance
from dicom_node.spool import Spool

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def representative(spool: Spool, instances: Sequence[Instance]) -> Dataset:
    """The header that the rules see: the middle instance's, for a localizer is at an end.

    A file that cannot be read is passed over for the next one towards the ends.

    Raises
    ------
    NotUnderstood
        No file of the series can be read.
    """
    ordered = sorted(instances, key=lambda one: (one.instance_number or 0, one.path))
    middle = len(ordered) // 2
    nearest = sorted(range(len(ordered)), key=lambda index: abs(index - middle))
    failure = NotUnderstood("the series has no instances", reason="input.no_instances")
    for index in nearest:
        try:
            return read_header(spool.resolve(ordered[index].path)).dataset
        except NotUnderstood as error:
            failure = error
    raise failure
