"""What highdicom leaves out of a result, or fills from the clock, set for every kind alike."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from dicom_node.results.equipment import Equipment, long_string

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# PS3.3 C.12.1.1.8: from -1200 to +1400; what is none is not believed.
_OFFSET = re.compile(r"^([+-])(0\d|1[0-4])([0-5]\d)$")
_NO_IMAGES = frozenset({"SR", "KO", "RTSTRUCT"})
_IMAGE_ONLY = ("BodyPartExamined", "Laterality", "PositionReferenceIndicator")


def local_time(created_at: datetime, source: Dataset) -> datetime:
    """``created_at`` in the wall clock of the result, without a zone.

    That is the source's Timezone Offset From UTC where it has one, because it is copied and
    holds for every date and time of the object (PS3.3 C.12.1.1.8); otherwise this host's zone.
    A naive time is taken as it is.
    """
    if created_at.tzinfo is None:
        return created_at
    match = _OFFSET.match(str(source.get("TimezoneOffsetFromUTC", "")))
    if match is None:
        return created_at.astimezone().replace(tzinfo=None)
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    zone = timezone(offset if match[1] == "+" else -offset)
    return created_at.astimezone(zone).replace(tzinfo=None)


def finish(result: Any, source: Dataset, equipment: Equipment, moment: datetime) -> Dataset:
    """Copy what a result shares with its source, and replace every reading of the clock.

    ``moment`` is the wall clock of ``local_time``. Returns ``result``.
    """
    if _OFFSET.match(str(source.get("TimezoneOffsetFromUTC", ""))):
        result.TimezoneOffsetFromUTC = source.TimezoneOffsetFromUTC
    if result.Modality not in _NO_IMAGES:
        for keyword in _IMAGE_ONLY:
            if keyword in source:
                setattr(result, keyword, source[keyword].value)
    result.InstanceCreationDate = moment.strftime("%Y%m%d")
    result.InstanceCreationTime = moment.strftime("%H%M%S.%f")
    for item in result.get("ContributingEquipmentSequence", []):
        if item.PurposeOfReferenceCodeSequence[0].CodeValue != "109101":
            item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S.%f")
    if equipment.station_name:
        result.StationName = equipment.station_name[:16]
    if equipment.institution_name:
        result.InstitutionName = long_string(equipment.institution_name)
    finished: Dataset = result
    return finished


def set_dimension_organization(result: Any, organization_uid: str) -> None:
    """Give a multi-frame result a derived Dimension Organization UID in place of a random one."""
    result.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization_uid
    for index in result.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization_uid


def finish_picture(result: Any, source: Dataset, equipment: Equipment, moment: datetime) -> Dataset:
    """As `finish`, for what lies in no frame of reference of its own: captures, presentation
    states and documents. Laterality is empty where nothing says which part was examined."""
    finished = finish(result, source, equipment, moment)
    finished.pop("PositionReferenceIndicator", None)
    if "BodyPartExamined" not in finished and "Laterality" not in finished:
        finished.Laterality = ""
    return finished
