"""Which cases should a person look at? Orders of review, and what to expect of a new case.

**Risk against coverage** (El-Yaniv and Wiener, JMLR 2010; Geifman and El-Yaniv, NIPS 2017). Cases
are sorted by a score of doubt that needs no truth. Keep the surest part of them, the *coverage*:
its mean risk, such as 1 - Dice, is what goes unseen if a person looks at the others. The area
under this curve, AURC, is the mean of that risk over all coverages. In random order it is the mean
risk of all cases; no order has less than the oracle's, which sorts by the risk itself.

**Expected Dice** of a case without truth: a line of logit Dice on segment entropy through labelled
cases, with Student's prediction interval. **Expected volume**: the predicted one times the ratio of
true to predicted volume of labelled cases.

The unit is the patient: several scans of one patient share its weight, and degrees of freedom count
patients. Below 5 patients there is no line and no interval: NaN. A missing score (NaN: nothing was
predicted, so there is no segment entropy) is no reason to trust: such a case is the most doubtful,
and no Dice can be expected of it.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from .._checks import check_finite, check_patients, wrong_input
from ..segmentation_metrics import dice_coefficient
from ..statistics import (
    MIN_CASES,
    N_RESAMPLES,
    ROUNDING,
    bootstrap_statistic,
    check_level,
    logit,
)

LEVEL_HELD = 0.95  # of the intervals in `PatientLine.held`
CLIPPED = float(logit(1.0)[0]) - ROUNDING  # from here on a Dice is clipped before it is fitted


class OrderOfReview(NamedTuple):
    """AURC of an order of cases, beside random order and the oracle's."""

    aurc: float
    random: float
    oracle: float
    difference: float  # aurc - random: below 0 where the order is worth something
    lo: float
    hi: float


class PatientLine(NamedTuple):
    """A line through labelled scans in which every patient has the same weight."""

    slope: float
    intercept: float
    centre: float  # mean of x
    squares: float  # sum of (x - centre)^2
    spread: float  # standard deviation of y around the line
    freedom: int  # degrees of freedom: patients less what was fitted
    n_patients: int
    n: int  # scans
    n_missing: int  # scans without x or y
    n_clipped: int  # Dice of about 0 or 1 (`statistics.logit`)
    error: float  # mean absolute error, of patients that the line was fitted without
    held: float  # share of such patients' scans within their interval of 95 %


class Expected(NamedTuple):
    """What to expect of each new case, with a prediction interval; float64, of one shape."""

    value: np.ndarray
    lo: np.ndarray
    hi: np.ndarray


def risk_coverage(risks, scores):
    """Return the mean risk of the surest cases, for each number of them.

    Parameters
    ----------
    risks : array_like of float, shape (n,)
        Such as 1 - Dice.
    scores : array_like of float, shape (n,)
        High: doubtful. NaN, a missing score, counts as the most doubtful. Cases of one score come
        in random order; the curve is the mean over such orders.

    Returns
    -------
    coverage, risk : float64 arrays, shape (n,)
        Coverage 1/n to 1; the last risk is the mean of all.

    Raises
    ------
    ValueError
        For empty input, shapes that differ, and a risk that is not finite.

    Examples
    --------
    >>> coverage, risk = risk_coverage([0.5, 0.1, 0.3], scores=[9, 1, 2])
    >>> coverage.round(2).tolist(), risk.round(2).tolist()
    ([0.33, 0.67, 1.0], [0.1, 0.2, 0.3])
    """
    risks, scores = _check_risks(risks, scores)
    _, group, n_tied = np.unique(scores, return_inverse=True, return_counts=True)
    of_group = np.bincount(group, risks) / n_tied  # what a case of this score has in expectation
    n_kept = np.arange(1, risks.size + 1)
    return n_kept / risks.size, np.cumsum(np.repeat(of_group, n_tied)) / n_kept


def area_under_risk_coverage(risks, scores):
    """Return the AURC, the mean of the risk over all coverages, in the unit of the risks.

    Arguments and errors as in `risk_coverage`. ``scores=risks`` gives the oracle's; random order
    has the mean risk.

    >>> risks = [0.5, 0.1, 0.3]
    >>> [round(area_under_risk_coverage(risks, scores), 3) for scores in ([9, 1, 2], [0, 0, 0])]
    [0.2, 0.3]
    """
    return float(risk_coverage(risks, scores)[1].mean())


