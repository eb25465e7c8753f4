"""C-FIND of another application in an archive."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pynetdicom import AE

from tests import peers

# Study Root Query/Retrieve Information Model - FIND (PS3.4 C.6.2.1.3).
_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def c_find(
    archive: peers.Orthanc, level: str, study_instance_uid: str, *keywords: str
) -> list[tuple[str, ...]]:
    """The values of ``keywords`` of every match of a study at ``level`` (PS3.4 C.4.1)."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    query.StudyInstanceUID = study_instance_uid
    for keyword in keywords:
        setattr(query, keyword, "")
    ae = AE("TESTS")
    ae.add_requested_context(_STUDY_ROOT_FIND)
    association = ae.associate("127.0.0.1", archive.port, ae_title=archive.ae_title)
    assert association.is_established
    try:
        answers = list(association.send_c_find(query, _STUDY_ROOT_FIND))
    finally:
        association.release()
    return [
        tuple(str(identifier.get(keyword, "")) for keyword in keywords)
        for _, identifier in answers
        if identifier is not None
    ]
