"""Loops over voxels as machine code: all scores of a volume in one pass.

NumPy needs a pass, and mostly a float64 copy, for every step; a loop needs one for all of them.
Numba compiles them, because it follows NumPy's versions and needs no compiler where it is
installed. A process loads it at its first score, so that importing a chapter stays cheap: 1 to 3 s,
nearly all of it Numba's own start. Whoever is first compiles for some seconds more; the code is
kept beside this file, or where that is read-only in the user's cache, or in ``NUMBA_CACHE_DIR``.
It keeps it as pickles, so nobody may write there who may not write the package.
Without ``fastmath`` sums keep their order and NaN stays NaN.
"""

from functools import cache, wraps

import numpy as np

from ._checks import IGNORED, ROUNDING, check_labels_and_probs

N_ALIKE = 32  # neighbours that are looked at as one, where they are alike
N_TOGETHER = 2**14  # voxels whose probabilities fit the processor's cache
TOO_LARGE = 1 + ROUNDING
UNLIKE_1 = ROUNDING + 1e-12  # what `check_labels_and_probs` lets pass, whatever its order of sums


def compiled(loop):
    """Return `loop` as machine code that is made, or read from the cache, at its first call."""

    @cache
    def machine_code():
        import numba

        try:
            return numba.njit(cache=True)(loop)
        except RuntimeError:  # no folder can be written to: every process compiles
            return numba.njit(loop)

    @wraps(loop)
    def call(*arguments):
        return machine_code()(*arguments)

    return call


@compiled
def _predict(probs, predicted, classes):
    """Write the arg max of probs (K, n) and return whether they are probabilities.

    The length of `classes` tells the compiler how many there are, which halves the time.
    """
    n_wrong = 0
    for i in range(predicted.size):
        largest, total, best, fits = probs[0, i], 0.0, 0, True
        for k in range(len(classes)):
            p = probs[k, i]
            total += p
            fits &= p >= 0  # which NaN is not
            is_larger = p > largest
            best = k if is_larger else best
            largest = p if is_larger else largest
        n_wrong += not (fits & (largest <= TOO_LARGE) & (abs(total - 1) <= UNLIKE_1))
        predicted[i] = best
    return n_wrong == 0


@compiled
def _likelihood(labels, probs, likelihood):
    """Write p(true class), 1 where it is ignored, and return whether all labels are classes."""
    fits = True
    for i in range(labels.size):
        label = labels[i]
        likelihood[i] = 1.0
        if 0 <= label < len(probs):
            likelihood[i] = probs[label, i]
        else:
            fits &= label == IGNORED
    return fits


@compiled
def _add_alike(labels, probs, predicted, parts, edges, logs, totals, bins, is_mixed):
    """Add groups of `N_ALIKE` voxels of which each class's probabilities share a bin.

    Most of a volume is alike: a bin takes the sum of such a group in place of each voxel, which
    saves a third of the time. The arguments are those of `_add`; `is_mixed` (n_groups,) tells it
    what is left, which an incomplete group always is.
    """
    n_bins = edges.size - 1
    for group in range(is_mixed.size):
        first, stop = group * N_ALIKE, (group + 1) * N_ALIKE
        is_mixed[group] = True
        if stop > labels.size:
            continue
        label, best, part = labels[first], predicted[first], parts[first]
        is_alike = label != IGNORED
        for i in range(first, stop):
            is_alike &= (labels[i] == label) & (predicted[i] == best) & (parts[i] == part)
        if not is_alike:
            continue
        for k in range(len(probs)):
            lowest = highest = probs[k, first]
            for i in range(first, stop):
                p = probs[k, i]
                lowest = p if p < lowest else lowest
                highest = p if p > highest else highest
            m = min(int(lowest * n_bins), n_bins - 1)
            m -= lowest <= edges[m]
            is_alike &= highest <= edges[m + 1]
        if not is_alike:
            continue
        is_mixed[group] = False
        log_likelihood = 0.0
        for i in range(first, stop):
            log_likelihood += logs[i]
        totals[part, 0] -= log_likelihood
        for k in range(len(probs)):
            m = min(int(probs[k, first] * n_bins), n_bins - 1)
            m -= probs[k, first] <= edges[m]
            confidence, brier, is_class = 0.0, 0.0, 1.0 if k == label else 0.0
            for i in range(first, stop):
                p = float(probs[k, i])
                confidence += p
                brier += (p - is_class) ** 2
            totals[part, 1] += brier
            for row in (0, k + 1):
                if row or k == best:
                    bins[part, row, m, 0] += N_ALIKE
                    bins[part, row, m, 1] += confidence
                    bins[part, row, m, 2] += N_ALIKE * is_class


