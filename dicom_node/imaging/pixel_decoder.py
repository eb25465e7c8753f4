"""Frames out of encoded pixel data, by pydicom and, for compressed data, its pylibjpeg plug-ins.

The plug-ins are native code, which on damaged bytes may crash, loop or take all memory: compressed
data are decoded here only inside `dicom_node.imaging.codec_worker`, never in the node's process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from dicom_node.imaging.codestream import claimed_size

Frame = npt.NDArray[np.generic]

# Retired JPEG processes that the decoder of JPEG Extended (Process 2 and 4) reads as well.
_SAME_CODEC = {
    "1.2.840.10008.1.2.4.53": "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.55": "1.2.840.10008.1.2.4.51",
}


class Undecodable(Exception):
    """The pixel data are damaged, or in a syntax without a decoder; the message has no data."""


def needs_codec(transfer_syntax_uid: str) -> bool:
    """Whether native code is needed: every encapsulated syntax, and every one that is unknown."""
    try:
        return bool(UID(transfer_syntax_uid).is_encapsulated)
    except ValueError:
        return True


def decoded_frames(
    dataset: Dataset,
    transfer_syntax_uid: str,
    shape: tuple[int, int],
    frames: int,
    frame_numbers: Sequence[int],
) -> Iterator[Frame]:
    """Each named frame (from 1) as (rows, columns), cells as the decoder gives them.

    Raises
    ------
    Undecodable
        Whatever a decoder or parser raised; `MemoryError` and `OSError` pass.
    """
    try:
        syntax = UID(_SAME_CODEC.get(transfer_syntax_uid, transfer_syntax_uid))
        plugin = "pylibjpeg" if needs_codec(syntax) else ""
        decoder = get_decoder(syntax)
        decoded = Dataset(dataset)
        decoded.file_meta = FileMetaDataset()
        decoded.file_meta.TransferSyntaxUID = syntax
        for frame_number in frame_numbers:
            if plugin:
                _check_claim(decoded, shape, frames, frame_number)
            frame, _ = decoder.as_array(
                decoded, index=frame_number - 1, raw=True, decoding_plugin=plugin
            )
            if frame.shape != shape:
                raise Undecodable("the decoded image has another size")
            yield frame
    except (Undecodable, MemoryError, OSError):
        raise
    # Codecs and parsers raise anything on damaged bytes; one object is one answer.
    except Exception as error:
        raise Undecodable(
            f"cannot decode transfer syntax {transfer_syntax_uid}: {_cause(error)}"
        ) from error


def _check_claim(
    dataset: Dataset, shape: tuple[int, int], frames: int, frame_number: int
) -> None:
    """A frame of some hundred bytes that calls itself 65535 squared would take 20 GB to decode."""
    frame = get_frame(dataset.PixelData, frame_number - 1, number_of_frames=frames)
    claimed = claimed_size(frame)
    if claimed is not None and claimed != shape:
        raise Undecodable("the compressed image has another size")


def _cause(error: Exception) -> str:
    """What a decoder said; other messages may quote the data set and are not repeated."""
    if isinstance(error, (RuntimeError, NotImplementedError)):
        return " ".join(str(error).split())[:200]
    return type(error).__name__
