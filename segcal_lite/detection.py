"""How well a score foretells trouble: does a detector tell shifted images from known ones?

Out-of-distribution (OOD) is the positive class throughout, and a higher score means "more OOD".
Paper B's tables mix the two conventions, so :func:`detection_counts` gives the counts as well.

First the numbers: AUC, its interval, that of a difference, confusion counts, rank correlation.
Then whole tables: many detectors, fitted to the same training cases and asked about the same
others. *Described* cases are a dict of arrays, one row a case: by name in `DETECTORS` what each
detector looks at, beside it ``set``, ``dice``, ``patient`` and whatever else is known of them.
Without ``patient`` each is of another one.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, stats

from ._checks import check_finite, check_patients, wrong_input
from .detectors import (
    IntensityDetector,
    MahalanobisDetector,
    ScalarDetector,
    SpectralDetector,
    VoxelCountDetector,
)
from .report.verdicts import CONTROLS, detector_verdict, verdict
from .statistics import MIN_CASES, check_level, interval_of_difference

DETECTORS = {  # what each looks at: see `segcal_lite.experiments.trials.describe_scores`
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
COLUMNS = ["detector", "n_in", "n_out", "n_patients_in", "n_patients_out", "n_empty_in"]
COLUMNS += ["n_empty_out", "auc", "lo", "hi", "accuracy", "sensitivity", "specificity"]
COLUMNS += ["tp", "fn", "tn", "fp", "threshold"]


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


def auc_interval(scores_in, scores_out, level=0.95, patients=None):
    """Return the AUC and its interval over images, or over patients, by a score method.

    The interval holds every AUC a that the observed one, A, does not contradict:

    (A - a)^2 <= t^2 f V(a)

    V is Hanley and McNeil's variance of an AUC of a, with Newcombe's mean size (Statistics in
    Medicine 2006, method 5); f >= 1 is how much larger than V(A) DeLong's variance is, which sees
    spreads that differ; t is Student's with n_in + n_out - 2 degrees of freedom. Nothing is drawn
    at random. Since V is that of a and not of A, sets that do not overlap have a width as well.

    The interval of 95 % holds the AUC in 93 to 99 % of simulated studies (an AUC of 0.7, 0.9 and
    0.98; 5 and 5, 5 and 20, 10 and 10, 10 and 50, 20 and 20, 50 and 50 images; spreads equal, and
    thrice as large on either side). Of 5 and 50, or 50 and 5, it holds it in 90 to 100 % of them:
    too rarely where the few spread more than the many, as t then has more degrees of freedom than
    5 images give.

    Images of one patient, such as segments, are not independent. With `patients` the variance is
    Obuchowski's (Biometrics 1997), which sums over those of a patient first, and the sizes are
    numbers of patients: several of one count as no more than one. Of three segments a patient it
    holds it in 96 to 100 % of studies; without `patients` in as few as 76 %.

    Parameters
    ----------
    scores_in, scores_out : array_like of float, shape (n_in,), (n_out,)
        Scores of in-distribution and of OOD images.
    level : float
        Coverage of the interval, in (0, 1).
    patients : pair of sequences, shape (n_in,), (n_out,), optional
        Whose image each is; one patient may have some of either kind. By default every image is a
        patient.

    Returns
    -------
    auc, lo, hi : float
        In [0, 1]; `lo` and `hi` are NaN if a set has fewer than 5 images, or fewer than 5 patients.

    Raises
    ------
    ValueError
        If a set is empty or holds NaN, or `patients` are not one for each image, missing ones
        included.

    Examples
    --------
    >>> separated = auc_interval([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    >>> [round(float(number), 2) for number in separated]
    [1.0, 0.56, 1.0]
    """
    return _score_interval(_pair_wins(scores_in, scores_out), level, patients)


def auc_difference(scores_a, scores_b, level=0.95, patients=None):
    """Return the AUC of one detector minus that of another on the same images, with its interval.

    `interval_of_difference` of the two intervals, with DeLong's correlation of the two AUC (of
    several images a patient: Obuchowski's): what makes an image hard for both cancels. Where either
    detector separates the sets, there is no correlation to see, and it counts as 0.

    The interval of 95 % holds the difference in 96 to 100 % of simulated studies (5 and 5 to 50
    and 50 images); near an AUC of 1 it is wider than it need be. Of three scans a patient it
    holds it in 96 to 100 % of studies; without `patients` in as few as 76 %.

    Parameters
    ----------
    scores_a, scores_b : pair of array_like of float, (n_in,) and (n_out,)
        Scores of in-distribution and of OOD images, in the same order for both.
    level, patients
        As for `auc_interval`.

    Returns
    -------
    difference, lo, hi : float
        In [-1, 1]; `lo` and `hi` are NaN if a set has fewer than 5 images, or 5 patients.

    Raises
    ------
    ValueError
        If the two look at different numbers of images, or as `auc_interval`.

    Examples
    --------
    >>> auc_difference(([1.0, 2.0], [3.0, 4.0]), ([1.0, 1.0], [1.0, 1.0]))  # too few
    (0.5, nan, nan)
    """
    wins_a, wins_b = _pair_wins(*scores_a), _pair_wins(*scores_b)
    if wins_a.shape != wins_b.shape:
        raise wrong_input("scores_b", f"{wins_b.shape} images", f"{wins_a.shape} as in scores_a")
    intervals = [_score_interval(wins, level, patients) for wins in (wins_a, wins_b)]
    of = _numbered(patients, wins_a.shape)
    together = _clustered_covariance(wins_a, wins_b, *of)
    alone = np.prod([_clustered_covariance(wins, wins, *of) for wins in (wins_a, wins_b)])
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
    lo, hi = float(np.tanh(z - arm)), float(np.tanh(z + arm))
    return rho, min(lo, rho), max(hi, rho)  # a rho of 1 lies beyond the limit


def fit_detectors(training, c=2.5):
    """Fit every detector to the described training cases.

    Parameters
    ----------
    training : dict of ndarray
        Described cases; names that are no detector's are left alone.
    c : float
        Of the threshold, Eq. 2.

    Returns
    -------
    dict of Detector
        By name. A rival that says nothing is absent: that was not asked, uncertainty where a model
        segments nothing of its training images, the Mahalanobis distance where the training images
        are hardly more than their sets, or alike within them.

    Raises
    ------
    ValueError
        For fewer than two training patients, to whom no distance can be fitted.

    Examples
    --------
    >>> fitted = fit_detectors({"voxel_count": [900, 1000, 1100], "dice": [0.9, 0.8, 0.9]})
    >>> list(fitted)
    ['voxel_count']
    """
    fitted = {}
    for name, kind in DETECTORS.items():
        values = training.get(name)
        if values is None:
            continue
        more = {} if kind is ScalarDetector else {"patients": training.get("patient")}
        more |= {"groups": training["set"]} if kind is MahalanobisDetector else {}
        if kind.has_enough(values, **more):
            fitted[name] = kind(c).fit(values, **more)
    return fitted


def scores_of(fitted, name, *parts):
    """Return the scores (n,) that the detector called `name` gives to each part, described cases.

    Examples
    --------
    >>> fitted = fit_detectors({"uncertainty": [0.1, 0.2]})
    >>> [scores.tolist() for scores in scores_of(fitted, "uncertainty", {"uncertainty": [0.3]})]
    [[0.3]]
    """
    return [np.atleast_1d(fitted[name].score(part[name])) for part in parts]


def detection_table(fitted, inside, outside=None):
    """Return one row a detector: AUC with its interval, and the counts at its threshold.

    Parameters
    ----------
    fitted : dict of Detector
    inside, outside : dict of ndarray
        Described in-distribution and OOD cases; without OOD cases what concerns them is NaN.

    Returns
    -------
    pandas.DataFrame
        Columns detector, n_in, n_out, n_patients_in, n_patients_out, n_empty_in, n_empty_out, auc,
        lo, hi (over patients), accuracy, sensitivity, specificity, tp, fn, tn, fp, threshold; OOD
        is positive. *Empty* are cases without a predicted foreground: they have no uncertainty, and
        count as the most suspicious.

    Examples
    --------
    >>> fitted = fit_detectors({"uncertainty": [0.1, 0.2, 0.3]}, c=1)
    >>> table = detection_table(fitted, {"uncertainty": [0.2]}, {"uncertainty": [0.9, np.nan]})
    >>> table[["auc", "tp", "fp", "n_empty_out"]].values.tolist()
    [[1.0, 2.0, 0.0, 1.0]]
    """
    parts, rows = [inside] if outside is None else [inside, outside], []
    patients = patients_of(*parts)
    for name, detector in fitted.items():
        scores = scores_of(fitted, name, *parts)
        row = {"detector": name, "n_out": 0, "n_patients_out": 0, "n_empty_out": 0}
        row["threshold"] = detector.threshold
        for side, values, of in zip(("in", "out"), scores, patients, strict=False):
            row |= {f"n_{side}": len(values), f"n_empty_{side}": int(np.isinf(values).sum())}
            row[f"n_patients_{side}"] = np.unique(of).size
        if outside is None:
            if not row["n_in"]:
                raise wrong_input("inside", "no case", "at least one")
            fp = int((scores[0] > detector.threshold).sum())
            tn = row["n_in"] - fp
            row |= {"specificity": tn / row["n_in"], "tn": tn, "fp": fp}
        else:
            row["auc"], row["lo"], row["hi"] = auc_interval(*scores, patients=patients)
            row |= detection_counts(*scores, detector.threshold)._asdict()
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def compare_detectors(fitted, inside, outside, dice):
    """Return how much better the spectral detector is than each rival on the same cases.

    Parameters
    ----------
    fitted : dict of Detector
        Among them ``spectral``.
    inside, outside : dict of ndarray
        Described in-distribution and OOD cases.
    dice : dict of float
        Mean Dice on known cases, by segment or set: see `segcal_lite.report.verdicts.doubts`.

    Returns
    -------
    pandas.DataFrame
        Columns rival, difference (of the AUC, in [-1, 1]), lo, hi and verdict: ``better``,
        ``worse``, ``undecided`` or ``no conclusion: ...``.

    Examples
    --------
    >>> cases = {"spectral": [[1.0, 0.0], [0.8, 0.6]], "voxel_count": [900, 1000]}
    >>> compare_detectors(fit_detectors(cases), cases, cases, {"": 0.9}).difference.tolist()
    [0.0]
    """
    rows, own = [], scores_of(fitted, "spectral", inside, outside)
    patients = patients_of(inside, outside)
    words = {"span": (-1, 1), "words": ("worse", "better"), "dice": dice}
    for name in fitted:
        if name != "spectral":
            rival = scores_of(fitted, name, inside, outside)
            difference, lo, hi = auc_difference(own, rival, patients=patients)
            found = verdict(lo, hi, min(np.unique(of).size for of in patients), **words)
            rows.append((name, difference, lo, hi, found))
    return pd.DataFrame(rows, columns=["rival", "difference", "lo", "hi", "verdict"])


def spectral_verdict(is_seen, table, comparison, dice):
    """Say whether a claim of the spectral detector is seen, and no control does as well.

    Parameters
    ----------
    is_seen, dice
        As in `segcal_lite.report.verdicts.detector_verdict`.
    table : pandas.DataFrame
        From `detection_table`.
    comparison : pandas.DataFrame
        From `compare_detectors`, with all `segcal_lite.report.verdicts.CONTROLS`.

    Returns
    -------
    str
    """
    own = table.set_index("detector").loc["spectral"]
    controls = dict(comparison.set_index("rival").lo[list(CONTROLS)])
    counts = int(own.n_patients_in), int(own.n_patients_out)
    return detector_verdict(is_seen, (own.lo, own.hi), *counts, dice, controls)


def patients_of(*parts):
    """Return whose each described case is, an array a part; without ``patient`` all differ.

    Examples
    --------
    >>> one, two = {"dice": [0.9, 0.8]}, {"dice": [0.7]}
    >>> [of.tolist() for of in patients_of(one, two)]
    [[0, 1], [2]]
    >>> patients_of({"dice": [0.9, 0.8], "patient": np.array(["a", "a"])})[0].tolist()
    ['a', 'a']
    """
    if all("patient" in part for part in parts):
        return [check_patients(part["patient"], len(part["patient"])) for part in parts]
    sizes = [len(next(iter(part.values()))) for part in parts]
    return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


def patient_means(described, values):
    """Return the mean over the cases of each patient of (n,) values, in order of appearance.

    Examples
    --------
    >>> patient_means({"patient": np.array(["a", "b", "a"])}, [0.9, 0.8, 0.7]).tolist()
    [0.8, 0.8]
    """
    numbers, _ = pd.factorize(patients_of(described)[0])
    return np.bincount(numbers, values) / np.bincount(numbers)


def flagged_patients(is_flagged, patients):
    """Return how many patients are flagged, each by the share of their images, and of how many.

    Examples
    --------
    >>> flagged_patients([True, False, True, True], ["a", "a", "b", "c"])
    (2.5, 3)
    """
    shares = patient_means({"patient": patients}, np.asarray(is_flagged, float))
    return float(shares.sum()), shares.size


def of_sets(described, names):
    """Return the described cases of some sets.

    Examples
    --------
    >>> cases = {"set": np.array(["heart", "liver"]), "dice": np.array([0.9, 0.8])}
    >>> of_sets(cases, ["liver"])["dice"].tolist()
    [0.8]
    """
    chosen = np.isin(described["set"], names)
    return {key: values[chosen] for key, values in described.items()}


def with_dice(described):
    """Return the described cases that have a Dice; it is NaN where the truth holds nothing.

    Examples
    --------
    >>> cases = {"set": np.array(["heart", "liver"]), "dice": np.array([0.9, np.nan])}
    >>> with_dice(cases)["set"].tolist(), mean_dice(cases)
    (['heart'], 0.9)
    """
    chosen = ~np.isnan(described["dice"])
    return {key: values[chosen] for key, values in described.items()}


def mean_dice(described):
    """Return the mean Dice of described cases `with_dice`; NaN if there is none."""
    dice = with_dice(described)["dice"]
    return float(dice.mean()) if dice.size else np.nan


def patient_dice(described):
    """Return the mean Dice of each patient over the cases `with_dice`, a patient a number."""
    told = with_dice(described)
    return patient_means(told, told["dice"])


def _pair_wins(scores_in, scores_out):
    """Return (n_in, n_out): 1 where the OOD image scores higher, 1/2 for a tie, else 0."""
    scores_in = _check_scores("scores_in", scores_in)[:, None]
    scores_out = _check_scores("scores_out", scores_out)[None, :]
    return (scores_out > scores_in) + 0.5 * (scores_out == scores_in)


def _score_interval(wins, level, patients=None):
    """Return the AUC of (n_in, n_out) wins and the interval of `auc_interval`."""
    check_level(level)
    of_in, of_out = _numbered(patients, wins.shape)
    area, sizes = float(wins.mean()), [np.unique(of).size for of in (of_in, of_out)]
    if min(sizes) < MIN_CASES:
        return area, np.nan, np.nan
    n_patients = np.union1d(of_in, of_out).size
    usual, quantile = _hanley_variance(area, *sizes), stats.t.ppf((1 + level) / 2, n_patients - 2)
    found = max(_clustered_covariance(wins, wins, of_in, of_out), 0.0)
    inflation = max(1.0, found / usual) if usual else 1.0

    def excess(candidate):
        variance = inflation * _hanley_variance(candidate, *sizes)
        return (candidate - area) ** 2 - quantile**2 * variance

    inside = min(max(area, 1e-9), 1 - 1e-9)  # the variance is 0 at 0 and 1 themselves
    lo = optimize.brentq(excess, 0.0, inside) if area > 0 else 0.0
    return area, lo, optimize.brentq(excess, inside, 1.0) if area < 1 else 1.0


def _numbered(patients, sizes):
    """Return the number of the patient of each image, of either set; by default each its own."""
    if patients is None:
        return np.split(np.arange(sum(sizes)), [sizes[0]])
    if len(patients) != 2:
        raise wrong_input("patients", f"{len(patients)} sequences", "one of either set of images")
    patients = [check_patients(of, n) for of, n in zip(patients, sizes, strict=True)]
    return np.split(np.unique(np.concatenate(patients), return_inverse=True)[1], [sizes[0]])


def _hanley_variance(area, n_in, n_out):
    """Return the variance of an AUC by Hanley and McNeil (1982), with the mean of both sizes."""
    others = (n_in + n_out) / 2 - 1
    shared = others * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * (1 + shared) / (n_in * n_out)


def _clustered_covariance(wins_a, wins_b, of_in, of_out):
    """Return Obuchowski's covariance of two AUC; DeLong's where every image is a patient."""
    n_patients = max(of_in.max(), of_out.max()) + 1
    sums, counts = [], []
    for axis, of in ((1, of_in), (0, of_out)):
        for wins in (wins_a, wins_b):
            residuals = (wins.mean(axis=axis) - wins.mean()) / of.size
            sums.append(np.bincount(of, residuals, n_patients))
        counts.append(np.unique(of).size)
    in_a, in_b, out_a, out_b = sums
    n_in, n_out, n = (number / max(number - 1, 1) for number in (*counts, n_patients))
    return in_a @ in_b * n_in + out_a @ out_b * n_out + (in_a @ out_b + out_a @ in_b) * n


def _check_scores(name, scores):
    """Return `scores` as float64 of shape (n,), n >= 1; infinity stands for "no organ found"."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not scores.size:
        raise wrong_input(name, f"shape {scores.shape}", "(n,) with at least one score")
    if np.isnan(scores).any():
        raise wrong_input(name, f"{np.isnan(scores).sum()} NaN", "numbers or infinity")
    return scores
