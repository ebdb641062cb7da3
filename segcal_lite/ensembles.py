"""Deep ensembles: the mean of the members' probabilities, and what each number of members gives.

Source: Mehrtash et al., IEEE TMI 2020 (doi 10.1109/TMI.2020.3006437), section V.C: M networks that
differ in their random start and in the order of their mini-batches, whose probabilities are
averaged (Eq. 6). To see what M does, many ensembles of each size are drawn from one pool
(`selection_matrix`) and scored side by side, block by block of a volume (`SweepSums`).
"""

import sys
from functools import partial

import numpy as np

from ._checks import (
    ROUNDING,
    check_count,
    check_label_range,
    check_labels_and_probs,
    wrong_input,
)
from ._loops import predicted_classes

N_TOGETHER = 1024  # voxels: what is computed of them stays in a processor's cache
N_TOGETHER_ON_GPU = 4096  # of a tensor: a GPU waits less for what to do next
TINY = 1e-12  # products of smaller numbers are denormal, and four times as slow


def mean_probability(member_probs):
    r"""Probability of the ensemble, paper A, Eq. 6.

    .. math:: p_E(y = k) = \frac{1}{M} \sum_m p(y = k \mid \theta_m)

    Parameters
    ----------
    member_probs : array, shape (M, K, *S), or iterable of M arrays, shape (K, *S)
        An iterable is taken one array at a time: memory does not grow with M.

    Returns
    -------
    array, float64, shape (K, *S)

    Raises
    ------
    ValueError
        If there is no member, or shapes differ.

    Examples
    --------
    >>> mean_probability([np.array([0.2, 0.8]), np.array([0.6, 0.4])]).tolist()
    [0.4, 0.6000000000000001]
    """
    total, n_members = None, 0
    for probs in member_probs:
        if total is None:
            total = np.zeros(np.shape(probs), dtype=np.float64)
        if np.shape(probs) != total.shape:
            raise wrong_input("member_probs", f"shape {np.shape(probs)}", f"{total.shape}")
        total += probs
        n_members += 1
    if total is None:
        raise wrong_input("member_probs", "no member", "at least one")
    return total / n_members


def selection_matrix(n_pool, n_members, n_resamples, seed=0):
    """Draw ensembles from a pool: one row an ensemble, 1 / M where a member takes part.

    Its product with the pool's probabilities gives the mean probabilities of all the ensembles.

    Parameters
    ----------
    n_pool, n_members, n_resamples, seed : int
        Pool size, M, number of ensembles, seed.

    Returns
    -------
    array, float64, shape (n_resamples, n_pool)

    Raises
    ------
    ValueError
        If M exceeds the pool, or one of them is no such number.

    Examples
    --------
    >>> selection_matrix(4, 2, 3).sum(axis=1).tolist()
    [1.0, 1.0, 1.0]
    """
    for name, value, least in (
        ("n_pool", n_pool, 1),
        ("n_members", n_members, 1),
        ("n_resamples", n_resamples, 0),
        ("seed", seed, 0),
    ):
        check_count(name, value, least)
    if n_members > n_pool:
        raise wrong_input("n_members", n_members, f"at most the pool's {n_pool}")
    rng = np.random.default_rng([seed, n_members])
    selection = np.zeros((n_resamples, n_pool))
    for row in selection:
        row[rng.choice(n_pool, n_members, replace=False)] = 1 / n_members
    return selection


