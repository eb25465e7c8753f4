from __future__ import annotations

import math

import numpy as np
import pytest

from ai_models.training.metrics import (
    Interval,
    ScanFindings,
    age_band,
    auc,
    bootstrap_interval,
    by_subgroup,
    determination,
    dice,
    froc,
    hd95,
    iou,
    match_centers,
    match_parts,
    rounded,
    sensitivity_at_specificity,
    sensitivity_specificity,
    threshold_at_specificity,
)


def random_scores(seed: int, count: int = 200) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, count)
    # Ties are what a rank can get wrong.
    return truth.tolist(), np.round(rng.normal(truth * 0.8, 1.0), 1).tolist()


def test_the_auc_is_that_of_scikit_learn_ties_included() -> None:
    from sklearn.metrics import roc_auc_score

    for seed in range(5):
        truth, scores = random_scores(seed)
        assert auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_the_sensitivity_at_a_specificity_is_read_off_the_curve_of_scikit_learn() -> None:
    from sklearn.metrics import roc_curve

    for seed in range(5):
        truth, scores = random_scores(seed)
        false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
        for wanted in (0.5, 0.8, 0.9, 1.0):
            best = true[false <= 1.0 - wanted + 1e-12].max()
            assert sensitivity_at_specificity(truth, scores, wanted) == pytest.approx(best)


def test_the_threshold_keeps_the_specificity_it_was_asked_for() -> None:
    truth, scores = random_scores(3)
    threshold = threshold_at_specificity(truth, scores, 0.9)
    sensitivity, specificity = sensitivity_specificity(truth, scores, threshold)
    assert specificity >= 0.9
    assert sensitivity == sensitivity_at_specificity(truth, scores, 0.9)


def test_a_figure_that_cannot_be_had_is_no_number_and_no_good_news() -> None:
    assert math.isnan(auc([1, 1], [0.2, 0.9]))
    assert math.isnan(sensitivity_at_specificity([1, 1], [0.2, 0.9]))
    assert math.isnan(determination([2.0, 2.0], [2.0, 2.0]))
    assert rounded(Interval(math.nan, -math.inf, 0.25)) == {
        "value": None, "low": None, "high": 0.25}
    assert math.isnan(froc([ScanFindings((), (0.5,))]).at(1.0))


def test_the_overlap_of_masks_is_what_can_be_counted() -> None:
    one, other = np.zeros((1, 4, 4), bool), np.zeros((1, 4, 4), bool)
    one[0, :, :2], other[0, :, 1:3] = True, True
    assert dice(one, other) == pytest.approx(0.5)
    assert iou(one, other) == pytest.approx(1 / 3)
    nothing = np.zeros_like(one)
    assert dice(nothing, nothing) == iou(nothing, nothing) == 1.0
    assert dice(one, nothing) == iou(one, nothing) == 0.0


def test_the_distance_of_surfaces_is_in_millimetres_along_every_axis() -> None:
    for axis, spacing in enumerate((5.0, 0.7, 0.5)):
        one = np.zeros((30, 30, 30), bool)
        one[10:20, 10:20, 10:20] = True
        assert hd95(one, np.roll(one, 3, axis), (5.0, 0.7, 0.5)) == pytest.approx(3 * spacing)
    assert hd95(one, np.zeros_like(one), (1, 1, 1)) == math.inf
    assert hd95(np.zeros_like(one), np.zeros_like(one), (1, 1, 1)) == 0.0


def test_the_distance_is_that_of_monai_on_the_whole_volume() -> None:
    import torch
    from monai.metrics import compute_hausdorff_distance

    rng = np.random.default_rng(0)
    one, other = rng.random((2, 12, 12, 12)) > 0.97
    expected = compute_hausdorff_distance(
        torch.from_numpy(one)[None, None], torch.from_numpy(other)[None, None],
        include_background=True, percentile=95, spacing=[2.0, 1.0, 0.5])
    assert hd95(one, other, (2.0, 1.0, 0.5)) == pytest.approx(float(expected))


