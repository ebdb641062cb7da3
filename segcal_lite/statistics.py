"""Bootstrap over patients: intervals, and tests of paired differences.

The unit that is resampled is always the patient (the *case*): voxels and slices of one patient are
not independent. Two intervals are easily mistaken for each other, so both are named:

- ``"cases"``: percentiles over the cases, how much one patient differs from the next;
- ``"mean"``: percentile bootstrap of the mean, how well these cases determine the mean.

Paper A bootstraps with n = 100; the intervals in its tables are evidently of the first kind. No
p-value from n resamples lies below 1 / (1 + n): for p < 0.01 take far more than 100.

Every function raises ``ValueError`` for NaN, infinities, empty input and misfitting shapes: the
caller leaves missing values out and counts them (``summaries.summarise`` does). Equal seeds give
equal results.
"""

import numpy as np

from ._checks import check_count, check_finite, wrong_input


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


def mean_interval(values, n_resamples=100, level=0.95, seed=0):
    """Return the mean and its percentile bootstrap interval over patients.

    Parameters
    ----------
    values : array_like of float, shape (n_cases,) or (n_members, n_cases)
        One value a patient, or one for each ensemble member and patient; in the second form
        members and patients are both drawn anew, independently of each other.
    n_resamples : int
        Number of bootstrap resamples (A: 100).
    level : float
        Coverage of the interval, in (0, 1).
    seed : int or numpy.random.Generator
        Equal seeds draw equal patients.

    Returns
    -------
    mean, lo, hi : float
        In the unit of `values`. One case has no interval: `lo` and `hi` are NaN.

    Examples
    --------
    >>> mean_interval([0.5, 0.5, 0.5, 0.5])
    (0.5, 0.5, 0.5)
    """
    values = np.atleast_2d(_check_values("values", values, (1, 2)))
    case_counts, member_counts = _crossed_counts(values.shape, n_resamples, seed)
    resampled_means = ((case_counts @ values.T) * member_counts).sum(axis=1) / values.size
    return float(values.mean()), *_bootstrap_bounds(resampled_means, level, values.shape[1])


def bootstrap_counts(n_cases, n_resamples, seed=0):
    """Return how often each patient occurs in each bootstrap resample.

    Sums over patients are resampled as ``counts @ sums``, without touching a voxel again.

    Parameters
    ----------
    n_cases, n_resamples : int
        Number of patients and of resamples, at least 1.
    seed : int or numpy.random.Generator
        Equal seeds draw equal patients.

    Returns
    -------
    numpy.ndarray of int, shape (n_resamples, n_cases)
        Multinomial counts; every row sums to `n_cases`.

    Examples
    --------
    >>> bootstrap_counts(n_cases=4, n_resamples=3).sum(axis=1).tolist()
    [4, 4, 4]
    """
    n_cases, n_resamples = check_count("n_cases", n_cases), check_count("n_resamples", n_resamples)
    chances = np.full(n_cases, 1 / n_cases)
    return np.random.default_rng(seed).multinomial(n_cases, chances, size=n_resamples)


def bootstrap_statistic(vectors, statistic, n_resamples=100, level=0.95, seed=0):
    """Return a pooled metric and its percentile bootstrap interval over patients.

    Parameters
    ----------
    vectors : array_like of float, shape (n_cases, d) or (n_members, n_cases, d)
        Additive sums of each patient, such as voxel counts and summed losses. With members, the
        metric of each member is averaged, and members and patients are both drawn anew.
    statistic : callable
        Maps the sum of the vectors over patients, shape (d,), to a float.
    n_resamples, level, seed
        As for :func:`mean_interval`.

    Returns
    -------
    value, lo, hi : float
        `value` on the patients as they are. `lo` and `hi` are NaN for one case, and if the metric
        is NaN in any resample.

    Examples
    --------
    >>> n_wrong_and_n_voxels = [[5, 10], [20, 40]]  # either patient: half of the voxels
    >>> bootstrap_statistic(n_wrong_and_n_voxels, lambda total: total[0] / total[1])
    (0.5, 0.5, 0.5)
    """
    vectors = _check_values("vectors", vectors, (2, 3))
    vectors = vectors[None] if vectors.ndim == 2 else vectors
    n_members, n_cases, _ = vectors.shape
    case_counts, member_counts = _crossed_counts((n_members, n_cases), n_resamples, seed)
    value = float(np.mean([statistic(total) for total in vectors.sum(axis=1)]))
    totals = case_counts @ vectors  # (n_members, n_resamples, d)
    member_values = np.array([[statistic(total) for total in member] for member in totals])
    resampled_values = (member_values.T * member_counts).sum(axis=1) / n_members
    return value, *_bootstrap_bounds(resampled_values, level, n_cases)