def order_of_review(risks, scores, patients=None, n_resamples=N_RESAMPLES, level=0.95, seed=0):
    """Return the AURC of an order, and the interval of what it gains over random order.

    Parameters
    ----------
    risks, scores : array_like of float, shape (n,)
        As in `risk_coverage`.
    patients : sequence, shape (n,), optional
        Whose scan each case is; by default every case is a patient.
    n_resamples, level, seed
        As for `statistics.mean_interval`.

    Returns
    -------
    OrderOfReview
        `lo` and `hi` bound the difference, by the bootstrap over patients with the pseudo-values of
        `statistics.bootstrap_statistic`; NaN for fewer than 5 patients. Of simulated studies with 5
        / 10 / 20 / 50 patients, the interval of 95 % holds the difference that such studies have on
        average in: scores without meaning 96 / 96 / 95 / 94 %; scores that correlate by 0.8 with
        logit risk 93 / 94 / 96 / 96 %.

    Raises
    ------
    ValueError
        As `risk_coverage`.

    Examples
    --------
    >>> risks = np.linspace(0.1, 0.5, 9)
    >>> found = order_of_review(risks, scores=-risks)  # the best cases first
    >>> round(found.random, 3), round(found.oracle, 3), found.lo > 0
    (0.3, 0.2, True)
    """
    risks, scores = _check_risks(risks, scores)
    names, of_patient = _patients(patients, risks.size)

    def gain(is_in):
        here = is_in[of_patient] > 0
        return area_under_risk_coverage(risks[here], scores[here]) - risks[here].mean()

    oracle = area_under_risk_coverage(risks, risks)
    aurc, random = area_under_risk_coverage(risks, scores), float(risks.mean())
    lo = hi = np.nan
    if len(names) >= MIN_CASES:
        one_each = np.eye(len(names))
        _, lo, hi = bootstrap_statistic(one_each, gain, n_resamples, level, seed)
    return OrderOfReview(aurc, random, oracle, aurc - random, lo, hi)


def fit_dice(entropies, dice, patients=None):
    """Fit the line of logit Dice on the entropy of a segment, in labelled cases.

    Parameters
    ----------
    entropies : array_like of float, shape (n,)
        Segment entropy in nats; NaN where nothing was predicted, which is counted as missing.
    dice : array_like of float, shape (n,)
        Of the same segment, in [0, 1].
    patients : sequence, shape (n,), optional
        Whose scan each is; by default every scan is a patient.

    Returns
    -------
    PatientLine
        NaN but for the counts with fewer than 5 patients, or where all entropies are equal.

    Raises
    ------
    ValueError
        If shapes differ, a value is infinite, or a Dice lies outside [0, 1].

    Examples
    --------
    >>> dice = special.expit([3.0, 2.5, 2.0, 1.5, 1.0])
    >>> line = fit_dice([0.1, 0.15, 0.2, 0.25, 0.3], dice)
    >>> round(line.slope, 6), round(line.intercept, 6), round(line.error, 6)
    (-10.0, 4.0, 0.0)
    """
    entropies, dice = _check_pairs(entropies, dice)
    n_clipped = logit(dice[~np.isnan(entropies)])[1]
    return _fit(entropies, logit(dice)[0], patients, 2, special.expit, dice, n_clipped)


def expected_dice(line, entropies, level=0.95):
    """Return the Dice to expect at the entropies of new cases, with Student's prediction interval.

    The value is the median: the line's, turned back from the logit scale. It holds for cases like
    the labelled ones: from another scanner or hospital they may follow another line.

    Of simulated studies with 5 / 10 / 20 / 50 patients, the interval of 95 % holds the Dice of a
    new one in: one scan a patient 94 / 95 / 96 / 94 %; three scans a patient 100 / 98 / 97 / 95 %.

    Parameters
    ----------
    line : PatientLine
        From `fit_dice`.
    entropies : array_like of float, any shape
        NaN where nothing was predicted.
    level : float
        Of the interval, which holds the Dice of a new patient this often.

    Returns
    -------
    Expected
        In (0, 1), bounds in [0, 1]: one that reaches what `logit` clips to may lie anywhere
        beyond, so it is 0 or 1. NaN where the entropy is NaN, and everywhere if there is no line.

    Examples
    --------
    >>> line = fit_dice([0.1, 0.15, 0.2, 0.25, 0.3], [0.95, 0.93, 0.88, 0.83, 0.71])
    >>> [round(float(value), 2) for value in expected_dice(line, 0.2)]
    [0.88, 0.84, 0.91]
    """
    middle, lower, upper = _expected(line, entropies, level)
    lo = np.where(lower <= -CLIPPED, 0.0, special.expit(lower))
    hi = np.where(upper >= CLIPPED, 1.0, special.expit(upper))
    return Expected(special.expit(middle), lo, hi)