@compiled
def _add(labels, probs, predicted, parts, edges, logs, totals, bins, is_mixed):
    """Add the voxels of mixed groups to the sums of their parts.

    totals (P, 3): NLL, Brier score, ignored voxels; bins (P, K + 1, n_bins, 3): count, sum of
    confidence and of correct, of the predicted class and of each. Bin m lies above edges[m], up to
    edges[m + 1]; `logs` are log-likelihoods.
    """
    n_bins = edges.size - 1
    for i in range(labels.size):
        if not is_mixed[i // N_ALIKE]:
            continue
        part, label = parts[i], labels[i]
        if label == IGNORED:
            totals[part, 2] += 1
            continue
        brier = 0.0
        for k in range(len(probs)):
            p, is_class = float(probs[k, i]), 1.0 if k == label else 0.0
            m = min(int(p * n_bins), n_bins - 1)
            m -= p <= edges[m]  # p is on the edge, or the product was rounded up
            bins[part, k + 1, m, 0] += 1
            bins[part, k + 1, m, 1] += p
            bins[part, k + 1, m, 2] += is_class
            brier += (p - is_class) ** 2
            if k == predicted[i]:
                bins[part, 0, m, 0] += 1
                bins[part, 0, m, 1] += p
                bins[part, 0, m, 2] += is_class
        totals[part, 0] -= logs[i]
        totals[part, 1] += brier


def _in_blocks(probs, *arrays):
    """Yield a few voxels at a time: probs (K, n) of (K, *S) in a row, and views (n,) of (*S)."""
    n_classes, shape = len(probs), probs.shape[1:]
    dtype = probs.dtype if probs.dtype in (np.float32, np.float64) else np.float64
    if probs.flags.c_contiguous or not shape:
        probs, shape = probs.reshape(n_classes, -1), (-1,)
    arrays = [array.reshape(shape) for array in arrays]
    n_voxels = probs[0].size
    step = max(1, N_TOGETHER * probs.shape[1] // max(n_voxels, 1))  # along the first axis
    for start in range(0, probs.shape[1] if n_voxels else 0, step):
        block = slice(start, start + step)
        values = np.ascontiguousarray(probs[:, block], dtype).reshape(n_classes, -1)
        yield values, *(array[block].reshape(-1) for array in arrays)


def class_type(n_classes):
    """The smallest type of integers for the arg max of so many classes."""
    return np.min_scalar_type(n_classes - 1)


def predicted_classes(probs):
    """Return the class of largest probability, on a tie the lowest, and check all values.

    Parameters
    ----------
    probs : float array, shape (K, *S)

    Returns
    -------
    array of small integers, shape (*S)

    Raises
    ------
    ValueError
        As `segcal_lite._checks.check_labels_and_probs`.

    Examples
    --------
    >>> predicted_classes(np.array([[0.5, 0.2], [0.5, 0.8]])).tolist()
    [0, 1]
    """
    probs = np.asarray(probs)
    fits = probs.ndim > 0 and len(probs) > 1 and probs.dtype.kind == "f"
    predicted = np.empty(probs.shape[1:], class_type(max(2, len(probs) if fits else 0)))
    classes = tuple(range(len(probs))) if fits else ()
    if not fits or not all(_predict(*block, classes) for block in _in_blocks(probs, predicted)):
        check_labels_and_probs(np.broadcast_to(0, probs.shape[1:]), probs)
    return predicted


def _edges(n_bins, dtype):
    """Return the edges of the bins, (n_bins + 1,), which values of a type compare to as in float64.

    In float32 an edge is the next number below: no float32 number lies between.
    """
    edges = np.append(np.arange(n_bins) / n_bins, np.inf)
    edges[0] = -1  # the first bin takes 0, the last all above
    rounded = edges.astype(dtype)
    return np.where(rounded > edges, np.nextafter(rounded, dtype.type(-1)), rounded)


def sums_of_parts(labels, probs, parts, n_parts, n_bins, eps):
    """Return totals (P, 4) and bins (P, 3, K + 1, n_bins) of the parts, and the arg max.

    `parts` (*S) numbers the part of each voxel. The totals are NLL, Brier score, voxels whose true
    class is below `eps`, and ignored ones; bins are of the predicted class and of each: count, sums
    of confidence and of correct. ``None`` if a value is wrong: what, is for
    `segcal_lite._checks.check_labels_and_probs` to say.
    """
    n_classes, classes = len(probs), tuple(range(len(probs)))
    predicted = np.empty(labels.shape, class_type(n_classes))
    edges = _edges(n_bins, probs.dtype)
    totals, bins = np.zeros((n_parts, 4)), np.zeros((n_parts, n_classes + 1, n_bins, 3))
    for block, best, label, part in _in_blocks(probs, predicted, labels, parts):
        label, part, likelihood = (
            label.astype(np.int64),
            part.astype(np.int64),
            np.empty(label.size),
        )
        if not (_predict(block, best, classes) and _likelihood(label, block, likelihood)):
            return None
        if likelihood.min() < eps:
            totals[:, 2] += np.bincount(part[likelihood < eps], minlength=n_parts)
        logs = np.log(np.maximum(likelihood, eps, out=likelihood), out=likelihood)
        found = np.zeros((n_parts, 3)), np.zeros_like(bins)  # of few voxels: no rounding adds up
        is_mixed = np.empty(-(-label.size // N_ALIKE), dtype=bool)
        for add in (_add_alike, _add):
            add(label, block, best, part, edges, logs, *found, is_mixed)
        totals[:, [0, 1, 3]] += found[0]
        bins += found[1]
    return totals, np.moveaxis(bins, -1, 1), predicted
