"""Loops over voxels as machine code: scores of a volume in one pass, and distances to a surface.

NumPy needs a pass, and mostly a float64 copy, for every step; a loop needs one for all of them.
Numba compiles them, because it follows NumPy's versions and needs no compiler where it is
installed. It is loaded at the first call (0.5 s), so that importing a chapter stays cheap. The code
lies beside this file, or where that is read-only in the user's cache, or in ``NUMBA_CACHE_DIR``:
whoever finds it there loads it in 0.1 s, the first one compiles for 2 s. Without ``fastmath``
sums keep their order and NaN stays NaN.
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

    Most of a volume is alike: a bin takes the sum of such a group in place of each voxel. The
    arguments are those of `_add`; `is_mixed` (n_groups,) tells it what is left.
    """
    n_bins = edges.size - 1
    for group in range(is_mixed.size):
        first = group * N_ALIKE
        size = min(N_ALIKE, labels.size - first)
        label, best, part = labels[first], predicted[first], parts[first]
        n_unlike = 1 if label == IGNORED else 0
        for i in range(first, first + size):
            n_unlike += (labels[i] != label) | (predicted[i] != best) | (parts[i] != part)
        for k in range(len(probs)):
            m = min(int(probs[k, first] * n_bins), n_bins - 1)
            m -= probs[k, first] <= edges[m]
            lower, upper = edges[m], edges[m + 1]
            for i in range(first, first + size):
                n_unlike += (probs[k, i] <= lower) | (probs[k, i] > upper)
        is_mixed[group] = n_unlike > 0
        if n_unlike:
            continue
        for i in range(first, first + size):
            totals[part, 0] -= logs[i]
        for k in range(len(probs)):
            m = min(int(probs[k, first] * n_bins), n_bins - 1)
            m -= probs[k, first] <= edges[m]
            confidence, brier, is_class = 0.0, 0.0, 1.0 if k == label else 0.0
            for i in range(first, first + size):
                p = float(probs[k, i])
                confidence += p
                brier += (p - is_class) ** 2
            totals[part, 1] += brier
            for row in (0, k + 1):
                if row or k == best:
                    bins[part, row, m, 0] += size
                    bins[part, row, m, 1] += confidence
                    bins[part, row, m, 2] += size * is_class


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
        is_floored = likelihood < eps
        if is_floored.any():
            totals[:, 2] += np.bincount(part[is_floored], minlength=n_parts)
        logs = np.log(np.maximum(likelihood, eps, out=likelihood), out=likelihood)
        found = np.zeros((n_parts, 3)), np.zeros_like(bins)  # of few voxels: no rounding adds up
        is_mixed = np.empty(-(-label.size // N_ALIKE), dtype=bool)
        for add in (_add_alike, _add):
            add(label, block, best, part, edges, logs, *found, is_mixed)
        totals[:, [0, 1, 3]] += found[0]
        bins += found[1]
    return totals, np.moveaxis(bins, -1, 1), predicted


@compiled
def _squared_distances(surface, spacing, where, farthest, squared):
    """Write the squared distances of the voxels `where` (X, Y, Z), in order, to a surface.

    Exact, an axis at a time (Felzenszwalb & Huttenlocher, Theory of Computing 8, 2012): along z by
    counting, along y by the lower envelope of parabolas, along x by looking as far as can matter.
    """
    n_x, n_y, n_z = surface.shape
    in_plane = np.empty((n_x, n_y, n_z))  # squared distance to the surface in the same plane
    apex, height, start = np.empty(n_y), np.empty(n_y), np.empty(n_y)
    for x in range(n_x):
        for y in range(n_y):
            since = np.inf
            for z in range(n_z):
                since = 0.0 if surface[x, y, z] else since + 1
                in_plane[x, y, z] = since
            for z in range(n_z - 1, -1, -1):
                since = min(in_plane[x, y, z], since + 1)
                in_plane[x, y, z] = (since * spacing[2]) ** 2
        for z in range(n_z):
            n = 0  # parabolas of the envelope, each the lowest from its start to the next one's
            for y in range(n_y):
                f, u, begin = in_plane[x, y, z], y * spacing[1], -np.inf
                if f == np.inf:
                    continue
                while n:
                    v = apex[n - 1]
                    begin = (f - height[n - 1] + (u - v) * (u + v)) / (2 * (u - v))
                    if begin > start[n - 1]:
                        break
                    n -= 1
                    begin = -np.inf
                apex[n], height[n], start[n] = u, f, begin
                n += 1
            lowest = 0
            for y in range(n_y if n else 0):
                u = y * spacing[1]
                while lowest + 1 < n and start[lowest + 1] < u:
                    lowest += 1
                in_plane[x, y, z] = height[lowest] + (u - apex[lowest]) ** 2
    number = 0
    for x in range(n_x):
        for y in range(n_y):
            for z in range(n_z):
                if not where[x, y, z]:
                    continue
                nearest, step = min(in_plane[x, y, z], farthest), 1
                while step < n_x and (step * spacing[0]) ** 2 < nearest:
                    across = (step * spacing[0]) ** 2
                    if x >= step:
                        nearest = min(nearest, in_plane[x - step, y, z] + across)
                    if x + step < n_x:
                        nearest = min(nearest, in_plane[x + step, y, z] + across)
                    step += 1
                squared[number] = nearest
                number += 1


def distances_to_surface(surface, spacing_mm, where, farthest_mm=np.inf):
    """Return how far voxels lie from the nearest voxel of a surface.

    Parameters
    ----------
    surface, where : bool arrays of one shape, two or three axes
        Voxels of the surface, and those whose distances are wanted.
    spacing_mm : float64 array, a number an axis
    farthest_mm : float
        Where the search may end: what is farther is only known to be.

    Returns
    -------
    float64 array, shape (n,)
        In the order of ``np.argwhere(where)``.

    Examples
    --------
    >>> surface, where = np.array([[1, 0, 0], [0, 0, 0]]), np.array([[0, 0, 1], [1, 0, 1]])
    >>> distances_to_surface(surface > 0, np.array([3.0, 2.0]), where > 0).tolist()
    [4.0, 3.0, 5.0]
    """
    if surface.ndim == 2:
        surface, where = surface[np.newaxis], where[np.newaxis]
        spacing_mm = np.array([1.0, *spacing_mm])
    squared = np.empty(np.count_nonzero(where))
    surface, where = np.ascontiguousarray(surface), np.ascontiguousarray(where)
    farthest = (1.001 * farthest_mm) ** 2  # so that what lies just there is found
    _squared_distances(surface, spacing_mm, where, farthest, squared)
    return np.sqrt(squared)
