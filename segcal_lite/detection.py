"""How well a score foretells trouble: a shifted image (AUC, confusion counts), a poor segment.

Out-of-distribution (OOD) is the positive class throughout, and a higher score means "more OOD".
Paper B's tables mix the two conventions, so :func:`detection_counts` gives the counts as well.

:func:`linear_regression` with :func:`logit` is paper A's check of segment entropy against Dice.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, stats

from ._checks import check_finite, wrong_input
from .detectors import (
    IntensityDetector,
    MahalanobisDetector,
    ScalarDetector,
    SpectralDetector,
    VoxelCountDetector,
)
from .statistics import MIN_CASES, check_level, interval_of_difference

DETECTORS = {  # what each looks at: see `describe_cases`
    "spectral": SpectralDetector,
    "spectral_floor": SpectralDetector,
    "spectral_sqrt_voxels": SpectralDetector,
    "mahalanobis": MahalanobisDetector,
    "uncertainty": ScalarDetector,
    "segment_entropy": ScalarDetector,
    "one_minus_max_softmax": ScalarDetector,
    "spectral_shuffled": SpectralDetector,
    "voxel_count": VoxelCountDetector,
    "intensities": IntensityDetector,
}


def auc(scores_in, scores_out):
    """Return the area under the ROC curve of OOD detection.

    It equals the chance that an OOD image scores higher than an in-distribution image, where a tie
    counts half.

    Parameters
    ----------
    scores_in, scores_out : array_like of float, shape (n_in,), (n_out,)
        Scores of in-distribution and of OOD images.

    Returns
    -------
    float
        In [0, 1]: 1 separates the sets, 0.5 is chance.

    Raises
    ------
    ValueError
        If a set is empty or holds NaN.

    Examples
    --------
    >>> auc([1.0, 2.0], [2.0, 3.0])  # three pairs in order and one tie, of four
    0.875
    """
    return float(_pair_wins(scores_in, scores_out).mean())


def auc_interval(scores_in, scores_out, level=0.95):
    """Return the AUC and its interval over images, by a score method.

    The interval holds every AUC a that the observed one, A, does not contradict:

    (A - a)^2 <= t^2 f V(a)

    V is Hanley and McNeil's variance of an AUC of a, with Newcombe's mean size (Statistics in
    Medicine 2006, method 5); f >= 1 is how much larger than V(A) DeLong's variance is, which sees
    spreads that differ; t is Student's with n_in + n_out - 2 degrees of freedom. Nothing is drawn
    at random. Since V is that of a and not of A, sets that do not overlap have a width as well.

    The interval of 95 % holds the AUC in 93 to 99 % of simulated studies (an AUC of 0.7, 0.9 and
    0.98; 5 and 5 to 50 and 50 images; spreads equal, and thrice as large on either side).

    Parameters
    ----------
    scores_in, scores_out : array_like of float, shape (n_in,), (n_out,)
        Scores of in-distribution and of OOD images.
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    auc, lo, hi : float
        In [0, 1]; `lo` and `hi` are NaN if a set has fewer than 5 images.

    Raises
    ------
    ValueError
        If a set is empty or holds NaN.

    Examples
    --------
    >>> separated = auc_interval([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    >>> [round(float(number), 2) for number in separated]
    [1.0, 0.56, 1.0]
    """
    return _score_interval(_pair_wins(scores_in, scores_out), level)


def auc_difference(scores_a, scores_b, level=0.95):
    """Return the AUC of one detector minus that of another on the same images, with its interval.

    `interval_of_difference` of the two intervals, with DeLong's correlation of the two AUC: what
    makes an image hard for both cancels. Where either detector separates the sets, there is no
    correlation to see, and it counts as 0.

    The interval of 95 % holds the difference in 96 to 100 % of simulated studies (5 and 5 to 50
    and 50 images); near an AUC of 1 it is wider than it need be.

    Parameters
    ----------
    scores_a, scores_b : pair of array_like of float, (n_in,) and (n_out,)
        Scores of in-distribution and of OOD images, in the same order for both.
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    difference, lo, hi : float
        In [-1, 1]; `lo` and `hi` are NaN if a set has fewer than 5 images.

    Raises
    ------
    ValueError
        If the two look at different numbers of images, a set is empty or holds NaN.

    Examples
    --------
    >>> auc_difference(([1.0, 2.0], [3.0, 4.0]), ([1.0, 1.0], [1.0, 1.0]))  # too few
    (0.5, nan, nan)
    """
    wins_a, wins_b = _pair_wins(*scores_a), _pair_wins(*scores_b)
    if wins_a.shape != wins_b.shape:
        raise wrong_input("scores_b", f"{wins_b.shape} images", f"{wins_a.shape} as in scores_a")
    intervals = [_score_interval(wins, level) for wins in (wins_a, wins_b)]
    together = _delong_covariance(wins_a, wins_b)
    alone = _delong_covariance(wins_a, wins_a) * _delong_covariance(wins_b, wins_b)
    return interval_of_difference(*intervals, together / np.sqrt(alone) if alone > 0 else 0.0)


class DetectionCounts(NamedTuple):
    """Rates in [0, 1] and the confusion counts behind them; OOD is positive."""

    accuracy: float
    sensitivity: float
    specificity: float
    tp: int
    fn: int
    tn: int
    fp: int


def detection_counts(scores_in, scores_out, threshold):
    """Return accuracy, sensitivity, specificity and counts of "score > threshold means OOD".

    Parameters
    ----------
    scores_in, scores_out : array_like of float, shape (n_in,), (n_out,)
        Scores of in-distribution and of OOD images.
    threshold : float
        Images that score strictly above it are called OOD, as in paper B.

    Returns
    -------
    DetectionCounts
        ``sensitivity`` is tp / (tp + fn), over OOD images; ``specificity`` is tn / (tn + fp).

    Raises
    ------
    ValueError
        If a set is empty or holds NaN, or if the threshold is not finite.

    Examples
    --------
    >>> detection_counts([0.1, 0.3], [0.2, 0.8, 0.9], threshold=0.25)[:3]
    (0.6, 0.6666666666666666, 0.5)
    """
    scores_in = _check_scores("scores_in", scores_in)
    scores_out = _check_scores("scores_out", scores_out)
    check_finite("threshold", threshold)
    n_in, n_out = scores_in.size, scores_out.size
    tp = int(np.count_nonzero(scores_out > threshold))
    tn = n_in - int(np.count_nonzero(scores_in > threshold))
    accuracy = (tp + tn) / (n_in + n_out)
    return DetectionCounts(accuracy, tp / n_out, tn / n_in, tp, n_out - tp, tn, n_in - tn)


def spearman_interval(x_values, y_values, level=0.95):
    """Return Spearman's rho and its interval over pairs, each of another patient.

    Fisher's z = arctanh(rho) with the standard error of Bonett and Wright (Psychometrika 2000),
    the root of (1 + rho^2 / 2) / (n - 3). Where every rank agrees, z would be infinite: rho counts
    as at most half of its smallest step, 12 / (n^3 - n), from 1.

    Of simulated studies with 5 / 10 / 20 / 50 normal pairs, the interval of 95 % holds rho in:
    independent 99 / 97 / 96 / 96 %; correlation 0.9 99 / 95 / 95 / 95 %.

    Parameters
    ----------
    x_values, y_values : array_like of float, shape (n,)
        One pair a patient; infinity is the largest value.
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    rho, lo, hi : float
        In [-1, 1]; all NaN where either side is constant, the last two for fewer than 5 pairs.

    Raises
    ------
    ValueError
        If the shapes differ or a value is NaN.

    Examples
    --------
    >>> rho, lo, hi = spearman_interval([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    >>> round(float(rho), 2), round(lo, 2), round(hi, 2)
    (1.0, 0.13, 1.0)
    """
    check_level(level)
    pairs = np.asarray(x_values, dtype=np.float64), np.asarray(y_values, dtype=np.float64)
    if pairs[0].ndim != 1 or pairs[0].shape != pairs[1].shape:
        raise wrong_input("y_values", f"shape {pairs[1].shape}", f"{pairs[0].shape}, one axis")
    if np.isnan(pairs).any():
        raise wrong_input("x_values and y_values", f"{np.isnan(pairs).sum()} NaN", "numbers")
    ranks, n = stats.rankdata(pairs, axis=1), len(pairs[0])
    if n < 2 or np.ptp(ranks, axis=1).min() == 0:
        return np.nan, np.nan, np.nan
    rho = float(np.corrcoef(ranks)[0, 1])
    if n < MIN_CASES:
        return rho, np.nan, np.nan
    limit = 1 - 6 / (n**3 - n)
    z, error = np.arctanh(np.clip(rho, -limit, limit)), np.sqrt((1 + rho**2 / 2) / (n - 3))
    arm = error * stats.norm.ppf((1 + level) / 2)
    return rho, float(np.tanh(z - arm)), float(np.tanh(z + arm))


def _pair_wins(scores_in, scores_out):
    """Return (n_in, n_out): 1 where the OOD image scores higher, 1/2 for a tie, else 0."""
    scores_in = _check_scores("scores_in", scores_in)[:, None]
    scores_out = _check_scores("scores_out", scores_out)[None, :]
    return (scores_out > scores_in) + 0.5 * (scores_out == scores_in)


def _score_interval(wins, level):
    """Return the AUC of (n_in, n_out) wins and the interval of `auc_interval`."""
    check_level(level)
    area, sizes = float(wins.mean()), wins.shape
    if min(sizes) < MIN_CASES:
        return area, np.nan, np.nan
    usual, quantile = _hanley_variance(area, *sizes), stats.t.ppf((1 + level) / 2, sum(sizes) - 2)
    inflation = max(1.0, _delong_covariance(wins, wins) / usual) if usual else 1.0

    def excess(candidate):
        variance = inflation * _hanley_variance(candidate, *sizes)
        return (candidate - area) ** 2 - quantile**2 * variance

    inside = min(max(area, 1e-9), 1 - 1e-9)  # the variance is 0 at 0 and 1 themselves
    lo = optimize.brentq(excess, 0.0, inside) if area > 0 else 0.0
    return area, lo, optimize.brentq(excess, inside, 1.0) if area < 1 else 1.0


def _hanley_variance(area, n_in, n_out):
    """Return the variance of an AUC by Hanley and McNeil (1982), with the mean of both sizes."""
    others = (n_in + n_out) / 2 - 1
    shared = others * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * (1 + shared) / (n_in * n_out)


def _delong_covariance(wins_a, wins_b):
    """Return the covariance of two AUC on the same images by DeLong et al. (1988)."""
    total = 0.0
    for axis in (0, 1):
        a, b = (wins.mean(axis=axis) - wins.mean() for wins in (wins_a, wins_b))
        total += (a * b).sum() / max(a.size - 1, 1) / a.size
    return total


def _check_scores(name, scores):
    """Return `scores` as float64 of shape (n,), n >= 1; infinity stands for "no organ found"."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not scores.size:
        raise wrong_input(name, f"shape {scores.shape}", "(n,) with at least one score")
    if np.isnan(scores).any():
        raise wrong_input(name, f"{np.isnan(scores).sum()} NaN", "numbers or infinity")
    return scores


def fit_detectors(training, c=2.5):
    """Fit every detector to the described training cases.

    Parameters
    ----------
    training : dict of ndarray
        From `describe_cases`.
    c : float
        Of the threshold, Eq. 2.

    Returns
    -------
    dict of Detector
        By name. One that cannot be fitted is absent: a rival that was not asked, or uncertainty
        where a model segments nothing of its training images.
    """
    fitted = {}
    for name, kind in DETECTORS.items():
        values = training.get(name)
        if values is None or kind is ScalarDetector and np.isfinite(values).sum() < 2:
            continue
        extra = (training["set"],) if kind is MahalanobisDetector else ()
        fitted[name] = kind(c).fit(values, *extra)
    return fitted


def detection_table(fitted, inside, outside):
    """Return one row a detector: AUC with its interval, and the counts at its threshold.

    Parameters
    ----------
    fitted : dict of Detector
    inside, outside : dict of ndarray
        Described in-distribution and OOD cases.

    Returns
    -------
    pandas.DataFrame
        Columns detector, n_in, n_out, n_empty_in, n_empty_out, auc, lo, hi, accuracy, sensitivity,
        specificity, tp, fn, tn, fp, threshold; OOD is positive. *Empty* are cases without a
        predicted foreground: they have no uncertainty, and count as the most suspicious.
    """
    rows = []
    for name, detector in fitted.items():
        scores = [np.atleast_1d(detector.score(part[name])) for part in (inside, outside)]
        area, lo, hi = auc_interval(*scores)
        counts = detection_counts(*scores, detector.threshold)
        row = {"detector": name, "n_in": len(scores[0]), "n_out": len(scores[1])}
        for key, values in zip(("n_empty_in", "n_empty_out"), scores, strict=True):
            row[key] = int(np.isinf(values).sum())
        row |= {"auc": area, "lo": lo, "hi": hi, **counts._asdict()}
        rows.append(row | {"threshold": detector.threshold})
    return pd.DataFrame(rows)


def of_sets(described, names):
    """Return the cases of some sets of a description."""
    chosen = np.isin(described["set"], names)
    return {key: values[chosen] for key, values in described.items()}
