"""Bootstrap intervals and paired tests against SciPy, simulation and hand-computed cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from segcal_lite.statistics import (
    bootstrap_counts,
    bootstrap_statistic,
    case_interval,
    mean_interval,
    paired_interval,
    paired_p_value,
)

VALUES = np.random.default_rng(3).gamma(2.0, size=40)


# Percentiles over cases


def test_case_interval_by_hand():
    # Position of the 2.5th percentile among 0..40: 0.025 * 40 = 1; of the 97.5th: 39.
    assert case_interval(np.arange(41.0)) == pytest.approx((20.0, 1.0, 39.0), rel=1e-12)
    assert case_interval([0.0, 1.0], level=0.5) == (0.5, 0.25, 0.75)


def test_case_interval_of_one_case_is_that_case():
    assert case_interval([0.3]) == (0.3, 0.3, 0.3)


def test_case_interval_is_wider_than_that_of_the_mean():
    _, case_lo, case_hi = case_interval(VALUES)
    _, mean_lo, mean_hi = mean_interval(VALUES)
    assert case_lo < mean_lo < mean_hi < case_hi


# Bootstrap counts


def test_bootstrap_counts_are_multinomial():
    counts = bootstrap_counts(n_cases=10, n_resamples=20_000, seed=1)
    assert counts.shape == (20_000, 10)
    assert np.all(counts.sum(axis=1) == 10)
    assert counts.min() == 0
    # Variance n p (1 - p) = 0.9, covariance of two patients -n p^2 = -0.1.
    covariance = np.cov(counts.T)
    assert np.diag(covariance) == pytest.approx(np.full(10, 0.9), abs=0.05)
    assert covariance[0, 1:] == pytest.approx(np.full(9, -0.1), abs=0.03)


def test_bootstrap_counts_of_one_case_are_one():
    assert bootstrap_counts(1, 3).tolist() == [[1], [1], [1]]


def test_seeds_decide():
    assert np.array_equal(bootstrap_counts(9, 5, seed=4), bootstrap_counts(9, 5, seed=4))
    assert not np.array_equal(bootstrap_counts(9, 5, seed=4), bootstrap_counts(9, 5, seed=5))
    assert mean_interval(VALUES, seed=4) == mean_interval(VALUES, seed=4)
    assert mean_interval(VALUES, seed=4) != mean_interval(VALUES, seed=5)
    assert mean_interval(VALUES, seed=np.random.default_rng(4)) == mean_interval(VALUES, seed=4)


# Interval of the mean


def test_mean_interval_agrees_with_scipy():
    mean, lo, hi = mean_interval(VALUES, n_resamples=40_000, level=0.9)
    oracle = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=40_000, confidence_level=0.9, method="percentile", rng=8
    ).confidence_interval
    assert mean == VALUES.mean()
    # Two independent runs of 40,000 resamples: the bounds differ by Monte-Carlo error only.
    assert (lo, hi) == pytest.approx((oracle.low, oracle.high), abs=0.02 * VALUES.std())


def test_mean_interval_takes_the_resamples_that_bootstrap_counts_gives():
    resampled_means = bootstrap_counts(40, 100, seed=6) @ VALUES / 40
    assert mean_interval(VALUES, seed=6)[1:] == pytest.approx(
        tuple(np.percentile(resampled_means, [2.5, 97.5])), rel=1e-12
    )


def test_members_and_patients_are_both_resampled():
    rng = np.random.default_rng(2)
    members, cases = rng.normal(size=30), rng.normal(size=(1, 40))
    values = 2.0 * members[:, None] + cases
    mean, lo, hi = mean_interval(values, n_resamples=20_000, level=0.6827)
    # In a purely additive table the two sources of variance add.
    expected_std = np.sqrt(4 * members.var() / 30 + cases.var() / 40)
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    assert (hi - lo) / 2 == pytest.approx(expected_std, rel=0.03)


def test_members_and_patients_are_drawn_independently():
    # Shared draws would let the two equal deviations add up instead of their variances.
    deviations = np.random.default_rng(2).normal(size=30)
    values = deviations[:, None] + deviations[None, :]
    _, lo, hi = mean_interval(values, n_resamples=20_000, level=0.6827)
    assert (hi - lo) / 2 == pytest.approx(np.sqrt(2 * deviations.var() / 30), rel=0.03)


def test_equal_members_add_no_width():
    one = mean_interval(VALUES, seed=1)
    assert mean_interval(VALUES[None], seed=1) == one
    assert mean_interval(np.tile(VALUES, (5, 1)), seed=1) == pytest.approx(one, rel=1e-12)


def test_coverage_of_the_mean():
    rng = np.random.default_rng(11)
    bounds = [mean_interval(rng.normal(size=50), 300, 0.9, seed=run)[1:] for run in range(600)]
    coverage = np.mean([lo <= 0 <= hi for lo, hi in bounds])
    assert 0.85 < coverage < 0.93  # nominal 0.90, a little less with 50 patients


def test_constant_values_have_no_width():
    assert mean_interval([0.25] * 7) == (0.25, 0.25, 0.25)


def test_one_case_has_no_interval():
    for values in ([0.4], [[0.4], [0.6]]):
        mean, lo, hi = mean_interval(values)
        assert mean == np.mean(values)
        assert np.isnan(lo)
        assert np.isnan(hi)


@given(
    hnp.arrays(float, st.integers(2, 30), elements=st.floats(-100, 100)),
    st.floats(-50, 50),
    st.floats(0.1, 10),
)
@settings(max_examples=50, deadline=None)
def test_mean_interval_moves_and_scales_with_its_values(values, shift, factor):
    expected = np.array(mean_interval(values)) * factor + shift
    assert mean_interval(values * factor + shift) == pytest.approx(expected, rel=1e-7, abs=1e-7)


@given(hnp.arrays(float, st.integers(2, 30), elements=st.floats(-100, 100)))
@settings(max_examples=50, deadline=None)
def test_the_bounds_lie_within_the_values(values):
    for _, lo, hi in (case_interval(values), mean_interval(values)):
        assert values.min() - 1e-9 <= lo <= hi <= values.max() + 1e-9


# Pooled metrics


def _ratio(total):
    return total[0] / total[1]


def test_bootstrap_statistic_by_hand():
    value, lo, hi = bootstrap_statistic([[1, 2], [30, 40]], _ratio, n_resamples=1000)
    # Three resamples exist: the first patient twice, both, the second twice.
    assert (value, lo, hi) == (31 / 42, 0.5, 0.75)


def test_bootstrap_statistic_of_a_mean_is_the_interval_of_the_mean():
    vectors = np.column_stack([VALUES, np.ones_like(VALUES)])
    assert bootstrap_statistic(vectors, _ratio, seed=5) == pytest.approx(
        mean_interval(VALUES, seed=5), rel=1e-12
    )
    members = np.stack([VALUES, VALUES[::-1], VALUES**2])
    vectors = np.stack([members, np.ones_like(members)], axis=-1)
    assert bootstrap_statistic(vectors, _ratio, seed=5) == pytest.approx(
        mean_interval(members, seed=5), rel=1e-12
    )


def test_bootstrap_statistic_agrees_with_scipy_on_a_ratio():
    rng = np.random.default_rng(9)
    n_voxels = rng.integers(100, 1000, size=30).astype(float)
    n_wrong = rng.binomial(n_voxels.astype(int), 0.2).astype(float)
    vectors = np.column_stack([n_wrong, n_voxels])
    value, lo, hi = bootstrap_statistic(vectors, _ratio, n_resamples=20_000)
    oracle = stats.bootstrap(
        (n_wrong, n_voxels),
        lambda wrong, voxels, axis: wrong.sum(axis=axis) / voxels.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        rng=2,
    ).confidence_interval
    assert value == n_wrong.sum() / n_voxels.sum()
    assert (lo, hi) == pytest.approx((oracle.low, oracle.high), abs=3e-4)


def test_bootstrap_statistic_does_not_hide_an_undefined_resample():
    # Resamples of only the first patient have no voxel: 0 / 0.
    with np.errstate(invalid="ignore"):
        value, lo, hi = bootstrap_statistic([[0, 0], [1, 2]], _ratio)
    assert value == 0.5
    assert np.isnan([lo, hi]).all()


def test_bootstrap_statistic_of_one_case_has_no_interval():
    value, lo, hi = bootstrap_statistic([[1, 2]], _ratio)
    assert value == 0.5
    assert np.isnan([lo, hi]).all()


# Paired differences


def test_paired_interval_is_that_of_the_differences():
    other = VALUES[::-1]
    expected = mean_interval(VALUES - other, n_resamples=10_000, seed=0)
    assert paired_interval(VALUES, other) == expected


def test_paired_p_value_counts_by_hand():
    # Twelve patients, differences +1 (eleven) and -11: the mean is 0, so every resample counts.
    assert paired_p_value([1.0] * 11 + [-11.0], np.zeros(12)) == 1.0
    # Differences 3 (six) and -1 (six): mean 1. A resample with k of the sixes has the centred mean
    # (4 k - 24) / 12, which reaches +-1 for |k - 6| >= 3, k ~ Binomial(12, 1/2).
    differences = np.array([3.0, -1.0] * 6)
    expected = 2 * stats.binom.cdf(3, 12, 0.5)
    p_value = paired_p_value(differences, np.zeros(12), n_resamples=40_000)
    assert p_value == pytest.approx(expected, abs=0.01)  # without the ties it would be 0.039


def test_resampled_ties_count_in_spite_of_rounding():
    # As above times 0.7, where most resampled means miss the observed one by a rounding error.
    differences = np.array([2.1, -0.7] * 6)
    p_value = paired_p_value(differences, np.zeros(12), n_resamples=40_000)
    assert p_value == pytest.approx(2 * stats.binom.cdf(3, 12, 0.5), abs=0.01)


def test_the_smallest_p_value():
    far, zeros = np.full(30, 5.0), np.zeros(30)
    assert paired_p_value(far, zeros, n_resamples=99) == 1 / 100
    assert paired_p_value(far, zeros) == 1 / 10_001


@pytest.mark.parametrize("n_cases", [1, 2, 3, 7])
def test_few_patients_cannot_be_significant(n_cases):
    far = 5.0 + np.arange(n_cases) / 100
    assert paired_p_value(far, np.zeros(n_cases)) == 2.0 ** (1 - n_cases)


def test_equal_methods_have_p_one():
    assert paired_p_value(VALUES, VALUES) == 1.0


def test_p_value_agrees_with_the_interval():
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.2, 0.28, 0.45, 0.8):
        values = rng.normal(shift, 1.0, size=60)
        _, lo, hi = paired_interval(values, np.zeros(60), level=0.95)
        p_value = paired_p_value(values, np.zeros(60))
        if not 0.03 < p_value < 0.08:
            assert (p_value < 0.05) == (not lo <= 0 <= hi)


def test_p_values_are_near_uniform_under_the_null_and_small_off_it():
    rng = np.random.default_rng(21)
    noise = rng.normal(size=(500, 60))
    zeros = np.zeros(60)
    null = [paired_p_value(run, zeros, n_resamples=400) for run in noise]
    for alpha in (0.1, 0.25, 0.5, 0.75):
        # Four standard errors of a share of 500.
        allowed = 4 * np.sqrt(alpha * (1 - alpha) / 500)
        assert np.mean(np.array(null) <= alpha) == pytest.approx(alpha, abs=allowed)
    shifted = [paired_p_value(run + 0.5, zeros, n_resamples=400) for run in noise[:100]]
    assert np.mean(np.array(shifted) < 0.05) > 0.9


def test_p_value_is_close_to_the_t_test():
    for shift in (0.1, 0.2, 0.3):
        values = np.random.default_rng(4).normal(size=100) + shift
        expected = stats.ttest_1samp(values, 0).pvalue
        assert paired_p_value(values, np.zeros(100)) == pytest.approx(expected, abs=0.03)


@given(hnp.arrays(float, (2, 12), elements=st.floats(-10, 10)))
@settings(max_examples=50, deadline=None)
def test_p_value_does_not_care_which_method_comes_first(values):
    first, second = values
    p_value = paired_p_value(first, second, n_resamples=200)
    assert p_value == paired_p_value(second, first, n_resamples=200)
    assert 1 / 201 <= p_value <= 1


# Wrong input


@pytest.mark.parametrize("function", [case_interval, mean_interval])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(function, bad):
    with pytest.raises(ValueError, match="^values: found 1 NaN or infinite values, expected"):
        function([0.1, bad, 0.3])


@pytest.mark.parametrize("function", [case_interval, mean_interval])
def test_empty_input_is_refused(function):
    with pytest.raises(ValueError, match=r"^values: found shape \(0,\), expected 1"):
        function([])


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"^values: found shape \(2, 3\), expected 1 axes"):
        case_interval(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^values: found shape \(1, 2, 3\), expected 1 or 2"):
        mean_interval(np.ones((1, 2, 3)))
    with pytest.raises(ValueError, match=r"^vectors: found shape \(3,\), expected 2 or 3 axes"):
        bootstrap_statistic(np.ones(3), _ratio)
    for paired in (paired_interval, paired_p_value):
        with pytest.raises(ValueError, match="^values_b: found 3 cases, expected the 2 of"):
            paired(np.ones(2), np.ones(3))
        with pytest.raises(ValueError, match="^values_b: found 1 NaN"):
            paired(np.ones(2), [1.0, np.nan])


@pytest.mark.parametrize("level", [0, 1, 95, np.nan])
def test_wrong_levels_are_refused(level):
    for function in (case_interval, mean_interval):
        with pytest.raises(ValueError, match="^level: found .*, expected a number between 0 and 1"):
            function(VALUES, level=level)


def test_wrong_counts_are_refused():
    with pytest.raises(ValueError, match="^n_resamples: found 0, expected an integer of at least"):
        mean_interval(VALUES, n_resamples=0)
    with pytest.raises(ValueError, match="^n_cases: found 0, expected an integer of at least 1"):
        bootstrap_counts(0, 10)
