"""AUC, confusion counts, logit and regression against scikit-learn, SciPy and hand cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from segcal_lite.detection_statistics import (
    auc,
    auc_difference,
    auc_interval,
    detection_counts,
    linear_regression,
    logit,
)

score_sets = hnp.arrays(
    float, st.integers(1, 15), elements=st.integers(-4, 4).map(lambda value: value / 3)
)


# AUC


def test_auc_by_hand():
    assert auc([1, 2, 3], [4, 5]) == 1.0
    assert auc([4, 5], [1, 2, 3]) == 0.0
    assert auc([1, 3], [2]) == 0.5
    assert auc([1, 1], [1]) == 0.5
    assert auc([0, 1, 2, 3], [1, 2.5]) == (1.5 + 3) / 8


@given(score_sets, score_sets)
@settings(max_examples=40, deadline=None)
def test_auc_agrees_with_scikit_learn_and_scipy(scores_in, scores_out):
    metrics = pytest.importorskip("sklearn.metrics")
    is_ood = np.repeat([0, 1], [scores_in.size, scores_out.size])
    oracle = metrics.roc_auc_score(is_ood, np.concatenate([scores_in, scores_out]))
    assert auc(scores_in, scores_out) == pytest.approx(oracle, abs=1e-12)
    u_statistic = stats.mannwhitneyu(scores_out, scores_in, method="asymptotic").statistic
    assert auc(scores_in, scores_out) == pytest.approx(
        u_statistic / (scores_in.size * scores_out.size), abs=1e-12
    )


@given(score_sets, score_sets)
@settings(max_examples=40, deadline=None)
def test_auc_symmetry_and_monotone_maps(scores_in, scores_out):
    value = auc(scores_in, scores_out)
    assert auc(scores_out, scores_in) == pytest.approx(1 - value, abs=1e-12)
    assert auc(np.exp(scores_in), np.exp(scores_out)) == value


@pytest.mark.parametrize("n_out", [25, 40])
def test_auc_interval_agrees_with_scipy(n_out):
    rng = np.random.default_rng(1)
    scores_in = rng.normal(size=40)
    # Paired on purpose: drawing the same places in both sets would make the interval too narrow.
    scores_out = scores_in[:n_out] + 0.8
    value, lo, hi = auc_interval(scores_in, scores_out, n_resamples=6000, level=0.9)
    oracle = stats.bootstrap(
        (scores_in, scores_out),
        auc,
        n_resamples=6000,
        confidence_level=0.9,
        method="percentile",
        vectorized=False,
        rng=4,
    ).confidence_interval
    assert value == auc(scores_in, scores_out)
    assert (lo, hi) == pytest.approx((oracle.low, oracle.high), abs=0.008)


def test_auc_interval_resamples_ties_as_halves():
    # Every resample of equal scores is all ties.
    assert auc_interval([1.0, 1.0], [1.0, 1.0, 1.0]) == (0.5, 0.5, 0.5)


def test_auc_interval_follows_its_seed():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=20), rng.normal(size=20)
    assert auc_interval(*scores, seed=2) == auc_interval(*scores, seed=2)
    assert auc_interval(*scores, seed=2) != auc_interval(*scores, seed=3)


def test_auc_difference_is_paired():
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=20), rng.normal(1, size=25)  # shared by both detectors
    better = [part + 0.05 * rng.normal(size=part.size) for part in hardness]
    better[1] = better[1] + 0.5
    difference, lo, hi = auc_difference(better, hardness)
    assert difference == pytest.approx(auc(*better) - auc(*hardness))
    assert 0 < lo < difference < hi
    alone = [auc_interval(*scores)[1:] for scores in (better, hardness)]
    assert alone[0][0] < alone[1][1]  # unpaired intervals overlap


def test_auc_difference_of_a_detector_and_itself_is_zero():
    scores = [0.0, 1.0, 3.0], [1.0, 2.0]
    assert auc_difference(scores, scores) == (0, 0, 0)
    swapped = [[-value for value in part] for part in scores]
    assert auc_difference(scores, swapped)[0] == pytest.approx(2 * auc(*scores) - 1)


def test_auc_difference_needs_the_same_images():
    with pytest.raises(ValueError, match=r"scores_b: found \(1, 2\) images, expected \(2, 2\)"):
        auc_difference(([0.0, 1.0], [1.0, 2.0]), ([0.0], [1.0, 2.0]))


def test_auc_interval_covers():
    rng = np.random.default_rng(17)
    truth = stats.norm.cdf(1 / np.sqrt(2))
    hits = []
    for run in range(300):
        scores = rng.normal(size=40), rng.normal(1.0, 1.0, size=40)
        _, lo, hi = auc_interval(*scores, n_resamples=200, level=0.9, seed=run)
        hits.append(lo <= truth <= hi)
    assert 0.83 < np.mean(hits) < 0.95


# Confusion counts


def test_detection_counts_by_hand():
    counts = detection_counts([0.1, 0.2, 0.5, 0.9], [0.5, 0.6, 0.7], threshold=0.5)
    # A score at the threshold is not above it.
    assert (counts.tp, counts.fn, counts.tn, counts.fp) == (2, 1, 3, 1)
    assert counts.sensitivity == 2 / 3
    assert counts.specificity == 3 / 4
    assert counts.accuracy == 5 / 7


@given(score_sets, score_sets, st.floats(-2, 2))
@settings(max_examples=60, deadline=None)
def test_detection_counts_agree_with_scikit_learn(scores_in, scores_out, threshold):
    metrics = pytest.importorskip("sklearn.metrics")
    is_ood = np.repeat([0, 1], [scores_in.size, scores_out.size])
    called_ood = np.concatenate([scores_in, scores_out]) > threshold
    oracle = metrics.confusion_matrix(is_ood, called_ood, labels=[0, 1])
    counts = detection_counts(scores_in, scores_out, threshold)
    assert [[counts.tn, counts.fp], [counts.fn, counts.tp]] == oracle.tolist()
    assert counts.accuracy == metrics.accuracy_score(is_ood, called_ood)
    # Accuracy is an average of the two rates: it cannot lie outside them.
    rates = counts.sensitivity, counts.specificity
    assert min(rates) - 1e-12 <= counts.accuracy <= max(rates) + 1e-12


@pytest.mark.parametrize("function", [auc, auc_interval, lambda a, b: detection_counts(a, b, 0.0)])
def test_wrong_scores_are_refused(function):
    good = [1.0, 2.0]
    with pytest.raises(ValueError, match="^scores_in: found 1 NaN"):
        function([np.nan, 1.0], good)
    with pytest.raises(ValueError, match="^scores_out: found 1 NaN"):
        function(good, [np.nan, 1.0])
    with pytest.raises(ValueError, match=r"^scores_out: found shape \(0,\), expected \(n,\)"):
        function(good, [])
    with pytest.raises(ValueError, match=r"^scores_in: found shape \(1, 2\), expected \(n,\)"):
        function([good], good)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="^threshold: found 1 NaN"):
        detection_counts([1.0], [2.0], threshold=np.nan)
    with pytest.raises(ValueError, match="^level: found 95, expected a number between 0 and 1"):
        auc_interval([1.0], [2.0], level=95)
    with pytest.raises(ValueError, match="^n_resamples: found 0"):
        auc_interval([1.0], [2.0], n_resamples=0)


# logit


def test_logit_by_hand():
    values, n_clipped = logit([0.5, 0.75, 0.25])
    assert values == pytest.approx([0.0, np.log(3), -np.log(3)])
    assert n_clipped == 0


def test_logit_clips_and_counts():
    values, n_clipped = logit([0.0, 0.004, 0.005, 0.995, 0.996, 1.0])
    low, high = np.log(0.005 / 0.995), np.log(0.995 / 0.005)
    assert values == pytest.approx([low, low, low, high, high, high])
    assert n_clipped == 4  # the bounds themselves are not moved
    values, n_clipped = logit([0.0, 0.004], clip=0.001)
    assert values == pytest.approx([np.log(0.001 / 0.999), np.log(0.004 / 0.996)])
    assert n_clipped == 1


def test_logit_leaves_nan_as_it_is():
    values, n_clipped = logit([[0.5, np.nan]])
    assert values.shape == (1, 2)
    assert np.isnan(values).tolist() == [[False, True]]
    assert n_clipped == 0


def test_logit_of_nothing():
    values, n_clipped = logit([])
    assert (values.size, n_clipped) == (0, 0)


@pytest.mark.parametrize("dice", [-0.01, 1.01, np.inf, 85.0])
def test_logit_refuses_what_is_no_dice(dice):
    with pytest.raises(ValueError, match="^dice: found 1 values outside"):
        logit([0.5, dice])


@pytest.mark.parametrize("clip", [0.0, 0.5, -0.1, np.nan])
def test_logit_refuses_a_clip_that_clips_nothing_or_all(clip):
    with pytest.raises(ValueError, match="^clip: found .*, expected a number between 0 and 0.5"):
        logit([0.5], clip=clip)


# Regression


def test_regression_by_hand():
    fit = linear_regression([0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 5.0, 7.0])
    assert fit.slope == pytest.approx(2.0)
    assert fit.intercept == pytest.approx(1.0)
    assert (fit.pearson_r, fit.spearman_rho) == pytest.approx((1.0, 1.0))
    assert (fit.n, fit.n_missing) == (4, 0)


def test_regression_agrees_with_scipy_and_numpy():
    rng = np.random.default_rng(8)
    entropy = rng.gamma(2.0, size=50)
    logit_dice = 3 - 2 * entropy + rng.normal(size=50) ** 3
    fit = linear_regression(entropy, logit_dice)
    pearson, spearman = stats.pearsonr(entropy, logit_dice), stats.spearmanr(entropy, logit_dice)
    assert (fit.pearson_r, fit.pearson_p) == pytest.approx(tuple(pearson))
    assert (fit.spearman_rho, fit.spearman_p) == pytest.approx(tuple(spearman))
    assert (fit.slope, fit.intercept) == pytest.approx(tuple(np.polyfit(entropy, logit_dice, 1)))
    assert fit.pearson_r < 0
    assert fit.pearson_r != fit.spearman_rho


def test_regression_counts_missing_pairs():
    fit = linear_regression([0, 1, np.nan, 2, 3, np.nan], [0, 1, 5, np.nan, 3, np.nan])
    assert (fit.n, fit.n_missing) == (3, 3)
    assert fit.slope == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("x_values", "y_values", "n", "n_missing"),
    [
        ([], [], 0, 0),
        ([1.0], [1.0], 1, 0),
        ([1.0, 2.0], [1.0, 3.0], 2, 0),
        ([1.0, 2.0, 3.0], [1.0, np.nan, 3.0], 2, 1),
        ([np.nan] * 4, [1.0, 2.0, 3.0, 4.0], 0, 4),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], 3, 0),
        ([1.0, 2.0, 3.0], [0.1, 0.1, 0.1], 3, 0),
    ],
)
@pytest.mark.filterwarnings("error")
def test_regression_without_a_line_is_nan(x_values, y_values, n, n_missing):
    fit = linear_regression(x_values, y_values)
    assert np.isnan(fit[:6]).all()
    assert (fit.n, fit.n_missing) == (n, n_missing)


def test_regression_refuses_misfits_and_infinities():
    with pytest.raises(ValueError, match=r"^y_values: found shape \(2,\), expected \(3,\)"):
        linear_regression([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="^y_values: .* one axis"):
        linear_regression(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="^x_values and y_values: found 1 NaN or infinite"):
        linear_regression([1, 2, np.inf], [1, 2, 3])


def test_an_infinite_score_is_the_most_suspicious():
    assert auc([0.1, 0.2], [np.inf, 0.15]) == 0.75
    assert auc([np.inf], [np.inf]) == 0.5
    assert detection_counts([0.1, np.inf], [np.inf, 0.3], threshold=0.5)[3:] == (1, 1, 1, 1)
