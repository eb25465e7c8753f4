"""A volume is told so that a person sees how much it is, also when it is small."""

from __future__ import annotations

import pytest

from dicom_node.results.report_numbers import ml_text


@pytest.mark.parametrize(("volume_ml", "told"), [
    (2400.24, "2400.2"), (10.0, "10.0"), (9.876, "9.88"), (1.0, "1.00"), (0.21, "0.210"),
    (0.0345, "0.0345"), (0.0008, "0.000800"), (0.0, "0.0"),
])
def test_a_volume_has_three_digits_and_none_that_is_there_reads_as_nothing(
    volume_ml: float, told: str
) -> None:
    assert ml_text(volume_ml) == told
