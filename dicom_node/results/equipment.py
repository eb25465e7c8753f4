"""Who made a result: the node as equipment, and the algorithm as contributing equipment.

Enhanced General Equipment (PS3.3 C.7.5.2) makes manufacturer, model name, serial number and
software versions type 1, so each must say something.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ai_models.types import Algorithm
from dicom_node.results.identity import derived_uid
from sr_templates.codes import NOT_CHECKED

DEMONSTRATION = "DEMONSTRATION, NOT FOR CLINICAL USE"
_LO_LIMIT = 64


@dataclass(frozen=True)
class Equipment:
    """The node that writes results (PS3.3 C.7.5.2); every value is LO, at most 64 characters.

    ``device_serial_number`` must tell one installation from another.
    """

    manufacturer: str
    model_name: str
    software_versions: str
    device_serial_number: str
    station_name: str | None = None
    institution_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("manufacturer", "model_name", "software_versions", "device_serial_number"):
            value = getattr(self, name)
            if not value.strip() or len(value) > _LO_LIMIT or "\\" in value:
                raise ValueError(
                    f"equipment {name} must have 1 to {_LO_LIMIT} characters without a backslash"
                )

    @property
    def device_uid(self) -> str:
        """UID of this installation: the same in every report it writes (PS3.16 TID 1004)."""
        return derived_uid("device", self.manufacturer, self.model_name, self.device_serial_number)

    @property
    def creator_name(self) -> str:
        """The node as Content Creator's Name (PN): no separator of PS3.5 6.2.1 is in it."""
        return "".join(c for c in long_string(self.model_name) if c not in "^=\\") + "^AI"


def long_string(text: str) -> str:
    """``text`` fit for an LO attribute: no backslash or control character, 64 characters."""
    cleaned = " ".join("".join(c if c.isprintable() and c != "\\" else " " for c in text).split())
    return cleaned[:_LO_LIMIT].rstrip()


def describe(text: str, algorithm: Algorithm) -> str:
    """``text`` as a description, marked when the model is only a demonstration."""
    return long_string(f"{DEMONSTRATION} - {text}" if algorithm.demonstration else text)


def algorithm_equipment(algorithm: Algorithm) -> Any:
    """Contributing Equipment item of the model (PS3.3 C.12.1.1.5).

    The Device UID changes with the weights, so a retrained model is another device.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    weights = algorithm.weights_sha256 or NOT_CHECKED
    description = f"model {algorithm.model_id}, weights sha256 {weights}"
    if algorithm.demonstration:
        description = f"{DEMONSTRATION}. {description}"
    item = hd.ContributingEquipment(
        manufacturer=long_string(algorithm.manufacturer),
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=long_string(algorithm.name),
        software_versions=long_string(algorithm.version),
        contribution_description=description[:1024],
    )
    item.DeviceUID = derived_uid(
        "model", algorithm.model_id, algorithm.version, algorithm.weights_sha256
    )
    return item


def authored(algorithm: Algorithm, equipment: Equipment, moment: datetime) -> dict[str, Any]:
    """What a constructor of highdicom is told of who writes an object, by what model, and when.

    ``moment`` is the wall clock of ``finish.local_time``.
    """
    return {
        "manufacturer": equipment.manufacturer,
        "manufacturer_model_name": equipment.model_name,
        "software_versions": equipment.software_versions,
        "device_serial_number": equipment.device_serial_number,
        "series_date": moment.date(),
        "series_time": moment.time(),
        "specific_character_set": "ISO_IR 192",
        "contributing_equipment": [algorithm_equipment(algorithm)],
    }


def node_equipment(ae_title: str, software_version: str) -> Equipment:
    """This software as the equipment of its results; the AE title tells installations apart."""
    return Equipment(
        manufacturer="DICOM Node project",
        model_name="DICOM Node",
        software_versions=software_version,
        device_serial_number=ae_title,
    )
