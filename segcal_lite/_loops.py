"""Loops over voxels as machine code: all scores of a volume in one pass.

NumPy needs a pass, and mostly a float64 copy, for every step; a loop needs one for all of them.
Numba compiles them, because it follows NumPy's versions and needs no compiler where it is
installed. A process loads it at its first score, so that importing a chapter stays cheap: 1 to 3 s,
nearly all of it Numba's own start. Whoever is first compiles for some seconds more; the code is
kept beside this file, or where that is read-only in the user's cache, or in ``NUMBA_CACHE_DIR``.
It keeps it as pickles, so nobody may write there who may not write the package.
Without ``fastmath`` sums keep their order and NaN stays NaN; a division by 0 is infinite, as
NumPy's is, because looking out for one at each voxel keeps loops from taking several at once.
"""

from functools import cache, wraps

import numpy as np

from ._checks import IGNORED, ROUNDING, check_labels_and_probs

N_ALIKE = 32  # neighbours that are looked at as one, where they are alike
NEAR_1 = 0.9  # see `_log_likelihood`
N_TOGETHER = 2**14  # voxels whose probabilities fit the processor's cache
TOO_LARGE = 1 + ROUNDING
UNLIKE_1 = ROUNDING + 1e-12  # what `check_labels_and_probs` lets pass, whatever its order of sums


def compiled(loop):
    """Return `loop` as machine code that is made, or read from the cache, at its first call."""

    @cache
    def machine_code():
        import numba

        try:
            return numba.njit(cache=True, error_model="numpy")(loop)
        except RuntimeError:  # no folder can be written to: every process compiles
            return numba.njit(error_model="numpy")(loop)

    @wraps(loop)
    def call(*arguments):
        return machine_code()(*arguments)

    return call


@compiled
def _predict(probs, predicted, classes):
    """Write the arg max of probs (K, n); return whether they are probabilities, and any above 1.

    The length of `classes` tells the compiler how many there are, which halves the time.
    """
    n_wrong, n_above = 0, 0
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
        n_above += largest > 1
        predicted[i] = best
    return n_wrong == 0, n_above > 0


@compiled
def _log_likelihood(labels, probs, parts, eps, likelihood, logs, n_floored):
    """Write ln max(p(true class), eps), 0 where it is ignored; return whether all labels fit.

    ln p = 2 artanh s, s = (p - 1) / (p + 1): above `NEAR_1`, where most are, seven terms of its
    series are all that float64 can hold, and the processor takes several voxels at once.
    """
    fits = True
    for i in range(labels.size):
        label, p = labels[i], 1.0
        if 0 <= label < len(probs):
            p = probs[np.uint64(label), i]
        else:
            fits &= label == IGNORED
        if p < eps:
            n_floored[parts[i]] += 1
            p = eps
        likelihood[i] = p
    for i in range(labels.size):
        s = (likelihood[i] - 1) / (likelihood[i] + 1)
        x = s * s
        series = 1 + x * (1 / 3 + x * (1 / 5 + x * (1 / 7 + x * (1 / 9 + x * (1 / 11 + x / 13)))))
        logs[i] = 2 * s * series
    for i in range(labels.size):
        if likelihood[i] < NEAR_1:
            logs[i] = np.log(likelihood[i])
    return fits


@compiled
def _add_alike(labels, probs, predicted, parts, edges, logs, totals, bins, is_mixed, classes):
    """Add groups of `N_ALIKE` voxels of which each class's probabilities share a bin.

    Most of a volume is alike: a bin takes the sum of such a group in place of each voxel, which
    saves half of the time. The arguments are those of `_add`; `is_mixed` (n_groups,) tells it
    what is left, which an incomplete group always is.
    """
    n_bins, n_classes = edges.size - 1, len(classes)
    confidence, rows = np.empty(n_classes), np.empty(n_classes, np.uint64)
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
        log_likelihood, brier = 0.0, 0.0
        for k in range(n_classes):
            lowest = highest = probs[k, first]
            p_sum, squares, is_class = 0.0, 0.0, 1.0 if k == label else 0.0
            for i in range(first, stop):
                p = probs[k, i]
                lowest = p if p < lowest else lowest
                highest = p if p > highest else highest
                p_sum += p
                squares += (p - is_class) ** 2
            m = min(int(lowest * n_bins), n_bins - 1)
            m -= lowest <= edges[m]
            is_alike &= highest <= edges[m + 1]
            rows[k] = ((part * n_classes + k) * 2 + (k == best)) * n_bins + m
            confidence[k] = p_sum
            brier += squares
        if not is_alike:
            continue
        is_mixed[group] = False
        for i in range(first, stop):
            log_likelihood += logs[i]
        totals[part, 0] -= log_likelihood
        totals[part, 1] += brier
        for k in range(n_classes):
            bins[rows[k], 0] += N_ALIKE
            bins[rows[k], 1] += confidence[k]
            bins[rows[k], 2] += N_ALIKE * (k == label)


@compiled
def _add(labels, probs, predicted, parts, edges, logs, totals, bins, is_mixed, classes):
    """Add the voxels of mixed groups to the sums of their parts.

    totals (P, 3): NLL, Brier score, ignored voxels; bins (P K 2 n_bins, 3): count, sum of
    confidence and of correct, of each class where it is not and where it is the predicted one. Bin
    m lies above edges[m], up to edges[m + 1]; `logs` are log-likelihoods. Rows are unsigned: that
    negative numbers count from the end, as NumPy has it, would cost as much as the sums.
    """
    n_bins = edges.size - 1
    for i in range(labels.size):
        if not is_mixed[i // N_ALIKE]:
            continue
        part, label, best, brier = parts[i], labels[i], predicted[i], 0.0
        if label == IGNORED:
            totals[part, 2] += 1
            continue
        for k in range(len(classes)):
            p, is_class = float(probs[k, i]), 1.0 if k == label else 0.0
            m = min(int(p * n_bins), n_bins - 1)
            m -= p <= edges[m]  # p is on the edge, or the product was rounded up
            row = np.uint64(((part * len(classes) + k) * 2 + (k == best)) * n_bins + m)
            bins[row, 0] += 1
            bins[row, 1] += p
            bins[row, 2] += is_class
            brier += (p - is_class) ** 2
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
    if not fits or not all(_predict(*block, classes)[0] for block in _in_blocks(probs, predicted)):
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
    totals, bins = np.zeros((n_parts, 4)), np.zeros((n_parts * n_classes * 2 * n_bins, 3))
    for block, best, label, part in _in_blocks(probs, predicted, labels, parts):
        label, part = label.astype(np.int64), part.astype(np.int64)
        likelihood, logs = np.empty((2, label.size))
        fits, is_above = _predict(block, best, classes)
        block = np.minimum(block, 1) if is_above else block  # as entropies: no NLL is negative
        if not fits or not _log_likelihood(label, block, part, eps, likelihood, logs, totals[:, 2]):
            return None
        found = np.zeros((n_parts, 3)), np.zeros(bins.shape)  # of few voxels: no rounding adds up
        is_mixed = np.empty(-(-label.size // N_ALIKE), dtype=bool)
        for add in (_add_alike, _add):
            add(label, block, best, part, edges, logs, *found, is_mixed, classes)
        totals[:, [0, 1, 3]] += found[0]
        bins += found[1]
    bins = bins.reshape(n_parts, n_classes, 2, n_bins, 3)
    rows = [bins[:, :, 1].sum(axis=1, keepdims=True), bins.sum(axis=2)]
    return totals, np.moveaxis(np.concatenate(rows, axis=1), -1, 1), predicted