def fit_volume(predicted_ml, true_ml, patients=None):
    """Fit the ratio of true to predicted volume of a segment, in labelled cases.

    Parameters
    ----------
    predicted_ml, true_ml : array_like of float, shape (n,)
        Where either is 0 or NaN there is no ratio: it is counted as missing.
    patients : sequence, shape (n,), optional
        As in `fit_dice`.

    Returns
    -------
    PatientLine
        Of the log ratio, with a slope of 0; its `error` is a fraction of the predicted volume. NaN
        but for the counts with fewer than 5 patients.

    Raises
    ------
    ValueError
        If shapes differ, or a volume is infinite or negative.

    Examples
    --------
    >>> fitted = fit_volume([10.0, 20.0, 30.0, 40.0, 50.0], [11.0, 22.0, 33.0, 44.0, 55.0])
    >>> round(float(np.exp(fitted.intercept)), 3)
    1.1
    """
    pair = _check_pairs(predicted_ml, true_ml)
    for name, volumes in zip(("predicted_ml", "true_ml"), pair, strict=True):
        if np.any(volumes < 0):
            raise wrong_input(name, f"{np.nanmin(volumes):g}", "volumes of at least 0")
    predicted_ml, true_ml = (np.where(volumes > 0, volumes, np.nan) for volumes in pair)
    log_ratios = np.log(true_ml) - np.log(predicted_ml)
    return _fit(np.zeros(log_ratios.shape), log_ratios, patients, 1, np.exp, np.exp(log_ratios))


def expected_volume(line, predicted_ml, level=0.95):
    """Return the true volume to expect where a volume was predicted, with a prediction interval.

    Arguments and errors as in `expected_dice`, with a `line` from `fit_volume`. Where nothing was
    predicted, nothing can be scaled: NaN.

    >>> fitted = fit_volume([10.0, 20.0, 30.0, 40.0, 50.0], [11.0, 19.0, 36.0, 40.0, 60.0])
    >>> [round(float(value), 1) for value in expected_volume(fitted, 25.0)]
    [27.1, 19.7, 37.4]
    """
    predicted_ml = np.asarray(predicted_ml, np.float64)
    predicted_ml = np.where(predicted_ml > 0, predicted_ml, np.nan)
    ratios = _expected(line, np.zeros(predicted_ml.shape), level)
    return Expected(*(predicted_ml * np.exp(values) for values in ratios))


def pairwise_dice(masks):
    """Return the mean Dice over all pairs of members' masks, from 0 to 1: do they agree?

    Parameters
    ----------
    masks : sequence of bool arrays, all of one shape
        Of one segment, one a member.

    Returns
    -------
    float
        1 where all masks are empty; NaN for fewer than 2 members.

    Raises
    ------
    ValueError
        As `segmentation_metrics.dice_coefficient`.

    Examples
    --------
    >>> round(pairwise_dice([[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0]]), 3)  # 1, 2/3 and 2/3
    0.778
    """
    pairs = [dice_coefficient(*pair) for pair in combinations(masks, 2)]
    return float(np.mean(pairs)) if pairs else np.nan


def pearson_interval(x_values, y_values, patients=None, **options):
    """Return Pearson's r of labelled scans with its bootstrap interval over patients.

    As in the lines of this module every patient has the same weight, and a NaN leaves a scan out.
    `options` are those of `statistics.bootstrap_statistic`; the interval is drawn on Fisher's
    scale, arctanh r. NaN for fewer than 5 patients, and where either side is constant.

    >>> r, lo, hi = pearson_interval([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 5, 4])
    >>> round(r, 3), lo < r < hi
    (0.943, True)
    """
    sums = _patient_sums(*_complete(*_check_pairs(x_values, y_values), patients))
    if not sums.size:
        return np.nan, np.nan, np.nan
    with np.errstate(divide="ignore", invalid="ignore"):  # r = 1
        found = bootstrap_statistic(sums, lambda total: np.arctanh(_pearson(total)), **options)
    return tuple(np.tanh(found).tolist())


