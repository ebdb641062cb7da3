"""How well a score foretells trouble: a shifted image (AUC, confusion counts), a poor segment.

Out-of-distribution (OOD) is the positive class throughout, and a higher score means "more OOD".
Paper B's tables mix the two conventions, so :func:`detection_counts` gives the counts as well.

:func:`linear_regression` with :func:`logit` is paper A's check of segment entropy against Dice.
"""

from typing import NamedTuple

import numpy as np
from scipy import special, stats

from ._checks import check_finite, wrong_input
from .statistics import bootstrap_counts


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


def auc_interval(scores_in, scores_out, n_resamples=1000, level=0.95, seed=0):
    """Return the AUC and its percentile bootstrap interval, each set resampled on its own.

    Parameters
    ----------
    scores_in, scores_out : array_like of float, shape (n_in,), (n_out,)
        Scores of in-distribution and of OOD images.
    n_resamples : int
        Number of bootstrap resamples.
    level : float
        Coverage of the interval, in (0, 1).
    seed : int or numpy.random.Generator
        Equal seeds draw equal images.

    Returns
    -------
    auc, lo, hi : float
        Sets that do not overlap give the interval [1, 1] or [0, 0], whatever their size.

    Raises
    ------
    ValueError
        If a set is empty or holds NaN.

    Examples
    --------
    >>> auc_interval([1.0, 2.0], [3.0, 4.0])
    (1.0, 1.0, 1.0)
    """
    return _resampled_over_images(_pair_wins(scores_in, scores_out), n_resamples, level, seed)


def auc_difference(scores_a, scores_b, n_resamples=2000, level=0.95, seed=0):
    """Return the AUC of one detector minus that of another on the same images, with its interval.

    Each resample draws images once and scores both detectors on them: what makes an image hard for
    both cancels.

    Parameters
    ----------
    scores_a, scores_b : pair of array_like of float, (n_in,) and (n_out,)
        Scores of in-distribution and of OOD images, in the same order for both.
    n_resamples, level, seed
        As in `auc_interval`.

    Returns
    -------
    difference, lo, hi : float
        In [-1, 1].

    Raises
    ------
    ValueError
        If the two look at different numbers of images, a set is empty or holds NaN.

    Examples
    --------
    >>> auc_difference(([1.0, 2.0], [3.0, 4.0]), ([1.0, 1.0], [1.0, 1.0]))
    (0.5, 0.5, 0.5)
    """
    wins_a, wins_b = _pair_wins(*scores_a), _pair_wins(*scores_b)
    if wins_a.shape != wins_b.shape:
        raise wrong_input("scores_b", f"{wins_b.shape} images", f"{wins_a.shape} as in scores_a")
    return _resampled_over_images(wins_a - wins_b, n_resamples, level, seed)


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
        either side is constant, all but these two numbers are NaN.

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
    if n < 3 or np.any(np.ptp(complete, axis=1) == 0):
        return LinearRegression(*[np.nan] * 6, n, n_missing)
    line, rank = stats.linregress(*complete), stats.spearmanr(*complete)
    correlations = (line.rvalue, line.pvalue, rank.statistic, rank.pvalue)
    return LinearRegression(*map(float, (*correlations, line.slope, line.intercept)), n, n_missing)


def _pair_wins(scores_in, scores_out):
    """Return (n_in, n_out): 1 where the OOD image scores higher, 1/2 for a tie, else 0."""
    scores_in = _check_scores("scores_in", scores_in)[:, None]
    scores_out = _check_scores("scores_out", scores_out)[None, :]
    return (scores_out > scores_in) + 0.5 * (scores_out == scores_in)


def _resampled_over_images(pairs, n_resamples, level, seed):
    """Return the mean of (n_in, n_out) and its interval, rows and columns resampled."""
    if not 0 < level < 1:
        raise wrong_input("level", level, "a number between 0 and 1")
    rng = np.random.default_rng(seed)
    counts_in, counts_out = (bootstrap_counts(n, n_resamples, rng) for n in pairs.shape)
    resampled = ((counts_in @ pairs) * counts_out).sum(axis=1) / pairs.size
    lo, hi = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(pairs.mean()), float(lo), float(hi)


def _check_scores(name, scores):
    """Return `scores` as float64 of shape (n,), n >= 1; infinity stands for "no organ found"."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not scores.size:
        raise wrong_input(name, f"shape {scores.shape}", "(n,) with at least one score")
    if np.isnan(scores).any():
        raise wrong_input(name, f"{np.isnan(scores).sum()} NaN", "numbers or infinity")
    return scores
