"""Roles of further series, as a person is told of them."""

from __future__ import annotations

from dicom_node.input_roles import BEYOND, in_words, is_told, role_of_phases


def test_phases_are_counted_and_an_earlier_examination_is_called_so() -> None:
    roles = [role_of_phases(1), "pt", "prior", role_of_phases(2)]
    assert in_words(roles) == ["pt", "an earlier examination", "2 series of phases"]
    assert in_words(["pt"]) == ["pt"]


def test_of_a_series_too_many_a_person_is_told_only_where_there_is_one() -> None:
    assert [is_told(BEYOND, uid) for uid in ("", "1.2")] == [False, True]
    assert is_told("pt", "")
