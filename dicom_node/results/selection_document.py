"""The body of a Key Object Selection Document (PS3.3 A.35.4, PS3.16 TID 2010).

What is selected stands as unnamed items: a named IMAGE item is read differently by different
readers of TID 2010, an unnamed one by none.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ai_models.types import Code
from dicom_node.results.equipment import Equipment, authored, describe
from dicom_node.results.finish import finish, local_time
from dicom_node.results.request import ResultRequest
from sr_templates import codes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def build_selection(
    request: ResultRequest,
    source: Dataset,
    selected: Sequence[Dataset],
    *,
    kind: str,
    uids: tuple[str, str],
    title: Code,
    description: str,
    series_number: int,
) -> Dataset:
    """Key Object Selection of ``selected``, in the study of ``source``.

    Parameters
    ----------
    source
        A normalised source image: patient and study are copied from it.
    selected
        At least one instance, each with the four UIDs of a reference; one with Rows and Columns is
        an IMAGE item, another a COMPOSITE item. All are of the study of ``source``.
    kind, uids
        What its series is called, and the UIDs of series and instance.
    title
        Of PS3.16 CID 7010.
    description
        Key Object Description (113012 DCM), for the reader.
    """
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    moment = local_time(request.created_at, source)
    equipment = request.equipment
    content = hd.ko.KeyObjectSelection(
        document_title=codes.concept(title),
        referenced_objects=selected,
        observer_device_context=_observer(equipment),
        description=description,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document: Any = hd.ko.KeyObjectSelectionDocument(
            evidence=[_with_patient(source, selected[0]), *selected[1:]],
            content=content,
            series_instance_uid=uids[0],
            series_number=series_number,
            sop_instance_uid=uids[1],
            instance_number=1,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            series_description=describe(
                f"{kind.capitalize()} {request.algorithm.model_id}", request.algorithm
            ),
            content_date=moment.date(),
            content_time=moment.time(),
            **authored(request.algorithm, equipment, moment),
        )
    document.copy_patient_and_study_information(source)
    for item in document.ContentSequence:
        if item.ValueType in ("IMAGE", "COMPOSITE"):
            del item.ConceptNameCodeSequence
    return finish(document, source, equipment, moment)


def _observer(equipment: Equipment) -> Any:
    import highdicom as hd

    return hd.sr.ObserverContext(
        codes.concept(codes.DEVICE),
        hd.sr.DeviceObserverIdentifyingAttributes(
            uid=equipment.device_uid,
            name=equipment.station_name or equipment.model_name,
            manufacturer_name=equipment.manufacturer,
            model_name=equipment.model_name,
            serial_number=equipment.device_serial_number,
        ),
    )


def _with_patient(source: Dataset, selected: Dataset) -> Dataset:
    """``selected`` with what the document inherits from its first evidence."""
    from pydicom.dataset import Dataset

    first = Dataset()
    first.update(source)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(first, keyword, selected[keyword].value)
    return first
