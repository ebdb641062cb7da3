"""Intervals and paired tests over patients by the bootstrap; logit Dice and lines through it.

The unit that is resampled is always the patient (the *case*): voxels and slices of one patient are
not independent. Two intervals are easily mistaken for each other, so both are named:

- ``"cases"``: percentiles over the cases, how much one patient differs from the next;
- ``"mean"``: how well these cases determine the mean, by the studentised bootstrap (bootstrap-t).

Each resample r gives the pivot t_r = (mean_r - mean) / s_r with its own standard error s_r, and so
one value of the true mean that these data are compatible with, mean - t_r s. Their percentiles
bound the interval; the part of them on the far side of zero is the p-value. Three rules go with it:

- A resample may draw one patient over and over and have no spread. Its s_r never counts as less
  than a fifth of s, so that no bound is infinite.
- Neither arm of an interval is shorter than Student's, and no p below Student's: where values are
  tied or few, resampling alone undercuts it (differences of which 60 % are zero: 89 % coverage).
- Fewer than 5 patients have no interval and no p-value: NaN.

Paper A names a bootstrap, n = 100, and no more; we read it as percentiles of 100 resampled means
(`percentile_interval`). How often each interval holds the truth is measured by
``tests/benchmarks/bench_coverage.py``, kept in ``results/coverage.csv`` and quoted in the
docstrings. Beside them stands what A draws segment entropy against Dice with: a line
(`linear_regression`) on a scale without bounds (`logit`).

Every function raises ``ValueError`` for NaN, infinities, empty input and misfitting shapes: the
caller leaves missing values out and counts them (``summaries.summarise`` does). Equal seeds give
equal results.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from ._checks import check_count, check_finite, seeded, wrong_input

MIN_CASES = 5  # fewer patients have no interval
MIN_RESAMPLES = 2000  # fewer leave the bounds of a studentised interval to chance
N_RESAMPLES = 10_000
SMALLEST_SPREAD = 0.2  # of the observed standard error: see above
ROUNDING = 1e-12  # of the values' size: deviations up to it are taken for none
UNBOUNDED = (-np.inf, np.inf)


def case_interval(values, level=0.95):
    """Return the mean over cases and the central percentiles of the cases themselves.

    Parameters
    ----------
    values : array_like of float, shape (n_cases,)
        One value a patient.
    level : float
        Fraction of the cases between the two bounds, in (0, 1).

    Returns
    -------
    mean, lo, hi : float
        In the unit of `values`; the percentiles interpolate linearly.

    Examples
    --------
    >>> case_interval([0.0, 10.0, 50.0], level=0.5)
    (20.0, 5.0, 30.0)
    """
    values = _check_values("values", values, (1,))
    return float(values.mean()), *_percentile_bounds(values, level)


def mean_interval(values, n_resamples=N_RESAMPLES, level=0.95, seed=0, bounds=UNBOUNDED):
    """Return the mean and its studentised bootstrap interval over patients.

    With members, the table is crossed: members and patients are both drawn anew, independently of
    each other, and the squared standard error is that of the patients' means plus that of the
    members' means. (What is left of member and patient together is in both, so the interval is a
    little wide.) Student's degrees of freedom follow from the two by Satterthwaite's formula.
    Deviations from the mean of at most 1e-12 of the largest value count as rounding, as none.

    Of simulated studies with 5 / 10 / 20 / 50 patients, the interval of 95 % holds the mean in:
    normal 97 / 96 / 95 / 95 %; lognormal 89 / 92 / 92 / 94 %; Dice near 1 94 / 96 / 96 / 96 %;
    differences of which 60 % are zero 100 / 98 / 96 / 95 %; six members by patients, normal 96 /
    96 / 96 / 96 %; six members by patients, lognormal 85 / 90 / 93 / 96 %.

    Parameters
    ----------
    values : array_like of float, shape (n_cases,) or (n_members, n_cases)
        One value a patient, or one for each ensemble member and patient.
    n_resamples : int
        Number of bootstrap resamples, at least 2,000.
    level : float
        Coverage of the interval, above 0; at least two resamples must lie beyond either bound.
    seed : int or numpy.random.Generator
        Equal seeds draw equal patients.
    bounds : pair of float
        The least and the largest value there can be, such as (0, 1) for Dice. The interval is cut
        there: its coverage stays, since no true mean lies outside.

    Returns
    -------
    mean, lo, hi : float
        In the unit of `values`. Equal values give a point, ``lo = hi = mean``: they show no spread
        that an interval could be made of. `lo` and `hi` are NaN with fewer than 5 patients, and
        where values vary but neither the means of patients nor those of members do.

    Raises
    ------
    ValueError
        For values outside `bounds`, and for too few resamples.

    Examples
    --------
    >>> mean_interval([0.5, 0.5, 0.5, 0.5, 0.5])
    (0.5, 0.5, 0.5)
    >>> mean_interval([0.25, 0.5, 0.75])
    (0.5, nan, nan)
    """
    values = np.atleast_2d(_check_values("values", values, (1, 2)))
    _check_bounds("values", values, bounds)
    return _bounded_interval(values, n_resamples, level, seed, bounds)


def percentile_interval(values, n_resamples=100, level=0.95, seed=0):
    """Return the mean and percentiles of its resampled values: our reading of paper A, n = 100.

    It is too narrow for few patients. Of simulated studies with 5 / 10 / 20 / 50 patients, the
    interval of 95 % holds the mean in: normal 81 / 87 / 90 / 92 %; lognormal 71 / 79 / 84 / 88 %.

    Parameters
    ----------
    values, level, seed
        As for :func:`mean_interval`.
    n_resamples : int
        Number of bootstrap resamples (A: 100).

    Returns
    -------
    mean, lo, hi : float
        In the unit of `values`. With fewer than 5 patients `lo` and `hi` are NaN.

    Examples
    --------
    >>> percentile_interval([0.5, 0.5, 0.5, 0.5, 0.5])
    (0.5, 0.5, 0.5)
    """
    values = np.atleast_2d(_check_values("values", values, (1, 2)))
    case_counts, member_counts = _crossed_counts(values.shape, n_resamples, seed)
    resampled_means = ((case_counts @ values.T) * member_counts).sum(axis=1) / values.size
    bounds = _percentile_bounds(resampled_means, level)
    return float(values.mean()), *(bounds if values.shape[1] >= MIN_CASES else (np.nan, np.nan))


def bootstrap_counts(n_cases, n_resamples, seed=0):
    """Return how often each resample draws each patient (n_resamples, n_cases), multinomially."""
    n_cases, n_resamples = check_count("n_cases", n_cases), check_count("n_resamples", n_resamples)
    drawn = seeded(seed).integers(n_cases, size=(n_resamples, n_cases))
    drawn += n_cases * np.arange(n_resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)


def bootstrap_statistic(
    vectors, statistic, n_resamples=N_RESAMPLES, level=0.95, seed=0, bounds=UNBOUNDED
):
    """Return a pooled metric and its bootstrap interval over patients.

    A metric of sums is nearly a mean: patient i adds the jackknife's *pseudo-value*, n times the
    metric of all minus n - 1 times the metric without i, moved so that their mean is the metric.
    For a mean these are the values themselves, for a ratio of sums they follow its slope. They
    are resampled as in :func:`mean_interval`, which takes one call of the metric a patient; their
    deviations of at most 1e-12 of the largest pseudo-value count as rounding, as none.
    Draw a metric with a bound on a scale that has none (arctanh for a correlation).

    Of simulated studies with 5 / 10 / 20 / 50 patients, the interval of 95 % holds the truth in:
    ratio of sums 93 / 93 / 93 / 95 %; Pearson's r of -0.8 over three segments a patient 96 / 96 /
    94 / 96 %.

    Parameters
    ----------
    vectors : array_like of float, shape (n_cases, d) or (n_members, n_cases, d)
        Additive sums of each patient, such as voxel counts and summed losses. With members, the
        metric of each member is averaged, and members and patients are both drawn anew.
    statistic : callable
        Maps the sum of the vectors over patients, shape (d,), to a float; smooth in it.
    n_resamples, level, seed, bounds
        As for :func:`mean_interval`.

    Returns
    -------
    value, lo, hi : float
        `value` on the patients as they are. `lo` and `hi` are NaN for fewer than 5 patients, and
        if the metric is not finite without one of them.

    Examples
    --------
    >>> n_wrong_and_n_voxels = [[5, 10], [20, 40], [1, 2], [3, 6], [4, 8]]  # half of the voxels
    >>> bootstrap_statistic(n_wrong_and_n_voxels, lambda total: total[0] / total[1])
    (0.5, 0.5, 0.5)
    """
    vectors = _check_values("vectors", vectors, (2, 3))
    vectors = vectors[None] if vectors.ndim == 2 else vectors
    n_cases, totals = vectors.shape[1], vectors.sum(axis=1)
    of_members = np.array([_value_of(statistic, total) for total in totals], dtype=np.float64)
    value = float(of_members.mean())
    left_out = totals[:, None] - vectors  # (n_members, n_cases, d)
    without = np.array([[_value_of(statistic, total) for total in one] for one in left_out])
    slopes = -(n_cases - 1) * without
    pseudo_values = slopes - slopes.mean(axis=1, keepdims=True) + of_members[:, None]
    if not np.isfinite(pseudo_values).all():
        return value, np.nan, np.nan
    _check_bounds("statistic", of_members, bounds)
    _, lo, hi = _bounded_interval(pseudo_values, n_resamples, level, seed, bounds)
    return value, float(min(lo, value)), float(max(hi, value))


def _value_of(statistic, total):
    """Return a metric of sums, NaN where it divides Python's floats by 0: NumPy's do not raise."""
    try:
        return statistic(total)
    except ZeroDivisionError:
        return np.nan


def paired_interval(values_a, values_b, n_resamples=N_RESAMPLES, level=0.95, seed=0):
    """Return the mean of a - b over patients and its studentised bootstrap interval.

    Pairs that differ by at most 1e-12 of their size count as equal but for rounding, and so do
    differences, by :func:`mean_interval`, that deviate by at most 1e-12 of the largest.

    Parameters
    ----------
    values_a, values_b : array_like of float, shape (n_cases,)
        Two methods on the same patients, in the same order.
    n_resamples, level, seed
        As for :func:`mean_interval`.

    Returns
    -------
    mean, lo, hi : float
        In the unit of the values; equal differences give a point, and with fewer than 5 patients
        `lo` and `hi` are NaN.

    Examples
    --------
    >>> paired_interval([0.75, 1.0, 0.5, 0.5, 1.0], [0.5, 0.75, 0.25, 0.25, 0.75])
    (0.25, 0.25, 0.25)
    """
    return mean_interval(_differences(values_a, values_b), n_resamples, level, seed)


def paired_p_value(values_a, values_b, n_resamples=N_RESAMPLES, seed=0):
    """Return the two-sided p-value of a paired bootstrap test over patients.

    The null hypothesis is a mean difference of zero. Test and interval are two readings of the
    same resamples: p is below alpha exactly where :func:`paired_interval` of level 1 - alpha
    (same `n_resamples` and `seed`) leaves zero out. What counts as rounding there, at most 1e-12 of
    the values' size, does here.

    Of simulated studies with 5 / 10 / 20 / 50 patients and no difference, p falls below 0.01 in:
    normal 0.5 / 0.7 / 1.0 / 1.2 %; lognormal 4.3 / 3.8 / 3.5 / 1.9 %; 60 % zeros 0.0 / 0.1 / 0.3 /
    0.6 %. So with skewed differences and few patients, read a small p as larger than it is.

    Parameters
    ----------
    values_a, values_b : array_like of float, shape (n_cases,)
        Two methods on the same patients, in the same order.
    n_resamples : int
        Number of bootstrap resamples, at least 2,000; no p lies below 2 / (1 + n_resamples).
    seed : int or numpy.random.Generator
        Equal seeds draw equal patients.

    Returns
    -------
    float
        In (0, 1]; 1 where all pairs are equal, NaN for fewer than 5 patients. Equal differences
        other than zero have the least p there is: their interval is a point.

    Examples
    --------
    >>> paired_p_value([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    1.0
    >>> paired_p_value([1.0, 2.0, 3.0], [0.0, 1.0, 1.5])  # too few
    nan
    """
    differences = _differences(values_a, values_b)[None]
    check_count("n_resamples", n_resamples, MIN_RESAMPLES)
    if differences.shape[1] < MIN_CASES:
        return np.nan
    mean, error, freedom, true_means = _studentised(differences, n_resamples, seed)
    t = mean / error if error else np.copysign(np.inf, mean)
    below, above = np.count_nonzero(true_means <= 0), np.count_nonzero(true_means >= 0)
    below = max((1 + below) / (1 + n_resamples), stats.t.sf(t, freedom))
    above = max((1 + above) / (1 + n_resamples), stats.t.cdf(t, freedom))
    return float(min(1.0, 2 * below, 2 * above))


def interval_of_difference(first, second, correlation=0.0):
    """Return the difference of two estimates and its interval, from the interval of each.

    Each arm is the root of the sum of squares of the two arms that face it, less twice their
    product times the correlation (Zou and Donner, Statistics in Medicine 2008: MOVER). Unlike
    adding up standard errors this keeps what the two intervals have: unequal arms, and bounds.

    Parameters
    ----------
    first, second : (value, lo, hi)
        Two estimates with their intervals of one level.
    correlation : float
        Of the two estimates, in [-1, 1]; 0 for different patients.

    Returns
    -------
    difference, lo, hi : float
        ``first - second``; NaN bounds where either has none.

    Examples
    --------
    >>> interval_of_difference((5.0, 2.0, 8.0), (3.0, -1.0, 7.0))
    (2.0, -3.0, 7.0)
    """
    (value_a, lo_a, hi_a), (value_b, lo_b, hi_b) = first, second

    def arm(of_a, of_b):
        return np.sqrt(max(of_a**2 + of_b**2 - 2 * correlation * of_a * of_b, 0.0))

    difference = value_a - value_b
    lo = difference - arm(value_a - lo_a, hi_b - value_b)
    return float(difference), float(lo), float(difference + arm(hi_a - value_a, value_b - lo_b))


def _studentised(values, n_resamples, seed):
    """Return mean, standard error, degrees of freedom and the true means by each resample, sorted.

    The values (n_members, n_cases) are drawn by members and by cases; one member: by cases alone.
    Equal values have an error of 0. It is NaN where others show none in the means of either.
    """
    n_members, n_cases = values.shape
    mean = values.mean()
    deviations = values - mean
    deviations[np.abs(deviations) <= ROUNDING * np.abs(values).max()] = 0.0
    # By a power of two, which is exact: squares of 1e-170 or 1e170 would leave float64.
    exponent = np.frexp(np.abs(deviations).max())[1]
    deviations = np.ldexp(deviations, -exponent)
    _, *observed = _resampled(deviations, np.ones((1, n_cases)), np.ones((1, n_members)))
    means, *variances = _resampled(deviations, *_crossed_counts(values.shape, n_resamples, seed))
    of_cases, of_members = (float(variance[0]) for variance in observed)
    error = np.sqrt(of_cases + of_members)
    if not deviations.any():
        return values.flat[0], 0.0, n_cases - 1, np.full(n_resamples, values.flat[0])
    if error <= ROUNDING:  # of deviations up to 1
        return mean, np.nan, np.nan, np.full(n_resamples, np.nan)
    errors = np.maximum(np.sqrt(sum(variances)), SMALLEST_SPREAD * error)
    shares = of_cases**2 / (n_cases - 1) + of_members**2 / max(n_members - 1, 1)
    freedom, error = error**4 / shares, np.ldexp(error, exponent)
    true_means = np.sort(mean - means / errors * error)
    true_means[np.abs(true_means) <= ROUNDING * np.abs(mean)] = 0.0  # zero but for rounding
    return mean, error, freedom, true_means


def _resampled(deviations, case_counts, member_counts):
    """Return resampled means, and the squared standard errors due to cases and to members."""
    n_members, n_cases = deviations.shape
    member_means = case_counts @ deviations.T / n_cases  # (n_resamples, n_members)
    means = np.einsum("rm,rm->r", member_counts, member_means) / n_members
    if n_members == 1:  # the same in every resample: a product will do
        of_cases = case_counts @ deviations[0] ** 2 / n_cases
    else:
        case_means = member_counts @ deviations / n_members  # (n_resamples, n_cases)
        of_cases = np.einsum("rc,rc,rc->r", case_counts, case_means, case_means) / n_cases
    of_members = np.einsum("rm,rm,rm->r", member_counts, member_means, member_means) / n_members
    of_cases, of_members = (np.maximum(s - means**2, 0.0) for s in (of_cases, of_members))
    return means, of_cases / (n_cases - 1), of_members / max(n_members - 1, 1)


def _bounded_interval(values, n_resamples, level, seed, bounds):
    """Return mean and studentised interval of (n_members, n_cases), cut at `bounds`."""
    n_beyond = _count_beyond(level, check_count("n_resamples", n_resamples, MIN_RESAMPLES))
    if values.shape[1] < MIN_CASES:
        return float(values.mean()), np.nan, np.nan
    mean, error, freedom, true_means = _studentised(values, n_resamples, seed)
    if np.isnan(error):
        return float(mean), np.nan, np.nan
    student = error * stats.t.ppf((1 + level) / 2, freedom)
    lo = min(true_means[n_beyond - 1], mean - student)
    hi = max(true_means[-n_beyond], mean + student)
    lo, hi = max(lo, bounds[0]), min(hi, bounds[1])
    return float(mean), float(min(lo, mean)), float(max(hi, mean))  # of values rounded over a bound


def _count_beyond(level, n_resamples):
    """Return which resample from either end is the bound: p >= 1 - level just where it counts."""
    check_level(level)
    n_beyond = int(np.ceil((1 - level) / 2 * (n_resamples + 1) - 1 - 1e-9))
    if n_beyond < 1:
        raise wrong_input("level", level, f"less than 1 - 2 / {n_resamples + 1}, or more resamples")
    return n_beyond


def _crossed_counts(shape, n_resamples, seed):
    """Return counts of cases (n_resamples, n_cases) and of members (n_resamples, n_members)."""
    is_repeatable = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
    return (_drawn_counts if is_repeatable else _drawn_counts.__wrapped__)(shape, n_resamples, seed)


@lru_cache(maxsize=2)  # a table asks for the same ones again and again
def _drawn_counts(shape, n_resamples, seed):
    """Draw what `_crossed_counts` returns, as float64: products with integers are slow."""
    rng = seeded(seed)
    # Cases first: a single member then gives the same resamples as no members.
    n_members, n_cases = shape
    both = [bootstrap_counts(n, n_resamples, rng).astype(float) for n in (n_cases, n_members)]
    for counts in both:
        counts.flags.writeable = False
    return tuple(both)


def check_level(level):
    """Refuse a `level` that is no coverage of an interval."""
    if not 0 < level < 1:
        raise wrong_input("level", level, "a number between 0 and 1")


def _percentile_bounds(values, level):
    """Return the percentiles that leave (1 - level) / 2 of the values on either side."""
    check_level(level)
    lo, hi = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(lo), float(hi)


def _differences(values_a, values_b):
    """Return a - b for two methods on the same cases, 0 where they differ by rounding only."""
    values_a = _check_values("values_a", values_a, (1,))
    values_b = _check_values("values_b", values_b, (1,))
    if values_a.shape != values_b.shape:
        raise wrong_input("values_b", f"{values_b.size} cases", f"the {values_a.size} of values_a")
    rounding = np.isclose(values_a, values_b, rtol=ROUNDING, atol=0.0)
    return np.where(rounding, 0.0, values_a - values_b)


def _check_values(name, values, n_axes):
    """Return `values` as finite float64, not empty, of as many axes as `n_axes` allows."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim not in n_axes or not values.size:
        expected = f"{' or '.join(map(str, n_axes))} axes and at least one value"
        raise wrong_input(name, f"shape {values.shape}", expected)
    return check_finite(name, values)


def _check_bounds(name, values, bounds):
    """Refuse values outside `bounds` by more than the rounding of float32."""
    lowest, highest = values.min(), values.max()
    if lowest < bounds[0] - 1e-6 or highest > bounds[1] + 1e-6:
        expected = f"values from {bounds[0]:g} to {bounds[1]:g}"
        raise wrong_input(name, f"values from {lowest:g} to {highest:g}", expected)


def logit(dice, clip=0.005):
    """Return ln(d / (1 - d)) of Dice coefficients, and how many were clipped.

    A draws Dice on this scale (Fig. 3), where 0 and 1 have no place. Values are clipped to
    [clip, 1 - clip]; the default is half of the last digit that A prints, so a Dice printed as
    0.00 or 1.00 becomes the value that lies just at that rounding.

    Parameters
    ----------
    dice : array_like of float, any shape
        In [0, 1]; NaN stays NaN.
    clip : float
        In (0, 0.5).

    Returns
    -------
    values : numpy.ndarray of float64
        Shaped as `dice`.
    n_clipped : int
        How many values lay outside [clip, 1 - clip].

    Raises
    ------
    ValueError
        For values outside [0, 1], or `clip` outside (0, 0.5).

    Examples
    --------
    >>> values, n_clipped = logit([0.5, 0.0])
    >>> values.round(3).tolist(), n_clipped
    ([0.0, -5.293], 1)
    """
    if not 0 < clip < 0.5:
        raise wrong_input("clip", clip, "a number between 0 and 0.5")
    dice = np.asarray(dice, dtype=np.float64)
    n_outside = np.count_nonzero((dice < 0) | (dice > 1))
    if n_outside:
        raise wrong_input("dice", f"{n_outside} values outside [0, 1]", "Dice coefficients")
    n_clipped = int(np.count_nonzero((dice < clip) | (dice > 1 - clip)))
    return special.logit(np.clip(dice, clip, 1 - clip)), n_clipped


class LinearRegression(NamedTuple):
    """Correlations with two-sided p-values, the fitted line, and the number of pairs."""

    pearson_r: float
    pearson_p: float
    spearman_rho: float
    spearman_p: float
    slope: float
    intercept: float
    n: int
    n_missing: int


def linear_regression(x_values, y_values):
    """Return the least-squares line of y on x with Pearson's r and Spearman's rho.

    Parameters
    ----------
    x_values, y_values : array_like of float, shape (n,)
        Pairs, such as segment entropy and logit Dice; a pair with a NaN counts as missing.

    Returns
    -------
    LinearRegression
        ``n`` pairs were used and ``n_missing`` left out. With fewer than three pairs, or where
        either side is constant, but for rounding, all but these two numbers are NaN.

    Raises
    ------
    ValueError
        If the shapes differ or a value is infinite.

    Examples
    --------
    >>> fit = linear_regression([0.1, 0.2, 0.3, np.nan], [3.0, 2.0, 1.0, 0.0])
    >>> round(fit.slope, 6), round(fit.pearson_r, 6), fit.n, fit.n_missing
    (-10.0, -1.0, 3, 1)
    """
    x_values, y_values = np.asarray(x_values, float), np.asarray(y_values, float)
    if x_values.ndim != 1 or x_values.shape != y_values.shape:
        raise wrong_input("y_values", f"shape {y_values.shape}", f"{x_values.shape}, one axis")
    pairs = np.stack([x_values, y_values])
    complete = pairs[:, ~np.isnan(pairs).any(axis=0)]
    check_finite("x_values and y_values", complete)
    n, n_missing = complete.shape[1], pairs.shape[1] - complete.shape[1]
    if n < 3 or np.any(np.ptp(complete, axis=1) <= ROUNDING * np.abs(complete).max(axis=1)):
        return LinearRegression(*[np.nan] * 6, n, n_missing)
    line, rank = stats.linregress(*complete), stats.spearmanr(*complete)
    correlations = (line.rvalue, line.pvalue, rank.statistic, rank.pvalue)
    return LinearRegression(*map(float, (*correlations, line.slope, line.intercept)), n, n_missing)
