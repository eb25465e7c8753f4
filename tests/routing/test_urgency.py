"""What a header says of urgency raises a job and never lowers one."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.records import Priority
from dicom_node.routing.urgency import KEYWORDS, emergency, raised


def header(**elements: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize("word", ["HIGH", "STAT"])
@pytest.mark.parametrize("configured", [Priority.ROUTINE, Priority.BACKGROUND])
def test_an_emergency_makes_any_job_stat(keyword: str, word: str, configured: Priority) -> None:
    dataset = header(**{keyword: word})
    assert raised(configured, dataset) == (Priority.STAT, f"stat by {keyword}")


@pytest.mark.parametrize("word", ["ROUTINE", "MEDIUM", "LOW", "", None, "URGENT?", ["STAT", "LOW"]])
@pytest.mark.parametrize("configured", list(Priority))
def test_anything_else_leaves_what_the_rule_says(word: object, configured: Priority) -> None:
    dataset = header(RequestedProcedurePriority=word)
    assert raised(configured, dataset) == (configured, "")


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_the_word_may_be_padded_and_small() -> None:
    assert emergency(header(StudyPriorityID=" high "))


def test_a_rule_that_says_stat_needs_no_reason() -> None:
    assert raised(Priority.STAT, header(StudyPriorityID="HIGH")) == (Priority.STAT, "")


def test_a_request_s_own_item_is_read() -> None:
    item = header(RequestedProcedurePriority="STAT")
    dataset = header(RequestAttributesSequence=[header(RequestedProcedureID="1"), item])
    assert emergency(dataset) == "RequestedProcedurePriority"


def test_a_sequence_that_is_none_has_no_items() -> None:
    dataset = Dataset()
    dataset.add_new("RequestAttributesSequence", "LO", ["STAT", "HIGH"])
    assert emergency(dataset) == "" and emergency(Dataset()) == ""
