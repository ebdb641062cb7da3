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

N_TOGETHER = 2**13  # voxels whose probabilities, in float64, fit the processor's cache
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
def _predict(probs, predicted):
    """Write the arg max of probs (K, n) and return whether they are probabilities."""
    n_classes, n_voxels = probs.shape
    fits = True
    for i in range(n_voxels):
        largest, total, best = probs[0, i], 0.0, 0
        for k in range(n_classes):
            p = probs[k, i]
            fits &= (p >= 0) & (p <= TOO_LARGE)  # not of NaN
            total += p
            if p > largest:
                largest, best = p, k
        fits &= abs(total - 1) <= UNLIKE_1
        predicted[i] = best
    return fits


@compiled
def _add(labels, probs, predicted, parts, lower, eps, totals, bins):
    """Add n voxels to the sums of their parts, and return whether all labels are classes.

    totals (P, 4): NLL, Brier score, floored and ignored voxels; bins (P, K + 1, n_bins, 3): count,
    sum of confidence and of correct, of the predicted class and of each. `lower` are edges: bin m
    begins above lower[m].
    """
    n_classes, n_voxels = probs.shape
    n_bins = lower.size
    for i in range(n_voxels):
        part, label, best = parts[i], labels[i], predicted[i]
        if label == IGNORED:
            totals[part, 3] += 1
            continue
        if label < 0 or label >= n_classes:
            return False
        brier = 0.0
        for k in range(n_classes):
            p = probs[k, i]
            m = min(int(p * n_bins), n_bins - 1)
            m -= p <= lower[m]  # p is on the edge, or the product was rounded up
            of_class = bins[part, k + 1, m]
            of_class[0] += 1
            of_class[1] += p
            residual = p
            if k == label:
                of_class[2] += 1
                residual -= 1
            brier += residual * residual
            if k == best:
                of_top = bins[part, 0, m]
                of_top[0] += 1
                of_top[1] += p
                of_top[2] += k == label
        likelihood = probs[label, i]
        totals[part, 0] -= np.log(max(likelihood, eps))
        totals[part, 1] += brier
        totals[part, 2] += likelihood < eps
    return True


def _in_blocks(probs, *arrays):
    """Yield a few voxels at a time: float64 probs (K, n) of (K, *S), and views (n,) of (*S)."""
    n_classes, shape = len(probs), probs.shape[1:]
    if probs.flags.c_contiguous or not shape:
        probs, shape = probs.reshape(n_classes, -1), (-1,)
    arrays = [array.reshape(shape) for array in arrays]
    n_voxels = probs[0].size
    step = max(1, N_TOGETHER * probs.shape[1] // max(n_voxels, 1))  # along the first axis
    for start in range(0, probs.shape[1] if n_voxels else 0, step):
        block = slice(start, start + step)
        values = np.ascontiguousarray(probs[:, block], dtype=np.float64)
        yield values.reshape(n_classes, -1), *(array[block].reshape(-1) for array in arrays)


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
    if not fits or not all(_predict(*block) for block in _in_blocks(probs, predicted)):
        check_labels_and_probs(np.broadcast_to(0, probs.shape[1:]), probs)
    return predicted


def sums_of_parts(labels, probs, parts, n_parts, n_bins, eps):
    """Return totals (P, 4) and bins (P, 3, K + 1, n_bins) as `_add` has them, and the arg max.

    `parts` (*S) numbers the part of each voxel. ``None`` if a value is wrong: what, is for
    `segcal_lite._checks.check_labels_and_probs` to say.
    """
    n_classes = len(probs)
    predicted = np.empty(labels.shape, class_type(n_classes))
    lower = np.arange(n_bins) / n_bins
    lower[0] = -1  # the first bin takes 0
    totals, bins = np.zeros((n_parts, 4)), np.zeros((n_parts, n_classes + 1, n_bins, 3))
    for block, *of_voxels in _in_blocks(probs, predicted, labels, parts):
        best, label, part = of_voxels
        found = np.zeros_like(totals), np.zeros_like(bins)  # of few voxels: no rounding adds up
        label, part = label.astype(np.int64), part.astype(np.int64)
        if not (_predict(block, best) and _add(label, block, best, part, lower, eps, *found)):
            return None
        totals += found[0]
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
