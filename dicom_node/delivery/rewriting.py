"""A Part 10 file written anew in another transfer syntax: what every such copy has in common.

A copy lies in a file without a name: it is gone when it is closed, also when the process is
killed.
"""

from __future__ import annotations

import io
import struct
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from dicom_node.errors import NotUnderstood, StorageFailed

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
UNDEFINED_LENGTH = 0xFFFFFFFF
PIECE_BYTES = 1 << 20
PIXEL_DATA = 0x7FE00010
_T = TypeVar("_T")


def made_of(path: Path, make: Callable[[BinaryIO], _T]) -> _T:
    """What ``make`` makes of the file at ``path``, whatever it meets in it.

    Raises
    ------
    NotUnderstood
        ``file.not_reencodable``: damaged, or without such a form.
    StorageFailed
        The source could not be read or the copy not be written.
    """
    try:
        with path.open("rb") as source, warnings.catch_warnings():
            # Warnings on odd values would quote them, and they may be a patient's.
            warnings.simplefilter("ignore")
            return make(source)
    except NotUnderstood as error:
        raise NotUnderstood(str(error), reason="file.not_reencodable") from error
    except (KeyboardInterrupt, SystemExit):
        raise
    # Parsers and codecs raise anything on damaged bytes, and the one of RLE, which is written in
    # Rust, what is no Exception; one object is one answer.
    except BaseException as error:
        # Without a number it is not the system that said so, but a parser of a file cut short.
        if isinstance(error, OSError) and error.errno is not None:
            raise StorageFailed(f"cannot be re-encoded: {error.strerror}") from error
        raise NotUnderstood(
            f"cannot be re-encoded: {type(error).__name__}", reason="file.not_reencodable"
        ) from error


def into_new_file(scratch: Path | None, fill: Any, *arguments: Any) -> BinaryIO:
    """A file without a name in the folder ``scratch``, filled by ``fill(*arguments, file)``.

    The first argument is the source, which is read from its beginning.
    """
    out: BinaryIO = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - the caller closes it
    try:
        arguments[0].seek(0)
        fill(*arguments, out)
        out.seek(0)
    # Whatever it was, the file is nobody's then.
    except BaseException:
        out.close()
        raise
    return out


def write_meta(encoded: bytes, transfer_syntax_uid: str, out: BinaryIO) -> None:
    """Preamble, prefix and the file meta information ``encoded``, with another syntax in it."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomIO
    from pydicom.filereader import read_dataset
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import UID

    meta = FileMetaDataset(read_dataset(io.BytesIO(encoded), False, True))
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    out.write(bytes(128) + b"DICM")
    write_file_meta_info(DicomIO(out), meta)


def next_element(source: BinaryIO, transfer_syntax_uid: str) -> tuple[str, int] | None:
    """VR and length of the pixel data that ``source`` stands before; None at its end."""
    order = ">" if transfer_syntax_uid == EXPLICIT_BIG_ENDIAN else "<"
    header = source.read(8)
    if not header:
        return None
    group, number = struct.unpack(f"{order}HH", header[:4])
    if (group << 16) + number != PIXEL_DATA:
        raise NotUnderstood("pixel data of another kind than integers")
    if transfer_syntax_uid == IMPLICIT_LITTLE_ENDIAN:
        return "OW", struct.unpack("<I", header[4:])[0]
    return header[4:6].decode("ascii"), struct.unpack(f"{order}I", source.read(4))[0]
