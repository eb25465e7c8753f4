"""pynetdicom's own receive path: its events, answered by the same `Receipt` as the streamed one.

pynetdicom collects the data set in a temporary file, which is then copied into the spool.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from pydicom.dataset import Dataset
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from dicom_node.durable import read_chunks
from dicom_node.errors import SUCCESS
from dicom_node.intake.command import StoreRequest


def handle_echo(event: Event) -> int:
    """C-ECHO always succeeds (PS3.4 annex A)."""
    return SUCCESS


def handle_store(event: Event) -> Dataset:
    """Keep the data set that pynetdicom has collected; the status with its comment."""
    request = cast(C_STORE, event.request)
    path = cast("Path | None", request._dataset_path)
    receipt = event.assoc.received.begin(  # type: ignore[attr-defined]
        StoreRequest(
            cast(int, request._context_id),
            cast(int, request.MessageID),
            str(request.AffectedSOPClassUID).encode("ascii", "replace"),
            str(request.AffectedSOPInstanceUID).encode("ascii", "replace"),
            path is not None,
        ),
        str(event.context.abstract_syntax),
        str(event.context.transfer_syntax),
    )
    if path is not None:
        skip_bytes = _data_set_offset(Path(path))
        for chunk in read_chunks(str(path)):
            receipt.write([chunk[skip_bytes:]])
            skip_bytes = 0
    answer = receipt.finish()
    status = Dataset()
    status.Status = answer.status
    if answer.comment:
        status.ErrorComment = answer.comment[:64]
    return status


def _data_set_offset(path: Path) -> int:
    """Where the data set begins in pynetdicom's file: preamble, prefix and group length first."""
    with path.open("rb") as file:
        head = file.read(144)
    return 144 + int.from_bytes(head[140:144], "little")
