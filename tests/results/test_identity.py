from __future__ import annotations

import pytest

from dicom_node.results.header_values import is_valid_uid
from dicom_node.results.identity import ResultIdentity, derived_uid

BASIS = {
    "input_digests": {"1.2.1": "a", "1.2.2": "b"},
    "model_id": "lungs-ct",
    "model_version": "1.0.0",
    "weights_sha256": "ab" * 32,
    "effective_configuration": {"roi": [96, 96, 96], "overlap": 0.25},
}


def identity(**changes: object) -> ResultIdentity:
    return ResultIdentity(**{**BASIS, **changes})  # type: ignore[arg-type]


def test_the_same_inputs_give_the_same_uid_in_any_order() -> None:
    reordered = identity(
        input_digests={"1.2.2": "b", "1.2.1": "a"},
        effective_configuration={"overlap": 0.25, "roi": (96, 96, 96)},
    )
    assert reordered.uid("segmentation.instance") == identity().uid("segmentation.instance")


def test_the_uid_is_pinned_so_that_a_release_cannot_change_it_unnoticed() -> None:
    assert identity().uid("segmentation.instance") == PINNED


def test_a_uid_is_valid_and_of_the_2_25_kind() -> None:
    uid = identity().uid("segmentation.instance")
    assert uid.startswith("2.25.")
    assert is_valid_uid(uid)


@pytest.mark.parametrize(
    "change",
    [
        {"input_digests": {"1.2.1": "a", "1.2.2": "changed"}},
        {"input_digests": {"1.2.1": "a", "1.2.2": "b", "1.2.3": "late slice"}},
        {"model_id": "other"},
        {"model_version": "1.0.1"},
        {"weights_sha256": "cd" * 32},
        {"effective_configuration": {"roi": [96, 96, 96], "overlap": 0.5}},
    ],
)
def test_whatever_can_change_the_result_changes_its_uid(change: dict[str, object]) -> None:
    assert identity(**change).uid("segmentation.instance") != identity().uid(
        "segmentation.instance"
    )


def test_each_purpose_has_its_own_uid() -> None:
    assert identity().uid("segmentation.instance") != identity().uid("segmentation.series")


def test_a_finding_is_tracked_through_a_late_slice_and_a_new_release() -> None:
    later = identity(input_digests={"1.2.1": "a", "1.2.9": "z"}, model_version="2.0.0")
    assert later.tracking_uid("1.2.3", "lung") == identity().tracking_uid("1.2.3", "lung")
    assert identity().tracking_uid("1.2.4", "lung") != identity().tracking_uid("1.2.3", "lung")


def test_a_setting_that_has_no_canonical_form_is_refused() -> None:
    with pytest.raises(TypeError):
        identity(effective_configuration={"device": object()}).uid("segmentation.instance")


def test_parts_of_a_derived_uid_do_not_run_into_each_other() -> None:
    assert derived_uid("a", "bc") != derived_uid("ab", "c")


PINNED = "2.25.130014410215392955851143022800318666793"
