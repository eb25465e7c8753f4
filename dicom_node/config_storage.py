"""Where images and results are kept, how full that may become, and how long what is done stays.

Part of `dicom_node.config`, which reads it from the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, Strict
from pydantic_core import PydanticCustomError

from dicom_node.config_peers import Settings, Text, Whole

GIBIBYTE = 1024**3
Hours = Annotated[float, Strict(), Field(ge=0, le=876_000)]
Days = Annotated[float, Strict(), Field(ge=0, le=36_500)]


def _spool(value: str) -> str:
    if not value.strip() or "://" in value:
        raise PydanticCustomError("spool", "null, or the path of a folder that all hosts mount")
    return value


class StorageSettings(Settings):
    """Where files are kept, how full the disk may become and how long what is done with stays.

    ``spool`` ``None``: ``spool`` in ``node.data_dir``; else a folder that all hosts mount. Below
    ``make_room_below_free_bytes`` what was delivered goes before ``keep_delivered_for_h``.
    """

    spool: Annotated[Text, AfterValidator(_spool)] | None = None
    refuse_below_free_bytes: Annotated[Whole, Field(ge=0)] = 5 * GIBIBYTE
    make_room_below_free_bytes: Annotated[Whole, Field(ge=0)] = 20 * GIBIBYTE
    keep_delivered_for_h: Hours = 24
    keep_declined_for_h: Hours = 24
    keep_committed_for_d: Days = 30
    keep_quarantined_for_d: Days = 30
    keep_records_for_d: Days = 30

    def anchored(self, base: Path) -> Self:
        """With a relative folder that begins at ``base``."""
        if self.spool is None:
            return self
        return self.model_copy(update={"spool": str(base / self.spool)})