def test_the_froc_is_that_of_monai() -> None:
    from monai.metrics import compute_froc_curve_data, compute_froc_score

    rng = np.random.default_rng(1)
    scans = [
        ScanFindings(tuple(rng.random(3)), tuple(rng.random(rng.integers(0, 6)) * 0.8))
        for _ in range(20)
    ]
    hits = np.array([one for scan in scans for one in scan.hits])
    false = np.array([one for scan in scans for one in scan.false_scores])
    per_scan, sensitivity = compute_froc_curve_data(false, hits, hits.size, len(scans))
    found = froc(scans)
    # MONAI's thresholds rise; it leaves out the lowest one, and ends with a point at none at all.
    assert found.sensitivity[:-1] == pytest.approx(np.asarray(sensitivity)[:-1][::-1])
    assert found.false_per_scan[:-1] == pytest.approx(np.asarray(per_scan)[:-1][::-1])
    rates = (0.25, 0.5, 1, 2)
    expected = compute_froc_score(np.asarray(per_scan), np.asarray(sensitivity), rates)
    # MONAI reads between two points; here only what was reached counts.
    assert found.score(rates) <= expected + 1e-9
    assert found.score(rates) == pytest.approx(expected, abs=0.03)


def test_what_was_missed_never_counts_as_found() -> None:
    missed = ScanFindings((-math.inf, 0.9), ())
    assert froc([missed]).at(100.0) == 0.5


def test_a_model_that_finds_nothing_has_a_sensitivity_of_nought_and_not_an_unknown_one() -> None:
    nothing = froc([ScanFindings((-math.inf,), ()), ScanFindings((), ())])
    assert nothing.at(8.0) == 0.0 and nothing.score() == 0.0


def test_a_finding_hits_the_nearest_thing_within_its_radius_and_no_thing_twice() -> None:
    found = match_centers([[0, 0, 0], [1, 0, 0], [50, 0, 0]], [0.5, 0.7, 0.9],
                          [[2, 0, 0], [20, 0, 0]], [5.0, 3.0])
    assert found.hits == (0.7, -math.inf)
    assert found.false_scores == (0.9,)


def test_a_found_part_hits_every_true_part_that_it_touches() -> None:
    found, truth = np.zeros((1, 1, 9), int), np.zeros((1, 1, 9), int)
    truth[..., 1], truth[..., 3] = 1, 2
    found[..., 1:4], found[..., 7] = 1, 2
    result = match_parts(found, [0.6, 0.4], truth)
    assert result.hits == (0.6, 0.6)
    assert result.false_scores == (0.4,)


def test_the_interval_draws_patients_and_not_their_scans() -> None:
    # Ten scans of each of eight patients, all alike: ten times as many scans are no more patients.
    values = np.random.default_rng(0).normal(0, 1, 8)
    scans = [float(one) for one in values for _ in range(10)]
    patients = [str(i) for i in range(8) for _ in range(10)]

    def mean(some: object) -> float:
        return float(np.mean(some))  # type: ignore[arg-type]

    by_patient = bootstrap_interval(scans, mean, patients=patients)
    by_scan = bootstrap_interval(scans, mean)
    assert by_patient.high - by_patient.low > 2 * (by_scan.high - by_scan.low)
    assert by_patient.low < by_patient.value < by_patient.high
    assert by_patient == bootstrap_interval(scans, mean, patients=patients)


def test_an_interval_of_the_mean_covers_it_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        sample = np.random.default_rng(seed).normal(0.0, 1.0, 40).tolist()
        found = bootstrap_interval(sample, lambda some: float(np.mean(some)), resamples=200)
        covered += found.low <= 0.0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_few_patients_have_no_interval_and_a_small_group_no_figure() -> None:
    found = bootstrap_interval([1.0, 0.0, 1.0, 0.0], lambda some: float(np.mean(some)))
    assert found.value == 0.5
    assert math.isnan(found.low) and math.isnan(found.high)
    rows = by_subgroup(
        [1.0] * 6 + [0.0] * 3, [{"sex": "F"}] * 6 + [{"sex": "M"}, {}, {"sex": ""}],
        lambda some: float(np.mean(some)))
    assert rows["sex"]["F"]["value"] == 1.0
    assert rows["sex"]["M"] == {"cases": 1}
    assert rows["sex"]["unknown"] == {"cases": 2}


def test_an_age_is_told_by_the_decade_and_very_old_people_together() -> None:
    assert [age_band(one) for one in (0.5, 69.9, 70, 93, 104, None, -1)] == [
        "0-9", "60-69", "70-79", "90+", "90+", "unknown", "unknown"]
