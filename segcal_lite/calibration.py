"""Calibration of voxel-wise class probabilities: NLL, Brier score, ECE, MCE, reliability bins.

Every score is a ratio of sums over voxels. `CalibrationSums` holds only these sums, so volumes come
block by block, patients are merged by addition and resampled by a matrix product. The functions
below wrap it. Source: Mehrtash et al., IEEE TMI 2020 (doi 10.1109/TMI.2020.3006437).

- NLL (Eq. 3): the mean of ``-ln max(p(y), eps)``; p(k) is the probability of class k, y the truth.
- Brier score (Eq. 4): the mean of ``sum_k (p(k) - [k = y])^2``; the equation also divides it by K.
- Confidence: the largest class probability; on a tie the lowest class is predicted. (The text above
  Eq. 5 prints the true class's probability there, which would give no reliability diagram.)
- Bin m of M is ``((m - 1)/M, m/M]``; the first also takes 0. What rounding put above 1 counts as 1.
  Values meet the edges in float64: float32 0.1 is 0.100000001..., in the second of ten bins.
- ECE (Eq. 5): gaps of accuracy and confidence weighted by the voxels of a bin. MCE: the largest.

**How large can Brier / NLL be?** Let p be the probability of the true class. The others share 1 - p
and their squares sum to at most (1 - p)^2: a voxel's Brier score is at most 2 (1 - p)^2, its NLL is
-ln p. The ratio is largest where -2 p ln p = 1 - p, at p = 0.285, and is 4 p (1 - p) = 0.815 there.
What bounds each voxel bounds the means: Brier <= 0.815 NLL, or 0.815 / K with Eq. 4 (`eps` < 0.08).
A table that breaks it did not come from probabilities that sum to 1.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ._checks import (
    IGNORED,
    check_choice,
    check_count,
    check_finite,
    check_labels_and_probs,
    wrong_input,
)
from ._loops import sums_of_parts

N_IGNORED = 3  # column of the loop's totals
MOST_REGIONS = 8  # a voxel's byte says in which of them it lies


class ReliabilityBins(NamedTuple):
    """A reliability diagram: arrays of shape (n_bins,), NaN for the means of an empty bin."""

    lower: np.ndarray
    upper: np.ndarray  # bin m covers (lower, upper]
    count: np.ndarray  # voxels, int64
    confidence: np.ndarray  # mean probability
    accuracy: np.ndarray  # fraction of correct voxels


@dataclass(frozen=True)
class CalibrationResult:
    """All scores of one set of voxels, NaN if the set is empty."""

    n_voxels: int
    nll: float
    brier: float  # sum over classes
    ece: float  # of the top label, as mce and bins
    mce: float
    classwise_ece: np.ndarray  # (K,)
    n_floored: int  # voxels whose true class had a probability below eps
    bins: ReliabilityBins
    class_bins: tuple  # K ReliabilityBins: p(k) against the frequency of class k


class RegionSums(NamedTuple):
    """What `sums_by_region` returns, by region, and the arg max of all voxels."""

    sums: dict  # of CalibrationSums
    n_ignored: dict  # of int: voxels that nobody annotated
    predicted: np.ndarray  # small integers, the shape of the labels


class CalibrationSums:
    """Sums over voxels from which all scores follow; 3 + 3 (K + 1) n_bins numbers, however many.

    Parameters
    ----------
    n_classes, n_bins : int
        K, at least 2, and the number of equally wide bins of [0, 1].
    eps : float
        Floor of the true class's probability in NLL, between 0 and 1.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> one = CalibrationSums(n_classes=2).update(np.array([0]), np.array([[0.9], [0.1]]))
    >>> two = CalibrationSums(n_classes=2).update(np.array([1]), np.array([[0.9], [0.1]]))
    >>> vectors = np.stack([one.as_vector(), two.as_vector()])  # a row a patient
    >>> resampled = np.array([2, 0]) @ vectors  # the first patient drawn twice
    >>> round(CalibrationSums.from_vector(resampled, n_classes=2).result().ece, 3)
    0.1
    """

    def __init__(self, n_classes, n_bins=10, eps=1e-12):
        self.n_classes = check_count("n_classes", n_classes, minimum=2)
        self.n_bins = check_count("n_bins", n_bins)
        if not 0 < eps < 1:
            raise wrong_input("eps", eps, "a number above 0 and below 1")
        self.eps = float(eps)
        self._totals = np.zeros(3)  # NLL, Brier score, floored voxels
        # Count, sum of confidence, sum of correct; for the predicted class, then for each class.
        self._bins = np.zeros((3, self.n_classes + 1, self.n_bins))

    def update(self, labels, probs, log_probs=None):
        """Add voxels and return self: labels (*S), float32 or float64 probs (K, *S), any S.

        `log_probs` (K, *S) taken from logits keep in NLL what float32 probabilities lose near 0;
        they too are floored, at ``log(eps)``. ValueError if they contradict `probs`.
        """
        labels, probs = np.asarray(labels), np.asarray(probs)
        one_part = np.zeros(labels.shape, np.uint8)
        found = _sums_of_parts(labels, probs, one_part, 1, self.n_bins, self.eps)
        if found is None or len(probs) != self.n_classes or found[0][0, N_IGNORED]:
            raise _wrong(labels, probs, self.n_classes)
        totals, bins = found[0][0, :N_IGNORED], found[1][0]
        if log_probs is not None:
            log_likelihood = _log_likelihood(labels, probs, log_probs)
            totals[0] = -np.clip(log_likelihood, np.log(self.eps), 0).sum()
            totals[2] = np.count_nonzero(log_likelihood < np.log(self.eps))
        self._totals += totals
        self._bins += bins
        return self

    def merge(self, other):
        """Add the sums of `other`, refused if its settings differ, and return self."""
        mine, found = ((sums.n_classes, sums.n_bins, sums.eps) for sums in (self, other))
        if mine != found:
            raise wrong_input("(n_classes, n_bins, eps) of the sums to merge", found, mine)
        self._totals += other._totals
        self._bins += other._bins
        return self

    def as_vector(self):
        """Return all sums as one float64 vector; vectors of equal settings may be added."""
        return np.concatenate([self._totals, self._bins.ravel()])

    @classmethod
    def from_vector(cls, vector, n_classes, n_bins=10, eps=1e-12):
        """Return the sums that `as_vector` wrote, or several such vectors added together."""
        sums = cls(n_classes, n_bins, eps)
        vector = np.array(vector, dtype=np.float64)
        shape = sums.as_vector().shape
        if check_finite("vector", vector).shape != shape:
            raise wrong_input("vector", f"shape {vector.shape}", f"shape {shape}")
        sums._totals, sums._bins = vector[:3], vector[3:].reshape(sums._bins.shape)
        return sums

    def result(self):
        """Return the `CalibrationResult` of all voxels so far."""
        count, confidence_sum, correct_sum = self._bins
        n_voxels = count[0].sum()
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: an empty bin, or no voxel at all
            nll_mean, brier_mean = self._totals[:2] / n_voxels
            confidence, accuracy = confidence_sum / count, correct_sum / count
            # Eq. 5: |D_m| / N times |accuracy - confidence| is the difference of the sums over N.
            ece = np.abs(correct_sum - confidence_sum).sum(axis=1) / n_voxels
        edges = np.arange(self.n_bins + 1) / self.n_bins
        rows = zip(count.astype(np.int64), confidence, accuracy, strict=True)
        bins, *class_bins = (ReliabilityBins(edges[:-1], edges[1:], *row) for row in rows)
        return CalibrationResult(
            n_voxels=int(n_voxels),
            nll=float(nll_mean),
            brier=float(brier_mean),
            ece=float(ece[0]),
            mce=float(np.fmax.reduce(np.abs(bins.accuracy - bins.confidence))),  # skips NaN
            classwise_ece=ece[1:],
            n_floored=int(self._totals[2]),
            bins=bins,
            class_bins=tuple(class_bins),
        )


def _sums_of_parts(labels, probs, parts, n_parts, n_bins, eps):
    """`_loops.sums_of_parts`, and ``None`` also for arrays that are not what the loops take."""
    fits = labels.dtype.kind in "iu" and probs.dtype in (np.float32, np.float64)
    if labels.dtype == np.uint64 and labels.size:  # the loops take int64: 2^64 - 1 would be ignored
        fits &= labels.max() <= np.iinfo(np.int64).max
    if not fits or probs.shape[1:] != labels.shape or probs.ndim == 0 or len(probs) < 2:
        return None
    return sums_of_parts(labels, probs, parts, n_parts, n_bins, eps)


def _wrong(labels, probs, n_classes):
    """Raise, or return, the error that says what is wrong with labels (n,) or probs (K, n)."""
    check_labels_and_probs(labels, probs)
    if len(probs) != n_classes:
        return wrong_input("probs", f"{len(probs)} classes", f"{n_classes} classes")
    # in float16 a sigmoid at -25 is 0
    return wrong_input("probs", f"dtype {probs.dtype}", "float32 or float64")


def sums_by_region(labels, probs, regions, n_bins=10, eps=1e-12):
    """Return the sums of several regions that may overlap, from one pass over the voxels.

    Parameters
    ----------
    labels : int array, shape (X, Y, Z)
        True classes, -1 where nobody annotated: such voxels are only counted.
    probs : float32 or float64 array, shape (K, X, Y, Z)
    regions : dict of tuple of three slices, or of bool array, shape (X, Y, Z)
        At most 8.
    n_bins, eps
        As of `CalibrationSums`.

    Returns
    -------
    RegionSums

    Raises
    ------
    ValueError
        If shapes, types or ranges are wrong.

    Examples
    --------
    >>> labels = np.array([0, 1, -1]).reshape(3, 1, 1)
    >>> probs = np.array([[0.9, 0.6, 0.3], [0.1, 0.4, 0.7]]).reshape(2, 3, 1, 1)
    >>> regions = {"first": (slice(0, 1),) * 3, "right": labels != 1}
    >>> sums, n_ignored, predicted = sums_by_region(labels, probs, regions)
    >>> sums["right"].result().n_voxels, n_ignored, predicted.ravel().tolist()
    (1, {'first': 0, 'right': 1}, [0, 0, 1])
    """
    CalibrationSums(2, n_bins, eps)  # refuses other settings, before a loop writes by them
    labels, probs = np.asarray(labels), np.asarray(probs)
    parts = _parts(labels.shape, regions)
    n_parts = 2 ** len(regions)
    found = _sums_of_parts(labels, probs, parts, n_parts, n_bins, eps)
    if found is None:
        if labels.shape == probs.shape[1:]:
            known = labels != IGNORED
            check_labels_and_probs(labels[known], probs[:, known])
            labels = np.zeros(labels.shape, int)  # they are right: what is wrong are probabilities
        raise _wrong(labels, probs, len(probs))
    totals, bins, predicted = found
    sums, n_ignored = {}, {}
    for number, region in enumerate(regions):
        inside = np.arange(n_parts) >> number & 1 == 1
        sums[region] = one = CalibrationSums(len(probs), n_bins, eps)
        one._totals, one._bins = totals[inside, :N_IGNORED].sum(axis=0), bins[inside].sum(axis=0)
        n_ignored[region] = int(totals[inside, N_IGNORED].sum())
    return RegionSums(sums, n_ignored, predicted)


def _parts(shape, regions):
    """Return of each voxel which regions it lies in, a bit a region, as uint8 of `shape`."""
    if len(regions) > MOST_REGIONS:
        raise wrong_input("regions", f"{len(regions)} regions", f"at most {MOST_REGIONS}")
    parts = np.zeros(shape, np.uint8)
    for number, (name, region) in enumerate(regions.items()):
        bit = np.uint8(1 << number)
        if isinstance(region, tuple):
            parts[region] |= bit
        elif region.dtype == bool and region.shape == shape:
            parts |= region * bit
        else:
            found = f"{region.dtype} of shape {region.shape}"
            raise wrong_input(f"regions, {name}", found, f"three slices, or bool of {shape}")
    return parts


def _log_likelihood(labels, probs, log_probs):
    """Return ln p(true class) of every voxel in float64, from logarithms that agree with probs."""
    if np.shape(log_probs) != probs.shape:
        raise wrong_input("log_probs", f"shape {np.shape(log_probs)}", f"shape {probs.shape}")
    likelihood, log_likelihood = (
        np.take_along_axis(values, labels[np.newaxis], axis=0)[0].astype(np.float64)
        for values in (probs, np.asarray(log_probs))
    )
    with np.errstate(over="ignore"):  # logits given by mistake overflow, and are refused
        agrees = np.abs(np.exp(log_likelihood) - likelihood) <= 1e-4
    if not agrees.all():
        raise wrong_input("log_probs", "values unlike probs", "the logarithms of probs")
    return log_likelihood


def _score(labels, probs, n_bins=1, eps=1e-12):
    """Return the `CalibrationResult` of one block of voxels."""
    if np.ndim(probs) == 0 or len(probs) < 2:
        check_labels_and_probs(labels, probs)
    return CalibrationSums(len(probs), n_bins, eps).update(labels, probs).result()


def nll(labels, probs, eps=1e-12):
    """Return the mean negative log-likelihood of the true class in nats, 0 to -ln eps (Eq. 3).

    Parameters
    ----------
    labels, probs : int array (*S), float array (K, *S)
        True classes, and class probabilities that sum to 1. Without voxels every score is NaN.
    eps : float
        Probabilities of the true class below it count as `eps`; `CalibrationSums` counts them.

    Raises
    ------
    ValueError
        If shapes, types or ranges are wrong.

    Examples
    --------
    >>> round(nll(np.array([0, 1]), np.array([[0.8, 0.5], [0.2, 0.5]])), 4)
    0.4581
    """
    return _score(labels, probs, eps=eps).nll


def brier_score(labels, probs, normalise_by_classes=False):
    """Return the mean squared distance of the probabilities to the one-hot truth, from 0 to 2.

    Arguments and errors as in `nll`. `normalise_by_classes` divides by K as Eq. 4 does; the values
    that the paper prints are too large for that.

    >>> round(brier_score(np.array([0, 1]), np.array([[0.8, 0.5], [0.2, 0.5]])), 4)
    0.29
    """
    brier = _score(labels, probs).brier
    return brier / len(probs) if normalise_by_classes else brier


def expected_calibration_error(labels, probs, n_bins=10, of="top label"):
    """Return the ECE (Eq. 5), from 0 to 1: a fraction, not per cent.

    Arguments and errors as in `nll`. `of` is "top label", or "classes": the mean over k of the ECE
    of p(k). No paper prints `n_bins`.

    >>> expected_calibration_error(np.array([0, 1]), np.array([[0.75, 0.5], [0.25, 0.5]]))
    0.375
    """
    check_choice("of", of, ("top label", "classes"))
    scores = _score(labels, probs, n_bins)
    return scores.ece if of == "top label" else float(scores.classwise_ece.mean())


def maximum_calibration_error(labels, probs, n_bins=10):
    """Return the MCE of the top label, from 0 to 1; arguments and errors as in `nll`.

    >>> maximum_calibration_error(np.array([0, 1]), np.array([[0.75, 0.5], [0.25, 0.5]]))
    0.5
    """
    return _score(labels, probs, n_bins).mce


def reliability_bins(labels, probs, n_bins=10, class_index=None):
    """Return the `ReliabilityBins` of the top label, or of p(class_index); arguments as in `nll`.

    >>> reliability_bins(np.array([0, 0, 1]), np.array([[0.9, 0.7, 0], [0.1, 0.3, 1]]), 5).count
    array([0, 0, 0, 1, 2])
    """
    scores = _score(labels, probs, n_bins)
    if class_index is None:
        return scores.bins
    if check_count("class_index", class_index, minimum=0) >= len(scores.class_bins):
        raise wrong_input("class_index", class_index, f"0 to {len(scores.class_bins) - 1}")
    return scores.class_bins[class_index]