class SweepSums:
    """NLL, Brier score and Dice of many ensembles drawn from one pool, as sums over one volume.

    Equal to scoring each ensemble alone, but for the rounding of float32: the Brier score to 1e-6
    of its value, or to 1e-18; NLL to 1e-6 nats, and in a mean over many voxels to 2e-7 of up to 100
    members, 3e-8 of up to ten (measured where all are sure; else closer). Where all members of the
    pool predict the same class, so does every ensemble; only the other voxels are averaged anew for
    the Dice. NLL takes the probability of the true class alone. An ensemble's error is the mean of
    its members', e = D' s with a column a member in D and weights s, so the Brier scores of all
    ensembles follow from one matrix D D'.
    The same lines compute with arrays of NumPy and with tensors.

    Parameters
    ----------
    selection : array or torch.Tensor, shape (R, n_pool)
        From `selection_matrix`; rows of several M may be stacked. With a tensor of PyTorch all is
        computed on its device, where blocks are brought that lie elsewhere.
    n_classes : int
    eps : float
        Floor of the probabilities in the NLL, at least the least normal number of float32, 1.2e-38.
    n_missed : sequence of int, shape (n_classes - 1,), optional
        Voxels of each segment that lie outside what the networks see: Dice counts them as missed.

    Examples
    --------
    >>> one, other = np.array([[0.9, 0.4], [0.1, 0.6]]), np.array([[0.7, 0.8], [0.3, 0.2]])
    >>> pool = np.stack([one, other]).astype(np.float32)  # (n_pool, K, N)
    >>> sums = SweepSums(np.array([[1, 0], [0.5, 0.5]]), n_classes=2)
    >>> nll, dice = sums.update(np.array([0, 1]), pool).result()
    >>> nll.round(3).tolist(), dice.tolist()
    ([0.308, 0.57], [1.0, 0.0])
    >>> sums.brier().round(3).tolist()
    [0.17, 0.4]
    """

    def __init__(self, selection, n_classes, eps=1e-12, n_missed=None):
        if not np.finfo(np.float32).tiny <= eps < 1:  # 0 in float32 would be no floor
            raise wrong_input("eps", eps, "a number of float32 from 1.2e-38, below 1")
        self.xp = xp = _library_of(selection)
        self.selection, self.eps = xp.asarray(selection, dtype=xp.float32), eps
        self.n_together = N_TOGETHER if xp is np else N_TOGETHER_ON_GPU
        # 1 where a member takes part: of 1/M in float32 all likelihoods would err to one side.
        self.parts = self.selection / xp.amax(self.selection, 1)[:, None]
        n_ensembles, n_pool = self.selection.shape
        zeros = partial(xp.zeros, dtype=xp.float64, device=self.selection.device)
        self.n_voxels = 0
        self.nll_sum = zeros(n_ensembles)
        self.error_products = zeros((n_pool, n_pool))
        self.overlap = zeros((n_ensembles, n_classes - 1))
        self.total = zeros((n_ensembles, n_classes - 1))
        if n_missed is not None:
            self.total += xp.asarray(n_missed, dtype=xp.float64, device=self.total.device)

    def update(self, labels, member_probs):
        """Add a block: labels of shape (N,), member_probs float32 of shape (n_pool, K, N).

        ValueError if shapes do not fit, values are no probabilities, or labels none of the classes.
        """
        xp, device = self.xp, self.selection.device
        labels = xp.asarray(labels, dtype=xp.int64, device=device)
        member_probs = xp.asarray(member_probs, device=device)
        n_classes = self.total.shape[1] + 1
        expected = self.selection.shape[1], n_classes, *labels.shape
        if labels.ndim != 1 or tuple(member_probs.shape) != expected:
            found = f"{tuple(member_probs.shape)}, labels of {tuple(labels.shape)}"
            needed = f"({expected[0]}, {n_classes}, N), labels of (N,)"
            raise wrong_input("shape of member_probs", found, needed)
        check_label_range(labels, n_classes)
        self.n_voxels += len(labels)
        for start in range(0, len(labels), self.n_together):
            voxels = slice(start, start + self.n_together)
            self._add(labels[voxels], member_probs[..., voxels])
        return self

    def _add(self, labels, member_probs):
        """Add some voxels: labels (n,), member_probs (n_pool, K, n)."""
        xp = self.xp
        by_class = xp.moveaxis(member_probs, 1, 0)  # (K, n_pool, n)
        votes = _predicted(by_class)
        is_agreed = (votes == votes[0]).all(axis=0)
        self._add_masks(labels[is_agreed], votes[:1, is_agreed])
        self._add_masks(labels[~is_agreed], _predicted(self.selection @ by_class[..., ~is_agreed]))

        classes, voxels = (xp.arange(n, device=labels.device) for n in member_probs.shape[1:])
        likelihood = self.parts @ member_probs[:, labels, voxels]
        likelihood /= self.parts.sum(axis=1)[:, None]
        xp.clip(likelihood, self.eps, 1, out=likelihood)
        self.nll_sum -= xp.log(likelihood, out=likelihood).sum(axis=1, dtype=xp.float64)

        is_class = xp.asarray(labels == classes[:, None], dtype=xp.float32)
        errors = member_probs.clip(min=TINY)
        errors -= is_class
        errors = errors.reshape(len(errors), -1)
        self.error_products += errors @ errors.T

    def _add_masks(self, labels, predicted):
        """Add to the Dice: predicted is (R, n), or (1, n) where all ensembles agree."""
        for k in range(1, self.total.shape[1] + 1):
            is_truth, is_predicted = labels == k, predicted == k
            self.overlap[:, k - 1] += (is_predicted & is_truth).sum(axis=1)
            self.total[:, k - 1] += is_predicted.sum(axis=1) + is_truth.sum()

    def result(self):
        """Return NLL, shape (R,), and the mean Dice over segments, shape (R,); empty in both: 1.

        Without a voxel both are NaN.
        """
        if not self.n_voxels:
            return np.full((2, len(self.selection)), np.nan)
        nll_sum, overlap, total = map(_on_host, (self.nll_sum, self.overlap, self.total))
        dice = np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)
        return nll_sum / self.n_voxels, dice.mean(axis=1)

    def brier(self):
        """Return the Brier score, shape (R,), the sum over classes; NaN without a voxel."""
        if not self.n_voxels:
            return np.full(len(self.selection), np.nan)
        weights = _on_host(self.selection).astype(np.float64)
        return ((weights @ _on_host(self.error_products)) * weights).sum(axis=1) / self.n_voxels


def _library_of(array):
    """NumPy, or PyTorch of a tensor: loaded where there is one, and not for this."""
    return np if isinstance(array, (np.ndarray, list)) else sys.modules["torch"]


def _on_host(array):
    """Return an array as it is, a tensor as an array."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def _predicted(probs):
    """Arg max of (K, *S), and all values checked: of an array in one pass over them."""
    if isinstance(probs, np.ndarray):
        return predicted_classes(probs)
    largest, predicted = probs.max(dim=0)
    misses = (probs.double().sum(dim=0) - 1).abs()
    fits = (probs >= 0).all(dim=0) & (largest <= 1 + ROUNDING) & (misses <= ROUNDING)
    if not fits.all():
        check_labels_and_probs(np.broadcast_to(0, predicted.shape), _on_host(probs))
    return predicted
