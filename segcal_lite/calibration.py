"""Calibration of voxel-wise class probabilities: NLL, Brier score, ECE, MCE, reliability bins.

Every score is a ratio of sums over voxels. `CalibrationSums` holds only these sums, so volumes come
block by block, patients are merged by addition and resampled by a matrix product. The functions
below wrap it. Source: Mehrtash et al., IEEE TMI 2020 (doi 10.1109/TMI.2020.3006437).

- NLL (Eq. 3): the mean of ``-ln max(p(y), eps)``; p(k) is the probability of class k, y the truth.
- Brier score (Eq. 4): the mean of ``sum_k (p(k) - [k = y])^2``; the equation also divides it by K.
- Confidence: the largest class probability; on a tie the lowest class is predicted. (The text above
  Eq. 5 prints the true class's probability there, which would give no reliability diagram.)
- Bin m of M is ``((m - 1)/M, m/M]``; the first also takes 0, the last what rounding put above 1.
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

from ._checks import check_choice, check_count, check_finite, check_labels_and_probs, wrong_input


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
        labels, probs = check_labels_and_probs(labels, probs)
        if len(probs) != self.n_classes:
            raise wrong_input("probs", f"{len(probs)} classes", f"{self.n_classes} classes")
        if probs.dtype not in (np.float32, np.float64):  # in float16 a sigmoid at -25 is 0
            raise wrong_input("probs", f"dtype {probs.dtype}", "float32 or float64")
        log_likelihood = _log_likelihood(labels, probs, log_probs)
        self._totals[0] -= np.maximum(log_likelihood, np.log(self.eps)).sum()
        self._totals[2] += np.count_nonzero(log_likelihood < np.log(self.eps))
        self._bins[:, 0] += self._bin_sums(probs.max(axis=0), probs.argmax(axis=0) == labels)
        for k, class_probs in enumerate(probs):  # one class at a time: float64 copies stay small
            is_class = labels == k
            self._totals[1] += np.square(np.subtract(class_probs, is_class, dtype=np.float64)).sum()
            self._bins[:, k + 1] += self._bin_sums(class_probs, is_class)
        return self

    def _bin_sums(self, confidence, correct):
        """Return count, sum of confidence and sum of correct of each bin."""
        confidence = np.ravel(confidence).astype(np.float64)
        inner_edges = np.arange(1, self.n_bins) / self.n_bins  # so nothing falls outside
        bin_index = np.searchsorted(inner_edges, confidence, side="left")
        summands = (None, confidence, np.ravel(correct))  # None counts
        return [np.bincount(bin_index, values, minlength=self.n_bins) for values in summands]

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


def _log_likelihood(labels, probs, log_probs):
    """Return ln p(true class) of every voxel in float64, -inf where p is 0."""
    likelihood = np.take_along_axis(probs, labels[np.newaxis], axis=0)[0].astype(np.float64)
    if log_probs is None:
        with np.errstate(divide="ignore"):
            return np.log(likelihood)
    if np.shape(log_probs) != probs.shape:
        raise wrong_input("log_probs", f"shape {np.shape(log_probs)}", f"shape {probs.shape}")
    log_likelihood = np.take_along_axis(np.asarray(log_probs), labels[np.newaxis], axis=0)[0]
    with np.errstate(over="ignore"):  # logits given by mistake overflow, and are refused
        agrees = np.abs(np.exp(log_likelihood, dtype=np.float64) - likelihood) <= 1e-4
    if not agrees.all():
        raise wrong_input("log_probs", "values unlike probs", "the logarithms of probs")
    return log_likelihood.astype(np.float64)


def _score(labels, probs, n_bins=1, eps=1e-12):
    """Return the `CalibrationResult` of one block of voxels."""
    labels, probs = check_labels_and_probs(labels, probs)
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
