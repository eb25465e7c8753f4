"""Whatever a service answers: nothing is stored that it did not name, and nothing is raised."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.delivery.http_service import Answer
from dicom_node.delivery.stow_answer import outcome_of, refuses_all

UID = "1.2.840.1"
TAGS = ["00081198", "0008119A", "00081199", "00081155", "00081196", "00081197", "Value", "vr"]
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([UID, "SQ", "", "1"])
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TAGS), inner, max_size=4)
    ),
    max_leaves=30,
)
STATUSES = st.sampled_from([200, 202, 204, 400, 403, 409, 413, 415, 422, 500])


def member(found: Any, name: str) -> Any:
    """A member of an object; None where it is no object or has none."""
    return found.get(name) if isinstance(found, dict) else None


def names_as_stored(document: Any) -> bool:
    """Whether the object is in an item of the Referenced SOP Sequence."""
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    items = member(member(document, "00081199"), "Value")
    values = [member(member(item, "00081155"), "Value") for item in items or []]
    return any(isinstance(one, list) and UID in one for one in values)


@given(document=DOCUMENTS, status=STATUSES)
def test_no_document_makes_an_object_stored_that_it_does_not_name(
    document: Any, status: int
) -> None:
    outcome = outcome_of(UID, Answer(status, "application/dicom+json", dump(document)))
    assert outcome.sop_instance_uid == UID
    assert not (outcome.stored and outcome.transient)
    assert outcome.stored or outcome.reason
    if outcome.stored:
        assert status < 300
        assert names_as_stored(document)


@given(body=st.binary(max_size=200), status=STATUSES)
def test_no_bytes_make_an_object_stored(body: bytes, status: int) -> None:
    assert not outcome_of(UID, Answer(status, "application/dicom+json", body)).stored


@given(status=st.integers(100, 599))
def test_no_status_is_of_the_whole_service_and_a_success(status: int) -> None:
    assert not (refuses_all(status) and 200 <= status < 300)


def dump(document: Any) -> bytes:
    return json.dumps(document).encode()
