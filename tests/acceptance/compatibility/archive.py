"""An Orthanc as it comes: what it stores by C-STORE, and what DICOMweb gives back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from tests import peers
from tests.acceptance.compatibility.answer import Answer, Answers, error
from tests.acceptance.compatibility.specimen import Filed

_STORED = 0x0000


def by_orthanc(files: Sequence[Filed], directory: Path) -> Answers:
    """C-STORE each object to an Orthanc with its default settings, and compare what WADO gives.

    An object whose SOP class it refuses goes to one that is told to accept unknown classes.
    """
    answers = {}
    with (
        peers.Orthanc(directory / "default") as archive,
        peers.Orthanc(
            directory / "tolerant", configuration={"UnknownSopClassAccepted": True}
        ) as tolerant,
    ):
        for filed in files:
            refused = _store(filed, archive)
            if refused:
                again = _store(filed, tolerant)
                complaints = [error("Orthanc", filed, text) for text in (refused, again) if text]
                found = "" if again else _compared(filed, tolerant)
                answers[filed.specimen.name] = Answer(found, tuple(complaints))
            else:
                answers[filed.specimen.name] = _retrieved(filed, archive)
    return answers


def _retrieved(filed: Filed, archive: peers.Orthanc) -> Answer:
    found = _compared(filed, archive)
    if found == "identical":
        return Answer(found)
    return Answer(complaints=(error("Orthanc", filed, found),))


def _store(filed: Filed, archive: peers.Orthanc) -> str:
    """C-STORE one file; empty where it was stored, else why not."""
    from pynetdicom import AE

    dataset = pydicom.dcmread(filed.path)
    entity = AE("MATRIX")
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", archive.port, ae_title=archive.ae_title)
    if not association.is_established:
        return "presentation context refused"
    try:
        status = association.send_c_store(dataset)
    except ValueError:
        return "presentation context refused"
    finally:
        association.release()
    code = status.get("Status")
    return "" if code == _STORED else f"C-STORE answered {code!r}"


def _compared(filed: Filed, archive: peers.Orthanc) -> str:
    written = pydicom.dcmread(filed.path)
    study, series = written.StudyInstanceUID, written.SeriesInstanceUID
    address = f"/dicom-web/studies/{study}/series/{series}/instances/{written.SOPInstanceUID}"
    answer = archive.get(address, 'multipart/related; type="application/dicom"; transfer-syntax=*')
    read = pydicom.dcmread(io.BytesIO(_first_part(answer)))
    different = _different(read, written)
    return "identical" if not different else f"differs in {', '.join(different)}"


def _first_part(body: bytes) -> bytes:
    """The content of a multipart body's only part."""
    boundary, _, rest = body.lstrip(b"\r\n").partition(b"\r\n")
    _, _, content = rest.partition(b"\r\n\r\n")
    return content[: content.rindex(b"\r\n" + boundary)]


def _different(read: Dataset, written: Dataset) -> list[str]:
    tags = {*read.keys(), *written.keys()}
    unlike = [tag for tag in sorted(tags) if read.get(tag) != written.get(tag)]
    return [pydicom.datadict.keyword_for_tag(tag) or str(tag) for tag in unlike]
