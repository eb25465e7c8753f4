"""A-ASSOCIATE-RQ of the node, encoded by pynetdicom (PS3.8 section 9.3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.transport import AddressInformation

from dicom_node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from dicom_node.config import PeerSettings

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
# Only commands come back to a storage SCU, and they are some hundred bytes.
OUR_MAXIMUM_PDU_BYTES = 16_384


@dataclass(frozen=True)
class Context:
    """A presentation context with one transfer syntax, so that the peer chooses none for us."""

    sop_class_uid: str
    transfer_syntax_uid: str


def encode_request(
    calling_ae_title: str, peer: PeerSettings, contexts: Mapping[int, Context]
) -> bytes:
    """The PDU; ``contexts`` by their ID."""
    proposed = []
    for context_id, context in contexts.items():
        item = build_context(context.sop_class_uid, context.transfer_syntax_uid)
        item.context_id = context_id
        proposed.append(item)
    maximum_length = MaximumLengthNotification()
    maximum_length.maximum_length_received = OUR_MAXIMUM_PDU_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    request = A_ASSOCIATE()
    request.application_context_name = _APPLICATION_CONTEXT
    request.calling_ae_title = calling_ae_title
    request.called_ae_title = peer.ae_title
    # Required by the primitive, not part of the PDU.
    request.calling_presentation_address = AddressInformation("127.0.0.1", 0)
    request.called_presentation_address = AddressInformation("127.0.0.1", peer.port)
    request.presentation_context_definition_list = proposed
    request.user_information = [maximum_length, implementation, version]
    return A_ASSOCIATE_RQ(request).encode()