def paired_interval(values_a, values_b, n_resamples=10_000, level=0.95, seed=0):
    """Return the mean of a - b over patients and its percentile bootstrap interval.

    Parameters
    ----------
    values_a, values_b : array_like of float, shape (n_cases,)
        Two methods on the same patients, in the same order.
    n_resamples, level, seed
        As for :func:`mean_interval`.

    Returns
    -------
    mean, lo, hi : float
        In the unit of the values; `lo` and `hi` are NaN for one case.

    Examples
    --------
    >>> paired_interval([0.75, 1.0, 0.5], [0.5, 0.75, 0.25])
    (0.25, 0.25, 0.25)
    """
    return mean_interval(_differences(values_a, values_b), n_resamples, level, seed)


def paired_p_value(values_a, values_b, n_resamples=10_000, seed=0):
    """Return the two-sided p-value of a paired bootstrap test over patients.

    The null hypothesis is a mean difference of zero: the differences are centred, resampled by
    patient, and p is the part of the resampled means as far from zero as the observed one,
    counted as (1 + count) / (1 + n_resamples). The bootstrap is too sure of a handful of patients
    (two that agree would give the smallest p there is), so p is never less than 2^(1 - n_cases),
    the least that any test by exchanging the two methods within patients can give.
    Simulated with normal differences, a true null falls below 0.01 in about 4 % of trials with 10
    patients, 2 % with 20 and 1 % from 50 on: with few patients read p as too small.

    Parameters
    ----------
    values_a, values_b : array_like of float, shape (n_cases,)
        Two methods on the same patients, in the same order.
    n_resamples : int
        Number of bootstrap resamples; no p lies below 1 / (1 + n_resamples).
    seed : int or numpy.random.Generator
        Equal seeds draw equal patients.

    Returns
    -------
    float
        In (0, 1]; 1 for one case, and where all pairs are equal.

    Examples
    --------
    >>> paired_p_value([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    1.0
    >>> paired_p_value([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])  # three patients, 2^(1 - 3)
    0.25
    """
    differences = _differences(values_a, values_b)
    n_cases, observed = len(differences), differences.mean()
    resampled = bootstrap_counts(n_cases, n_resamples, seed) @ differences / n_cases - observed
    # Resampled means that equal the observed one but for rounding count as equal.
    count = np.count_nonzero(np.abs(resampled) >= np.abs(observed) * (1 - 1e-12))
    return float(max((1 + count) / (1 + n_resamples), 2.0 ** (1 - n_cases)))


def _crossed_counts(shape, n_resamples, seed):
    """Return counts of cases (n_resamples, n_cases) and of members (n_resamples, n_members)."""
    n_members, n_cases = shape
    rng = np.random.default_rng(seed)
    # Cases first: a single member then gives the same resamples as no members.
    case_counts = bootstrap_counts(n_cases, n_resamples, rng)
    return case_counts, bootstrap_counts(n_members, n_resamples, rng)


def _bootstrap_bounds(resampled_values, level, n_cases):
    """Return the percentile bounds of resampled values, NaN where one case tells nothing."""
    bounds = _percentile_bounds(resampled_values, level)
    return bounds if n_cases > 1 else (np.nan, np.nan)


def _percentile_bounds(values, level):
    """Return the percentiles that leave (1 - level) / 2 of the values on either side."""
    if not 0 < level < 1:
        raise wrong_input("level", level, "a number between 0 and 1")
    lo, hi = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(lo), float(hi)


def _differences(values_a, values_b):
    """Return a - b for two methods on the same cases."""
    values_a = _check_values("values_a", values_a, (1,))
    values_b = _check_values("values_b", values_b, (1,))
    if values_a.shape != values_b.shape:
        raise wrong_input("values_b", f"{values_b.size} cases", f"the {values_a.size} of values_a")
    return values_a - values_b


def _check_values(name, values, n_axes):
    """Return `values` as finite float64, not empty, of as many axes as `n_axes` allows."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim not in n_axes or not values.size:
        expected = f"{' or '.join(map(str, n_axes))} axes and at least one value"
        raise wrong_input(name, f"shape {values.shape}", expected)
    return check_finite(name, values)
