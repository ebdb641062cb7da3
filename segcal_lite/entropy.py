"""Entropies of class probabilities: of a voxel, of a predicted segment, of a whole prediction.

The two papers measure different things under one name, both in nats, with 0 ln 0 = 0:

- A (Mehrtash et al., IEEE TMI 2020, Eq. 7): the binary entropy ``-p ln p - (1 - p) ln(1 - p)`` of
  p(class k), averaged over the predicted segment of class k.
- B (Karimi & Gholipour, IEEE TAI 2022, section III-D): only the first term, ``-p ln p`` of the
  mean foreground probability, averaged over the predicted foreground.

A voxel belongs to the class with the largest probability, on a tie to the lowest class.
Probabilities that rounding put above 1 (by 0.0001 at most) count as 1: no entropy is negative.
"""

import numpy as np
from scipy.special import entr  # entr(p) = -p ln p, and 0 at p = 0

from ._checks import check_count, check_finite, check_prob_range, wrong_input
from ._loops import predicted_classes


def voxel_entropy(probs):
    """Return the Shannon entropy over the K classes of every voxel.

    Parameters
    ----------
    probs : float array, shape (K, *S)
        Class probabilities; their sum over classes is 1.

    Returns
    -------
    float64 array, shape (*S)
        ``-sum_k p(k) ln p(k)`` in nats, from 0 (certain) to ln K (all classes alike).

    Raises
    ------
    ValueError
        If `probs` is not normalised, not finite or has fewer than two classes.

    Examples
    --------
    >>> voxel_entropy(np.array([[1.0, 0.5], [0.0, 0.5]])).round(4)
    array([0.    , 0.6931])
    """
    probs = np.asarray(probs)
    predicted_classes(probs)  # refuses what are no probabilities
    entropy_nats = np.zeros(probs.shape[1:])
    for class_probs in probs:  # one class at a time: the float64 copy stays small
        entropy_nats += entr(np.minimum(class_probs, 1, dtype=np.float64))
    return entropy_nats


def binary_entropy(prob):
    """Return the entropy of "this class or any other" (the summand of A's Eq. 7).

    Parameters
    ----------
    prob : float array, any shape
        Probability of one class.

    Returns
    -------
    float64 array of the same shape
        ``-p ln p - (1 - p) ln(1 - p)`` in nats, from 0 to ln 2.

    Raises
    ------
    ValueError
        If a value is not finite or lies outside [0, 1].

    Examples
    --------
    >>> binary_entropy(np.array([0.0, 0.5, 0.9])).round(4)
    array([0.    , 0.6931, 0.3251])
    """
    prob = check_finite("prob", np.asarray(prob, dtype=np.float64))
    check_prob_range("prob", prob)
    prob = np.minimum(prob, 1)
    return entr(prob) + entr(1 - prob)


def segment_entropy(probs, k):
    """Return the mean binary entropy of class `k` over its predicted segment (A's Eq. 7).

    Parameters
    ----------
    probs : float array, shape (K, *S)
        Class probabilities.
    k : int
        Class, 0 to K - 1. Its segment is the set of voxels whose arg max is `k`.

    Returns
    -------
    float
        In nats, from 0 to ln 2; NaN if no voxel is predicted as `k`.

    Raises
    ------
    ValueError
        As in `voxel_entropy`, or if there is no class `k`.

    Examples
    --------
    >>> round(segment_entropy(np.array([[0.9, 0.5, 0.2], [0.1, 0.5, 0.8]]), k=1), 4)
    0.5004
    """
    probs = np.asarray(probs)
    predicted = predicted_classes(probs)
    if check_count("k", k, minimum=0) >= len(probs):
        raise wrong_input("k", k, f"a class from 0 to {len(probs) - 1}")
    return _segment_entropy(probs, predicted, k)


def segment_entropies(probs, predicted):
    """Return `segment_entropy` of classes 1 to K - 1, of checked `probs` whose arg max is known.

    >>> probs = np.array([[0.9, 0.5, 0.2], [0.1, 0.5, 0.8]])
    >>> [round(nats, 4) for nats in segment_entropies(probs, predicted=np.array([0, 0, 1]))]
    [0.5004]
    """
    return [_segment_entropy(probs, predicted, k) for k in range(1, len(probs))]


def _segment_entropy(probs, predicted, k):
    """The mean of Eq. 7 over the voxels predicted as `k`."""
    segment_probs = probs[k][predicted == k]
    return float(binary_entropy(segment_probs).mean()) if segment_probs.size else np.nan


def mean_foreground_uncertainty(probs):
    """Return the mean of ``-p ln p`` over the predicted foreground, B's baseline detector score.

    Parameters
    ----------
    probs : float array, shape (K, *S)
        Class probabilities, averaged over the stochastic passes. B has one organ; for any K we
        take p = 1 - p(class 0), and as foreground the voxels whose arg max is not class 0.

    Returns
    -------
    float
        In nats, NaN if no foreground is predicted. There another class exceeds class 0, so p is
        above 0.5 and the score lies in [0, -0.5 ln 0.5], the range that B states.

    Raises
    ------
    ValueError
        As in `voxel_entropy`.

    Examples
    --------
    >>> round(mean_foreground_uncertainty(np.array([[0.9, 0.4], [0.1, 0.6]])), 4)
    0.3065
    """
    probs = np.asarray(probs)
    return foreground_uncertainty(probs, predicted_classes(probs))


def foreground_uncertainty(probs, predicted):
    """Return `mean_foreground_uncertainty` of checked `probs` whose arg max is known.

    >>> round(foreground_uncertainty(np.array([[0.9, 0.4], [0.1, 0.6]]), np.array([0, 1])), 4)
    0.3065
    """
    background_probs = probs[0][predicted != 0].astype(np.float64)
    foreground_probs = 1 - np.minimum(background_probs, 1)
    return float(entr(foreground_probs).mean()) if foreground_probs.size else np.nan
