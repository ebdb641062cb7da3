"""Orders of review and what to expect of a new case: by hand, beside textbooks, in the extremes."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit

from segcal_lite.report.review import (
    area_under_risk_coverage,
    expected_dice,
    expected_volume,
    fit_dice,
    fit_volume,
    order_of_review,
    pairwise_dice,
    pearson_interval,
    risk_coverage,
)
from segcal_lite.statistics import MIN_CASES, linear_regression

risks_and_scores = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.integers(0, 3)), min_size=1, max_size=12
)


# risk and coverage


def test_a_curve_by_hand():
    coverage, risk = risk_coverage([0.4, 0.0, 0.2, 0.6], scores=[3, 1, 2, 4])
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert area_under_risk_coverage([0.4, 0.0, 0.2, 0.6], [3, 1, 2, 4]) == pytest.approx(0.15)


def test_ties_are_the_mean_over_all_orders():
    risks, scores = np.array([0.1, 0.9, 0.4, 0.3, 0.7]), np.array([1, 2, 2, 2, 3])
    curves = []
    for order in permutations([1, 2, 3]):
        arranged = risks[[0, *order, 4]]
        curves.append(np.cumsum(arranged) / np.arange(1, 6))
    assert risk_coverage(risks, scores)[1] == pytest.approx(np.mean(curves, axis=0))


def test_one_score_for_all_is_random_order():
    risks = np.random.default_rng(0).random(9)
    assert area_under_risk_coverage(risks, np.zeros(9)) == pytest.approx(risks.mean())


@given(risks_and_scores)
def test_no_order_beats_the_oracle_nor_is_worse_than_its_reverse(pairs):
    risks, scores = map(np.array, zip(*pairs, strict=True))
    area = area_under_risk_coverage(risks, scores)
    best, worst = (area_under_risk_coverage(risks, sign * risks) for sign in (1, -1))
    assert best - 1e-9 <= area <= worst + 1e-9
    assert best - 1e-9 <= risks.mean() <= worst + 1e-9
    assert risk_coverage(risks, scores)[1][-1] == pytest.approx(risks.mean())


def test_a_missing_score_is_the_most_doubtful():
    risks = [0.2, 0.1, 0.9, 0.7]
    with_missing = risk_coverage(risks, [2, 1, np.nan, np.nan])[1]
    assert with_missing == pytest.approx(risk_coverage(risks, [2, 1, 99, 99])[1])


@pytest.mark.parametrize(
    ("risks", "scores"), [([], []), ([0.1], [1, 2]), ([[0.1]], [[1]]), ([np.nan], [1])]
)
def test_wrong_risks_are_one_sentence(risks, scores):
    with pytest.raises(ValueError, match="^risks"):
        risk_coverage(risks, scores)


def test_a_telling_order_is_told_from_random_order_and_a_meaningless_one_is_not():
    rng = np.random.default_rng(1)
    risks = rng.random(60)
    found = order_of_review(risks, risks + 0.2 * rng.normal(size=60))
    assert found.hi < 0 and found.difference == pytest.approx(found.aurc - found.random)
    assert found.oracle <= found.aurc and found.random == pytest.approx(risks.mean())
    found = order_of_review(risks, rng.random(60))
    assert found.lo < 0 < found.hi


def test_copies_of_scans_are_no_new_patients():
    rng = np.random.default_rng(2)
    risks, scores = rng.random((2, 12))
    once = order_of_review(risks, scores)
    copies = np.repeat(risks, 4), np.repeat(scores, 4)
    copied = order_of_review(*copies, np.repeat(list("abcdefghijkl"), 4))
    as_new = order_of_review(*copies)
    assert copied.hi - copied.lo == pytest.approx(once.hi - once.lo, rel=0.2)
    assert as_new.hi - as_new.lo < 0.7 * (copied.hi - copied.lo)


@pytest.mark.parametrize("n", [1, 2, MIN_CASES - 1])
def test_few_patients_have_no_interval(n):
    found = order_of_review(np.linspace(0.1, 0.5, n), np.arange(n))
    assert np.isnan([found.lo, found.hi]).all() and np.isfinite(found.aurc)
    found = order_of_review(np.linspace(0.1, 0.5, 20), np.arange(20), np.arange(20) % n)
    assert np.isnan([found.lo, found.hi]).all()


def test_patients_are_as_many_as_cases():
    with pytest.raises(ValueError, match="patients: found shape"):
        order_of_review([0.1, 0.2], [1, 2], ["a"])
    values = np.linspace(0.1, 0.9, 7)
    for work in (order_of_review, fit_dice, fit_volume, pearson_interval):
        with pytest.raises(ValueError, match="patients: found 1 missing, .* each of 7 cases"):
            work(values, values, [*"abcdef", np.nan])


# expected Dice


@pytest.fixture
def labelled():
    rng = np.random.default_rng(3)
    entropies = rng.uniform(0.1, 0.4, 30)
    return entropies, expit(4 - 8 * entropies + 0.4 * rng.normal(size=30))


def test_the_line_and_its_interval_are_those_of_textbooks(labelled):
    entropies, dice = labelled
    line, peer = fit_dice(entropies, dice), linear_regression(entropies, logit(dice))
    assert (line.slope, line.intercept) == pytest.approx((peer.slope, peer.intercept))
    residuals = logit(dice) - peer.intercept - peer.slope * entropies
    error = np.sqrt((residuals**2).sum() / 28)
    away = (0.35 - entropies.mean()) ** 2 / ((entropies - entropies.mean()) ** 2).sum()
    half = stats.t.ppf(0.95, 28) * error * np.sqrt(1 + 1 / 30 + away)
    middle = peer.intercept + peer.slope * 0.35
    expected = expit([middle, middle - half, middle + half])
    assert np.array(expected_dice(line, 0.35, level=0.9)) == pytest.approx(expected)
    assert (line.n, line.n_patients, line.n_missing, line.n_clipped) == (30, 30, 0, 0)
    assert line.freedom == 28


def test_the_error_is_that_of_patients_left_out(labelled):
    entropies, dice = labelled
    patients = np.arange(30) % 7
    errors, held = [], []
    for patient in range(7):
        here = patients == patient
        line = fit_dice(entropies[~here], dice[~here], patients[~here])
        found = expected_dice(line, entropies[here])
        errors.append(np.abs(found.value - dice[here]).mean())
        held += ((found.lo <= dice[here]) & (dice[here] <= found.hi)).tolist()
    line = fit_dice(entropies, dice, patients)
    assert line.error == pytest.approx(np.mean(errors))
    assert line.held == pytest.approx(np.mean(held))


def test_every_patient_has_the_same_weight(labelled):
    entropies, dice = labelled
    once = fit_dice(entropies, dice)
    again = fit_dice(*(np.append(v, [v[0]] * 5) for v in labelled), [*range(30), *[0] * 5])
    assert again[:7] == pytest.approx(once[:7]) and (again.n, again.n_patients) == (35, 30)
    as_new = fit_dice(*(np.append(v, [v[0]] * 5) for v in labelled))
    assert as_new.slope != pytest.approx(once.slope)


def test_nothing_predicted_is_counted_and_has_no_expected_dice(labelled):
    entropies, dice = labelled
    with_missing = fit_dice(np.append(entropies, [np.nan] * 2), np.append(dice, [0.0, 1.0]))
    assert (with_missing.n, with_missing.n_missing, with_missing.n_clipped) == (30, 2, 0)
    assert with_missing.slope == pytest.approx(fit_dice(entropies, dice).slope)
    found = expected_dice(with_missing, [np.nan, 0.2])
    assert np.isnan([found.value[0], found.lo[0], found.hi[0]]).all()
    assert found.lo[1] < found.value[1] < found.hi[1]


def test_total_failures_are_clipped_and_counted(labelled):
    entropies, dice = labelled
    line = fit_dice(np.append(entropies, 0.5), np.append(dice, 0.0))
    assert line.n_clipped == 1 and np.isfinite(line.slope)


@pytest.mark.parametrize("n", [0, 1, 2, MIN_CASES - 1])
def test_few_patients_have_no_line(n):
    for line in (
        fit_dice(np.linspace(0.1, 0.3, n), np.linspace(0.9, 0.5, n)),
        fit_dice([0.1, 0.2, 0.3] * n, [0.9, 0.8, 0.6] * n, np.repeat(np.arange(n), 3)),
    ):
        assert line.n_patients == n and np.isnan([line.slope, line.error, line.held]).all()
        assert np.isnan(expected_dice(line, [0.1, 0.2])).all()


def test_equal_entropies_have_no_line():
    line = fit_dice([0.2] * 6, [0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    assert np.isnan(line.slope) and np.isnan(expected_dice(line, 0.2).value)


def test_an_interval_holds_what_it_promises():
    """Of new patients: as often as it says for one scan each, at least so often for several."""
    rng, held = np.random.default_rng(4), {1: [], 3: []}
    for n_scans in held:
        for _ in range(500):
            entropies = rng.uniform(0.1, 0.4, (9, n_scans))
            noise = rng.normal(size=(9, 1)) + rng.normal(size=(9, n_scans))
            dice = expit(4 - 8 * entropies + 0.3 * noise)
            patients = np.repeat(np.arange(8), n_scans)
            line = fit_dice(entropies[:8].ravel(), dice[:8].ravel(), patients)
            found = expected_dice(line, entropies[8, 0])
            held[n_scans].append(found.lo <= dice[8, 0] <= found.hi)
    assert 0.92 < np.mean(held[1]) < 0.98 and np.mean(held[3]) > 0.94


@pytest.mark.parametrize(
    ("entropies", "dice", "message"),
    [
        ([0.1, 0.2], [0.5], "shapes"),
        ([0.1, np.inf], [0.5, 0.6], "NaN or infinite"),
        ([0.1, 0.2], [0.5, 1.5], "dice: found 1 values outside"),
    ],
)
def test_wrong_pairs_are_one_sentence(entropies, dice, message):
    with pytest.raises(ValueError, match=message):
        fit_dice(entropies, dice)


# correlation


def test_r_is_pearsons_and_copies_are_no_new_patients(labelled):
    entropies, dice = labelled
    r, lo, hi = pearson_interval(entropies, logit(dice))
    assert r == pytest.approx(stats.pearsonr(entropies, logit(dice)).statistic)
    copies = [np.tile(values, 3) for values in (entropies, logit(dice), np.arange(30))]
    assert pearson_interval(*copies) == pytest.approx((r, lo, hi))
    assert -1 <= lo < r < hi < 0


def test_r_of_what_does_not_vary_or_of_too_few_is_nan():
    assert np.isnan(pearson_interval([0.1] * 6, np.arange(6.0))).all()
    assert np.isnan(pearson_interval([np.nan] * 6, np.arange(6.0))).all()
    r, lo, hi = pearson_interval([1, 2, 3], [1.0, 2.0, 4.0])
    assert np.isfinite(r) and np.isnan([lo, hi]).all()


# expected volume


def test_the_volume_is_scaled_by_the_labelled_ratio():
    rng = np.random.default_rng(5)
    predicted_ml = rng.uniform(10, 90, 25)
    log_ratios = 0.1 + 0.05 * rng.normal(size=25)
    line = fit_volume(predicted_ml, predicted_ml * np.exp(log_ratios))
    half = stats.t.ppf(0.975, 24) * log_ratios.std(ddof=1) * np.sqrt(1 + 1 / 25)
    middle = log_ratios.mean()
    expected = 40 * np.exp([middle, middle - half, middle + half])
    assert np.array(expected_volume(line, 40.0)) == pytest.approx(expected)
    assert 0 < line.error < 0.1 and line.slope == 0


def test_empty_volumes_have_no_ratio():
    line = fit_volume([0, 1, 2, 3, 4, 5, 6], [1.0, 0, 2, 3, 4, 5, 6])
    assert (line.n, line.n_missing) == (5, 2)
    assert np.isnan(expected_volume(line, [0.0, np.nan])).all()
    assert np.array(expected_volume(line, 7.0)) == pytest.approx(7.0)
    with pytest.raises(ValueError, match="predicted_ml: found -1"):
        fit_volume([-1.0], [1.0])


# members


def test_pairwise_dice():
    masks = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], dtype=bool)
    assert pairwise_dice(masks) == pytest.approx(1 / 3)
    assert pairwise_dice(np.zeros((3, 4), dtype=bool)) == 1
    assert np.isnan(pairwise_dice(masks[:1])) and np.isnan(pairwise_dice([]))
    with pytest.raises(ValueError, match="mask_pred: found shape"):
        pairwise_dice([np.zeros(3, bool), np.zeros(4, bool)])


@pytest.mark.parametrize("median", [0.989, 0.995, 0.9975])
def test_the_interval_of_a_well_segmented_organ_holds_the_next_patient(median):
    """Dice is clipped before it is fitted: beyond the clip a bound says nothing but 1."""
    rng, held, errors = np.random.default_rng(0), [], []
    for _ in range(200):
        entropies = rng.uniform(0.01, 0.03, 21)
        logits = np.log(median / (1 - median)) + rng.normal(0, 0.4, 21) - 30 * (entropies - 0.02)
        dice = expit(logits)
        line = fit_dice(entropies[:20], dice[:20])
        middle, lo, hi = expected_dice(line, entropies[20])
        held.append(lo <= dice[20] <= hi)
        errors.append((line.error, abs(middle - dice[20])))
    assert np.mean(held) >= 0.9
    told, true = np.mean(errors, axis=0)
    assert told == pytest.approx(true, rel=0.2)


def test_entropies_that_leave_one_patient_out_have_no_error_and_nothing_held():
    line = fit_dice([0.1, 0.1, 0.1, 0.1, 0.3], [0.9, 0.8, 0.85, 0.7, 0.6])
    assert np.isnan(line.error) and np.isnan(line.held)
