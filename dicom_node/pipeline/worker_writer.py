"""What a worker does for a writer whose weights lie in a folder: it loads it, and lets it answer.

Part of `dicom_node.pipeline.worker`, in a process that has no models. It is given the messages of a
chat, made of evidence, and gives back text: what that says is read by the node.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_models.backends.device_memory import MemoryMeter
from ai_models.trust import Site

if TYPE_CHECKING:
    from ai_models.drafting.folder_writer import FolderWriter


class Writing:
    """Has one writer loaded at most.

    Parameters
    ----------
    device
        As this process sees it: ``cpu`` or ``cuda:<n>``.
    site
        What this site allows its writers.
    meter
        Reads the device's memory.
    loading
        Told when a writer begins to be loaded, and when it was.
    """

    def __init__(
        self, device: str, site: Site, meter: MemoryMeter, loading: Callable[[bool], None]
    ) -> None:
        self._device = device
        self._site = site
        self._meter = meter
        self._loading = loading
        self._writer: FolderWriter | None = None
        self._key = ("", "")

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The text that a writer answers to a chat.

        Raises
        ------
        ModelError
            As `FolderWriter.answer` does.
        """
        self._meter.begin()
        before_mib = self._meter.held_mib()
        writer = self._loaded(str(request["writer"]), str(request["content"]))
        text, notes = writer.answer(request["messages"])
        return {
            "text": text, "notes": list(notes),
            "memory": {
                "peak_mib": before_mib + self._meter.peak_mib(),
                "held_mib": self._meter.held_mib(),
            },
        }

    def _loaded(self, folder: str, content: str) -> FolderWriter:
        if self._writer is not None and self._key == (folder, content):
            return self._writer
        from ai_models.drafting.folder_writer import FolderWriter
        from ai_models.drafting.writer_card import load_writer_card

        if self._writer is not None:
            self._writer.close()
            self._writer = None
        card = load_writer_card(Path(folder), content.encode())
        writer = FolderWriter(card, self._site, self._device)
        self._loading(True)
        try:
            writer.load()
        finally:
            self._loading(False)
        self._writer, self._key = writer, (folder, content)
        return writer
