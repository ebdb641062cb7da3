"""Intervals, paired tests, logit and regression against SciPy, simulation and hand cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from segcal_lite.statistics import (
    ROUNDING,
    bootstrap_counts,
    bootstrap_statistic,
    case_interval,
    interval_of_difference,
    linear_regression,
    logit,
    mean_interval,
    paired_interval,
    paired_p_value,
    percentile_interval,
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
    rng = np.random.default_rng(4)
    assert mean_interval(VALUES, seed=rng) == mean_interval(VALUES, seed=4)
    assert mean_interval(VALUES, seed=rng) != mean_interval(VALUES, seed=4)  # it has gone on


# Interval of the mean


def _student_by_hand(values, counts):
    """Pivots of the resamples given by counts: the definition, one resample after the other."""
    observed, pivots = values.std(ddof=1), []
    for count in counts:
        drawn = np.repeat(values, count)
        spread = max(drawn.std(ddof=1), 0.2 * observed)
        pivots.append((drawn.mean() - values.mean()) / (spread / np.sqrt(len(values))))
    return np.sort(pivots), observed / np.sqrt(len(values))


@pytest.mark.parametrize("n_cases", [5, 12, 40])
def test_mean_interval_is_the_studentised_bootstrap(n_cases):
    values = VALUES[:n_cases]
    pivots, error = _student_by_hand(values, bootstrap_counts(n_cases, 2000, seed=6))
    # The 50th from either end: 2 (1 + 49) / 2001 < 0.05 <= 2 (1 + 50) / 2001.
    student = stats.t.ppf(0.975, n_cases - 1)
    expected = values.mean() - error * np.array(
        [max(pivots[-50], student), min(pivots[49], -student)]
    )
    mean, *bounds = mean_interval(values, 2000, seed=6)
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    assert bounds == pytest.approx(expected, rel=1e-9)


def test_no_arm_is_shorter_than_students():
    tied = np.array([0.0] * 14 + [0.1, 0.2, 0.3, 0.5, 0.6, 1.0])
    for values in (VALUES, tied):
        mean, lo, hi = mean_interval(values)
        student = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
        assert lo <= student[0] + 1e-12
        assert hi >= student[1] - 1e-12


def test_the_interval_of_skewed_values_reaches_farther_up():
    mean, lo, hi = mean_interval(VALUES)
    assert hi - mean > 1.15 * (mean - lo)


def test_one_odd_patient_gives_finite_bounds():
    # A third of the resamples draw equal values only: without a least spread, hi is infinite.
    mean, lo, hi = mean_interval([0.0] * 9 + [1.0])
    assert mean == pytest.approx(0.1)
    # Nine zeros: mean -0.1 at a fifth of the standard error 0.1, five of them above 0.1.
    assert hi == pytest.approx(0.1 + 5 * 0.1)
    assert lo < 0


def test_members_and_patients_are_both_resampled():
    rng = np.random.default_rng(2)
    members, cases = rng.normal(size=30), rng.normal(size=(1, 40))
    values = 2.0 * members[:, None] + cases
    mean, lo, hi = mean_interval(values, level=0.6827)
    # In a purely additive table the two sources of variance add.
    expected_std = np.sqrt(4 * members.var(ddof=1) / 30 + cases.var(ddof=1) / 40)
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    assert (hi - lo) / 2 == pytest.approx(expected_std, rel=0.05)


def test_members_and_patients_are_drawn_independently():
    # Shared draws would let the two equal deviations add up instead of their variances.
    deviations = np.random.default_rng(2).normal(size=30)
    values = deviations[:, None] + deviations[None, :]
    _, lo, hi = mean_interval(values, level=0.6827)
    expected_std = np.sqrt(2 * deviations.var(ddof=1) / 30)
    assert (hi - lo) / 2 == pytest.approx(expected_std, rel=0.05)


def test_few_members_are_told_by_students_degrees_of_freedom():
    # Two members a unit apart, patients that hardly differ: one degree of freedom, 12.7 errors.
    values = np.array([[0.0], [1.0]]) + np.linspace(0, 1e-4, 20)
    _, lo, hi = mean_interval(values)
    assert (hi - lo) / 2 == pytest.approx(stats.t.ppf(0.975, 1) * 0.5, rel=1e-3)


def test_equal_members_add_no_width():
    one = mean_interval(VALUES, seed=1)
    assert mean_interval(VALUES[None], seed=1) == one
    assert mean_interval(np.tile(VALUES, (5, 1)), seed=1) == pytest.approx(one, rel=1e-9)


@pytest.mark.parametrize(
    ("draw", "truth", "least"),
    [
        (lambda rng: rng.normal(size=10), 0.0, 0.93),
        (lambda rng: rng.lognormal(size=10), np.exp(0.5), 0.87),  # 0.91 of 2,000, +- 0.014 of 400
        (lambda rng: np.where(rng.random(20) < 0.6, 0.0, rng.normal(size=20)), 0.0, 0.93),
        (lambda rng: rng.normal(size=(3, 1)) + rng.normal(size=(3, 10)), 0.0, 0.92),
    ],
    ids=["normal", "skewed", "tied", "members"],
)
def test_coverage_of_the_mean(draw, truth, least):
    rng, hits = np.random.default_rng(11), []
    for run in range(400):
        _, lo, hi = mean_interval(draw(rng), 2000, seed=run)
        hits.append(lo <= truth <= hi)
    assert np.mean(hits) >= least


@pytest.mark.parametrize("value", [0.25, 0.1, -1e6])
def test_equal_values_give_a_point(value):
    assert mean_interval([value] * 7) == (value, value, value)
    assert mean_interval(np.full((3, 7), value)) == (value, value, value)


@pytest.mark.parametrize("values", [(1.0, 0.0), (0.9, 0.8)])  # exact, and with rounding
def test_members_that_cancel_in_every_patient_give_no_point(values):
    crossed = np.array([values * 3, values[::-1] * 3])  # equal means of all patients and members
    mean, lo, hi = mean_interval(crossed, bounds=(0, 1))
    assert mean == pytest.approx(np.mean(values))
    assert np.isnan([lo, hi]).all()
    with_ones = np.stack([crossed, np.ones(crossed.shape)], axis=-1)
    value, lo, hi = bootstrap_statistic(with_ones, _ratio)
    assert value == pytest.approx(np.mean(values))
    assert np.isnan([lo, hi]).all()


@pytest.mark.parametrize("factor", [1e-300, 1e-170, 1e170, 1e300])
def test_squares_do_not_leave_float64(factor):
    values = np.arange(1.0, 7.0)
    expected = np.array(mean_interval(values)) * factor
    assert mean_interval(values * factor) == pytest.approx(expected, rel=1e-12)
    p_value = paired_p_value(values * factor, np.zeros(6))
    assert p_value == pytest.approx(paired_p_value(values, np.zeros(6)), rel=1e-12)


@pytest.mark.parametrize("n_cases", [1, 2, 3, 4])
def test_fewer_than_five_cases_have_no_interval(n_cases):
    for values in (VALUES[:n_cases], np.tile(VALUES[:n_cases], (6, 1)) + np.eye(6, n_cases)):
        for interval in (mean_interval, percentile_interval):
            mean, lo, hi = interval(values)
            assert mean == pytest.approx(np.mean(values))
            assert np.isnan([lo, hi]).all()
    assert np.isfinite(mean_interval(VALUES[:5])).all()


@given(
    hnp.arrays(float, st.integers(5, 20), elements=st.floats(-100, 100)),
    st.floats(-50, 50),
    st.floats(0.1, 10),
)
@settings(max_examples=40, deadline=None)
def test_mean_interval_moves_and_scales_with_its_values(values, shift, factor):
    values = values.round(3)  # spreads below rounding count as none
    expected = np.array(mean_interval(values, 2000)) * factor + shift
    moved = mean_interval(values * factor + shift, 2000)
    assert moved == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_bounds_cut_the_interval_and_nothing_else():
    dice = np.array([0.99, 0.98, 0.97, 0.99, 0.8, 0.98])
    mean, lo, hi = mean_interval(dice)
    assert hi > 1
    assert mean_interval(dice, bounds=(0, 1)) == (mean, lo, 1.0)
    assert mean_interval(1 - dice, bounds=(0, 1))[1] == 0.0
    with pytest.raises(ValueError, match="^values: found values from 0.8 to 0.99, expected .* 0.9"):
        mean_interval(dice, bounds=(0, 0.9))


def test_a_little_rounding_beyond_the_bounds_is_let_in():
    assert mean_interval([-1e-8, 0.1, 0.2, 0.3, 0.1], bounds=(0, 1))[1] == 0.0


# A's interval


def test_percentile_interval_agrees_with_scipy():
    mean, lo, hi = percentile_interval(VALUES, n_resamples=40_000, level=0.9)
    oracle = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=40_000, confidence_level=0.9, method="percentile", rng=8
    ).confidence_interval
    assert mean == VALUES.mean()
    # Two independent runs of 40,000 resamples: the bounds differ by Monte-Carlo error only.
    assert (lo, hi) == pytest.approx((oracle.low, oracle.high), abs=0.02 * VALUES.std())


def test_percentile_interval_takes_the_resamples_that_bootstrap_counts_gives():
    resampled_means = bootstrap_counts(40, 100, seed=6) @ VALUES / 40
    assert percentile_interval(VALUES, seed=6)[1:] == pytest.approx(
        tuple(np.percentile(resampled_means, [2.5, 97.5])), rel=1e-12
    )
    assert percentile_interval(VALUES[None], seed=6) == percentile_interval(VALUES, seed=6)


@given(hnp.arrays(float, st.integers(5, 30), elements=st.floats(-100, 100)))
@settings(max_examples=50, deadline=None)
def test_percentiles_lie_within_the_values(values):
    for _, lo, hi in (case_interval(values), percentile_interval(values)):
        assert values.min() - 1e-9 <= lo <= hi <= values.max() + 1e-9


# Difference of two estimates


def test_interval_of_difference_by_hand():
    # Arms down 3 and up 3 of the first, down 4 and up 4 of the second: 5 on either side.
    first, second = (5.0, 2.0, 8.0), (3.0, -1.0, 7.0)
    assert interval_of_difference(first, second) == (2.0, -3.0, 7.0)
    # Unequal arms: down sqrt(3^2 + 4^2), up sqrt(12^2 + 5^2).
    assert interval_of_difference((5.0, 2.0, 17.0), (3.0, -2.0, 7.0)) == (2.0, -3.0, 15.0)
    assert interval_of_difference(first, second, correlation=1.0) == (2.0, 1.0, 3.0)
    assert interval_of_difference(first, second, correlation=-1.0) == (2.0, -5.0, 9.0)


def test_interval_of_difference_of_what_has_none():
    assert np.isnan(interval_of_difference((5.0, np.nan, np.nan), (3.0, 2.0, 4.0))[1:]).all()


def test_interval_of_difference_is_near_welchs():
    rng = np.random.default_rng(3)
    a, b = rng.normal(1, 1, size=60), rng.normal(0, 3, size=40)
    welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    found = interval_of_difference(mean_interval(a), mean_interval(b))
    assert found[0] == pytest.approx(a.mean() - b.mean())
    assert found[1:] == pytest.approx((welch.low, welch.high), abs=0.15)


# Pooled metrics


def _ratio(total):
    return total[0] / total[1]


def test_bootstrap_statistic_follows_the_pseudo_values():
    rng = np.random.default_rng(9)
    vectors = np.column_stack([rng.gamma(2.0, size=12), rng.gamma(3.0, size=12)])
    value = _ratio(vectors.sum(axis=0))
    without = np.array([_ratio(np.delete(vectors, i, axis=0).sum(axis=0)) for i in range(12)])
    pseudo = 12 * value - 11 * without
    expected = mean_interval(pseudo - pseudo.mean() + value, seed=3)
    assert bootstrap_statistic(vectors, _ratio, seed=3) == pytest.approx(expected, rel=1e-9)


def test_bootstrap_statistic_of_a_mean_is_the_interval_of_the_mean():
    vectors = np.column_stack([VALUES, np.ones_like(VALUES)])
    assert bootstrap_statistic(vectors, _ratio, seed=5) == pytest.approx(
        mean_interval(VALUES, seed=5), rel=1e-9
    )
    members = np.stack([VALUES, VALUES[::-1], VALUES**2])
    vectors = np.stack([members, np.ones_like(members)], axis=-1)
    assert bootstrap_statistic(vectors, _ratio, seed=5) == pytest.approx(
        mean_interval(members, seed=5), rel=1e-9
    )


def test_bootstrap_statistic_agrees_with_scipy_where_patients_are_many():
    rng = np.random.default_rng(9)
    n_voxels = rng.integers(100, 1000, size=200).astype(float)
    n_wrong = rng.binomial(n_voxels.astype(int), 0.2).astype(float)
    value, lo, hi = bootstrap_statistic(np.column_stack([n_wrong, n_voxels]), _ratio)
    oracle = stats.bootstrap(
        (n_wrong, n_voxels),
        lambda wrong, voxels, axis: wrong.sum(axis=axis) / voxels.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        rng=2,
    ).confidence_interval
    assert value == n_wrong.sum() / n_voxels.sum()
    assert (lo, hi) == pytest.approx((oracle.low, oracle.high), abs=2e-4)


def test_coverage_of_a_ratio_of_sums():
    rng, hits = np.random.default_rng(4), []
    for run in range(400):
        n_voxels = rng.lognormal(6, 0.7, size=10)
        vectors = np.column_stack([n_voxels * rng.beta(2, 8, size=10), n_voxels])
        _, lo, hi = bootstrap_statistic(vectors, _ratio, 2000, seed=run)
        hits.append(lo <= 0.2 <= hi)
    assert np.mean(hits) >= 0.9


def test_bootstrap_statistic_does_not_hide_what_is_undefined():
    # Without the last patient there is no voxel: 0 / 0.
    with np.errstate(invalid="ignore"):
        value, lo, hi = bootstrap_statistic([[0, 0]] * 5 + [[1, 2]], _ratio)
    assert value == 0.5
    assert np.isnan([lo, hi]).all()
    value, lo, hi = bootstrap_statistic(
        [[0, 0]] * 5 + [[1, 2]], lambda total: float(total[0]) / float(total[1])
    )
    assert value == 0.5
    assert np.isnan([lo, hi]).all()
    assert np.isnan(bootstrap_statistic([[0, 0]] * 6, lambda total: 1 / int(total[1]))).all()


def test_bootstrap_statistic_of_few_cases_has_no_interval():
    value, lo, hi = bootstrap_statistic([[1, 2], [3, 4], [5, 6], [1, 4]], _ratio)
    assert value == 10 / 16
    assert np.isnan([lo, hi]).all()


def test_bootstrap_statistic_is_cut_at_its_bounds():
    vectors = [[0, 10], [0, 20], [1, 10], [0, 5], [0, 10], [0, 15]]
    assert bootstrap_statistic(vectors, _ratio)[1] < 0
    assert bootstrap_statistic(vectors, _ratio, bounds=(0, 1))[1] == 0


# Paired differences


def test_paired_interval_is_that_of_the_differences():
    other = VALUES[::-1]
    assert paired_interval(VALUES, other, seed=2) == mean_interval(VALUES - other, seed=2)


def test_paired_p_value_by_hand():
    values = VALUES[:12] - 1.2
    pivots, error = _student_by_hand(values, bootstrap_counts(12, 2000, seed=0))
    t = values.mean() / error
    beyond = min(np.sum(pivots >= t), np.sum(pivots <= t))
    expected = max(2 * (1 + beyond) / 2001, 2 * stats.t.sf(abs(t), 11))
    assert paired_p_value(values, np.zeros(12), 2000) == pytest.approx(expected, rel=1e-9)
    assert 0.05 < expected < 0.6


def test_a_mean_difference_of_zero_has_p_one():
    assert paired_p_value([1.0] * 11 + [-11.0], np.zeros(12)) == 1.0


@given(
    hnp.arrays(float, st.integers(5, 12), elements=st.integers(-5, 8).map(float)),
    st.sampled_from([0.2, 0.1, 0.05, 0.01, 0.002]),
    st.integers(2000, 2003),
)
@settings(max_examples=150, deadline=None)
def test_p_is_below_alpha_exactly_where_the_interval_leaves_zero_out(values, alpha, n_resamples):
    zeros = np.zeros(len(values))
    _, lo, hi = paired_interval(values, zeros, n_resamples, level=1 - alpha)
    p_value = paired_p_value(values, zeros, n_resamples)
    assert (p_value < alpha) == (lo > 0 or hi < 0)


@pytest.mark.parametrize("n_resamples", [2000, 3999])
def test_p_and_interval_agree_at_every_level(n_resamples):
    # 0.05 x 4000 / 2 is a whole number: the bound is then itself a resample that counts.
    rng = np.random.default_rng(5)
    for shift in np.linspace(0, 1, 25):
        values = rng.exponential(size=15) - 1 + shift
        p_value = paired_p_value(values, np.zeros(15), n_resamples)
        for alpha in (p_value * 0.999, p_value * 1.001, 0.05, 0.01):
            if 4 / n_resamples < alpha < 1:
                _, lo, hi = paired_interval(values, np.zeros(15), n_resamples, level=1 - alpha)
                assert (p_value < alpha) == (not lo <= 0 <= hi)


def test_the_smallest_p_value():
    far, zeros = np.full(30, 5.0), np.zeros(30)
    assert paired_p_value(far, zeros, n_resamples=2000) == 2 / 2001
    assert paired_p_value(far, zeros) == 2 / 10_001


@pytest.mark.parametrize("n_cases", [1, 2, 3, 4])
def test_fewer_than_five_patients_have_no_p_value(n_cases):
    far = 5.0 + np.arange(n_cases) / 100
    assert np.isnan(paired_p_value(far, np.zeros(n_cases)))
    assert np.isfinite(paired_p_value(5.0 + np.arange(5) / 100, np.zeros(5)))


def test_equal_methods_have_p_one():
    assert paired_p_value(VALUES, VALUES) == 1.0


def test_methods_that_differ_by_rounding_are_equal():
    almost = VALUES * (1 + np.finfo(float).eps * np.random.default_rng(0).integers(0, 3, 40))
    assert np.any(almost != VALUES)
    assert paired_p_value(almost, VALUES) == 1.0
    assert paired_interval(almost, VALUES) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("factor", [0.7, 0.1, 1 / 3])
def test_resampled_ties_count_in_spite_of_rounding(factor):
    # Many resamples put the true mean at exactly zero, but for rounding once the unit changes.
    differences, zeros = np.array([1.0, -1, -1, 2, 1, 1, 0]), np.zeros(7)
    p_value = paired_p_value(differences, zeros, n_resamples=2000)
    assert paired_p_value(factor * differences, zeros, n_resamples=2000) == p_value


def test_p_values_are_near_uniform_under_the_null_and_small_off_it():
    rng = np.random.default_rng(21)
    noise, zeros = rng.normal(size=(500, 60)), np.zeros(60)
    null = np.array([paired_p_value(run, zeros, n_resamples=2000) for run in noise])
    for alpha in (0.1, 0.25, 0.5, 0.75):
        # Four standard errors of a share of 500, and what the longer of two arms takes off.
        allowed = 4 * np.sqrt(alpha * (1 - alpha) / 500)
        assert np.mean(null <= alpha) == pytest.approx(0.95 * alpha, abs=allowed)
    shifted = [paired_p_value(run + 0.5, zeros, n_resamples=2000) for run in noise[:100]]
    assert np.mean(np.array(shifted) < 0.05) > 0.9


@pytest.mark.parametrize("n_cases", [5, 10, 20])
def test_a_true_null_is_seldom_refused(n_cases):
    noise = np.random.default_rng(8).normal(size=(600, n_cases))
    null = [paired_p_value(run, np.zeros(n_cases), n_resamples=2000, seed=0) for run in noise]
    # Percentiles gave 4 and 2 % at 10 and 20 patients: 0.015 of 600 is 9, 4 % would be 24.
    assert np.mean(np.array(null) < 0.01) <= 0.015


@pytest.mark.parametrize("shift", [0.1, 0.2, 0.3])
def test_p_value_is_close_to_the_t_test(shift):
    values = np.random.default_rng(4).normal(size=100) + shift
    expected = stats.ttest_1samp(values, 0).pvalue
    p_value = paired_p_value(values, np.zeros(100))
    assert p_value >= expected - 1e-12
    assert p_value == pytest.approx(expected, abs=0.03)


@given(hnp.arrays(float, (2, 12), elements=st.floats(-10, 10)))
@settings(max_examples=50, deadline=None)
def test_p_value_does_not_care_which_method_comes_first(values):
    first, second = values
    p_value = paired_p_value(first, second, n_resamples=2000)
    assert p_value == paired_p_value(second, first, n_resamples=2000)
    assert 2 / 2001 <= p_value <= 1


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
    for function in (case_interval, mean_interval, percentile_interval):
        with pytest.raises(ValueError, match="^level: found .*, expected a number between 0 and 1"):
            function(VALUES, level=level)


def test_wrong_counts_are_refused():
    for refused in (
        lambda: mean_interval(VALUES, n_resamples=1999),
        lambda: mean_interval(VALUES[:3], n_resamples=100),
        lambda: bootstrap_statistic(np.ones((6, 2)), _ratio, n_resamples=100),
        lambda: paired_interval(VALUES, VALUES, n_resamples=1000),
        lambda: paired_p_value(VALUES, VALUES, n_resamples=1000),
    ):
        with pytest.raises(
            ValueError, match="^n_resamples: found .*, expected an integer of at least 2000"
        ):
            refused()
    with pytest.raises(
        ValueError, match="^n_resamples: found 0, expected an integer of at least 1"
    ):
        percentile_interval(VALUES, n_resamples=0)
    with pytest.raises(ValueError, match="^level: found 0.9995, expected less than 1 - 2 / 2001"):
        mean_interval(VALUES, n_resamples=2000, level=0.9995)
    with pytest.raises(ValueError, match="^n_cases: found 0, expected an integer of at least 1"):
        bootstrap_counts(0, 10)


@pytest.mark.parametrize("seed", [1.5, -1, True, None, "7"])
def test_a_seed_is_an_integer_or_a_generator(seed):
    mean_interval(VALUES, seed=1)  # what is kept of 1 is not for True
    for refused in (
        lambda: mean_interval(VALUES, seed=seed),
        lambda: paired_p_value(VALUES, VALUES, seed=seed),
        lambda: percentile_interval(VALUES, seed=seed),
        lambda: bootstrap_counts(3, 10, seed=seed),
    ):
        with pytest.raises(ValueError, match="^seed: found .*, expected an integer of at least 0"):
            refused()
    generators = (np.random.default_rng(4) for _ in range(2))
    first, second = (mean_interval(VALUES, seed=generator) for generator in generators)
    assert first == second == mean_interval(VALUES, seed=4)


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


def test_a_side_that_is_constant_but_for_rounding_has_no_line():
    rng = np.random.default_rng(0)
    alike = np.array([np.mean(rng.permutation([0.9] * n)) for n in range(3, 42)])
    assert np.ptp(alike) > 0
    fit = linear_regression(alike, rng.normal(size=alike.size))
    assert np.isnan([fit.slope, fit.pearson_r, fit.spearman_rho]).all() and fit.n == alike.size


@pytest.mark.parametrize(
    "function", [mean_interval, bootstrap_statistic, paired_interval, paired_p_value]
)
def test_docstrings_say_what_counts_as_rounding(function):
    assert f"at most {ROUNDING:g} of" in " ".join(function.__doc__.split())


def test_deviations_up_to_rounding_count_as_none():
    values = 1 + 0.9 * ROUNDING * np.array([-1.0, 1, -1, 1, -1, 1])
    mean, lo, hi = mean_interval(values)
    assert lo == mean == hi
    assert bootstrap_statistic(values[:, None], lambda total: total[0])[1] == pytest.approx(6)
    assert paired_p_value(values, np.ones(6)) == 1 and paired_interval(values, np.ones(6))[1] == 0
    _, lo, hi = mean_interval(1 + 10 * (values - 1))
    assert lo < hi