def _fit(x, y, patients, n_parameters, back, truth, n_clipped=0):
    """The `PatientLine` of y on x, or of the mean of y; `back` leads to the scale of `truth`."""
    x_known, y_known, of_patient = _complete(x, y, patients)
    sums = _patient_sums(x_known, y_known, of_patient)
    line = _line(sums.sum(axis=0), n_parameters)
    counts = len(sums), y_known.size, y.size - y_known.size, n_clipped
    if len(sums) < MIN_CASES or np.isnan(line[0]):
        return PatientLine(*[np.nan] * 5, 0, *counts, np.nan, np.nan)
    # what is left of the sums without a patient is the line through the others
    without = [part[of_patient] for part in _line(sums.sum(axis=0) - sums, n_parameters)]
    middle, half = _predicted(without, len(sums) - 1, x_known, LEVEL_HELD)
    errors = np.bincount(of_patient, np.abs(back(middle) - truth[~np.isnan(x + y)]))
    error = np.mean(errors / np.bincount(of_patient))
    held = np.nan if np.isnan(middle).any() else np.mean(np.abs(middle - y_known) <= half)
    *numbers, freedom = (float(number) for number in line)
    return PatientLine(*numbers, int(freedom), *counts, float(error), float(held))


def _line(sums, n_parameters):
    """Slope, intercept, centre, squares, spread, freedom from six sums over patients (..., 6)."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        if n_parameters == 1:
            slope, squares = np.zeros_like(n), np.full_like(n, np.inf)
        else:
            squares = xx - x * x / n
            slope = np.where(squares > ROUNDING * xx, (xy - x * y / n) / squares, np.nan)
        unexplained = yy - y * y / n - slope * (xy - x * y / n)
        freedom = n - n_parameters
        spread = np.sqrt(np.maximum(unexplained, 0) / freedom)
        return slope, (y - slope * x) / n, x / n, squares, spread, freedom


def _predicted(line, n_patients, x, level):
    """Middle and half width of Student's prediction interval at x."""
    slope, intercept, centre, squares, spread, freedom = line
    error = spread * np.sqrt(1 + 1 / n_patients + (x - centre) ** 2 / squares)
    return intercept + slope * x, stats.t.ppf((1 + level) / 2, freedom) * error


def _expected(line, x, level):
    """Middle, lower and upper bound of a `PatientLine` at x, NaN where there is none."""
    check_level(level)
    x = np.asarray(x, np.float64)
    check_finite("the values of new cases", x[~np.isnan(x)])
    if not line.freedom:
        return [np.full(x.shape, np.nan)] * 3
    middle, half = _predicted(line[:6], line.n_patients, x, level)
    return middle, middle - half, middle + half


def _patient_sums(x, y, of_patient):
    """Means over the scans of each patient of 1, x, y, x^2, y^2 and x y, shape (n_patients, 6)."""
    terms = np.ones_like(x), x, y, x * x, y * y, x * y
    n_scans = np.bincount(of_patient)
    return np.stack([np.bincount(of_patient, term) / n_scans for term in terms], axis=1)


def _pearson(sums):
    """Pearson's r from six sums; NaN where x or y does not vary."""
    n, x, y, xx, yy, xy = sums
    squares = xx - x * x / n, yy - y * y / n
    if squares[0] <= ROUNDING * xx or squares[1] <= ROUNDING * yy:
        return np.nan
    return np.clip((xy - x * y / n) / np.sqrt(squares[0] * squares[1]), -1, 1)


def _complete(x, y, patients):
    """Return the pairs without NaN, and the number of the patient of each."""
    of_patient = _patients(patients, y.size)[1]
    known = ~(np.isnan(x) | np.isnan(y))
    return x[known], y[known], np.unique(of_patient[known], return_inverse=True)[1]


def _patients(patients, n):
    """Return the names of the patients, and the number of each scan's."""
    return np.unique(check_patients(patients, n, "cases"), return_inverse=True)


def _check_risks(risks, scores):
    """Return finite risks, and scores in which a NaN has become the largest, both float64 (n,)."""
    risks, scores = np.asarray(risks, np.float64), np.asarray(scores, np.float64)
    if risks.ndim != 1 or not risks.size or scores.shape != risks.shape:
        found = f"shapes {risks.shape} and {scores.shape}"
        raise wrong_input("risks and scores", found, "one number a case, of at least one case")
    return check_finite("risks", risks), np.where(np.isnan(scores), np.inf, scores)


def _check_pairs(x, y):
    """Return two float64 arrays of shape (n,), NaN where missing."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise wrong_input(
            "values of labelled cases", f"shapes {x.shape} and {y.shape}", "one shape (n,)"
        )
    for values in (x, y):
        check_finite("values of labelled cases", values[~np.isnan(values)])
    return x, y
