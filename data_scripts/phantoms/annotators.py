"""An annotator whose posterior is known: boundaries displaced by smooth Gaussian fields.

The true boundary b lies where its signed distance d_b (mm, positive inside) is zero. The annotator
takes a voxel as inside where d_b + sigma_b g_b > 0, with an own smooth field g_b of zero mean and
exactly unit variance, independent of the other boundaries. Given the true shape, a voxel is thus
inside with probability Phi(d_b / sigma_b), and the probability of its label is a product. This
posterior is what a perfectly calibrated method that knew the true shape would answer.
"""

import numpy as np
from scipy import fft
from scipy.special import ndtr

from segcal_lite._checks import check_finite, check_spacing, wrong_input


def smooth_field(shape, spacing_mm, correlation_mm, rng):
    """Draw a Gaussian random field with zero mean and exactly unit variance at every voxel.

    White noise is filtered with a Gaussian kernel on a periodic grid. There every voxel sums the
    same squared kernel weights, so dividing by their root leaves variance 1 at the borders too.
    The grid is wider than what is returned, so that opposite faces are not correlated.

    Parameters
    ----------
    shape : tuple of int
        Shape of the field.
    spacing_mm : sequence of float
        Voxel size along each axis, in mm.
    correlation_mm : float
        Correlation length l in mm: voxels at distance r correlate with exp(-r^2 / (2 l^2)).
    rng : numpy.random.Generator
        Source of the white noise.

    Returns
    -------
    ndarray of float64, `shape`

    Raises
    ------
    ValueError
        If a spacing or the correlation length is not positive.

    Examples
    --------
    >>> field = smooth_field((16, 16, 4), (2.0, 2.0, 8.0), 6.0, np.random.default_rng(0))
    >>> field.shape
    (16, 16, 4)
    """
    spacing_mm = check_spacing(spacing_mm, len(shape))
    if not (np.isfinite(correlation_mm) and correlation_mm > 0):
        raise wrong_input("correlation_mm", correlation_mm, "a positive length in mm")
    margin = np.ceil(3 * correlation_mm / spacing_mm).astype(int)
    periodic = [
        fft.next_fast_len(int(n + m), real=True) for n, m in zip(shape, margin, strict=True)
    ]
    # In frequency the kernel is a product over the axes; its own deviation is l / sqrt(2),
    # because the field's correlation is the kernel convolved with itself.
    kernel = 1.0
    for axis, (n, step_mm) in enumerate(zip(periodic, spacing_mm, strict=True)):
        frequency = np.abs(fft.fftfreq(n, step_mm))
        along = np.exp(-((np.pi * correlation_mm * frequency) ** 2))
        along /= np.sqrt(np.mean(along**2))  # root of the sum of squared weights, by Parseval
        if axis == len(periodic) - 1:
            along = along[: n // 2 + 1]
        kernel = np.multiply.outer(kernel, along)
    white = rng.standard_normal(periodic)
    field = fft.irfftn(fft.rfftn(white) * kernel, s=periodic)
    return field[tuple(slice(n) for n in shape)]


def annotate(distances_mm, sigmas_mm, labels, spacing_mm, correlation_mm, rng):
    """Draw one annotation: every boundary is displaced, then the first that holds a voxel wins.

    Parameters
    ----------
    distances_mm : array_like of float, (B, X, Y, Z)
        Signed distance to each true boundary in mm, positive inside, by falling priority.
    sigmas_mm : array_like of float, (B, Z)
        Spread of the displacement of each boundary in each slice, in mm.
    labels : sequence of B int
        Label that each boundary gives to what lies inside it; 0 cuts a hole. Outside all of them it
        is 0.
    spacing_mm : sequence of three float
        Voxel size in mm.
    correlation_mm : float
        Correlation length of the displacement in mm.
    rng : numpy.random.Generator
        Source of the displacements.

    Returns
    -------
    ndarray of uint8, (X, Y, Z)

    Raises
    ------
    ValueError
        If shapes disagree, a distance is not finite, a spread is not positive, or every label is 0.

    Examples
    --------
    >>> distances = np.array([[[[-30.0, 30.0, -30.0]]], [[[-30.0, 30.0, 30.0]]]])
    >>> annotate(distances, np.ones((2, 3)), (3, 2), (1, 1, 1), 4.0, np.random.default_rng(0))
    array([[[0, 3, 2]]], dtype=uint8)
    """
    distances_mm, sigmas_mm = _check_boundaries(distances_mm, sigmas_mm, labels)
    annotation = np.zeros(distances_mm.shape[1:], dtype=np.uint8)
    displacements = [
        smooth_field(annotation.shape, spacing_mm, correlation_mm, rng) for _ in labels
    ]
    for b in reversed(range(len(labels))):  # the highest priority is written last
        inside = distances_mm[b] + sigmas_mm[b] * displacements[b] > 0
        annotation[inside] = labels[b]
    return annotation


def posterior(distances_mm, sigmas_mm, labels):
    """Probability of every label of `annotate` at every voxel, given the true shape: exact.

    A voxel gets the label of boundary b if it lies inside b and outside all boundaries of higher
    priority: Phi(d_b / sigma_b) times the product of 1 - Phi(d_a / sigma_a) over those a.

    Parameters
    ----------
    distances_mm : array_like of float, (B, X, Y, Z)
        Signed distance to each true boundary in mm, positive inside, by falling priority.
    sigmas_mm : array_like of float, (B, Z)
        Spread of the displacement of each boundary in each slice, in mm.
    labels : sequence of B int
        Label of each boundary; K - 1 is the largest of them.

    Returns
    -------
    ndarray of float64, (K, X, Y, Z)
        Probabilities in [0, 1] that sum to 1 over the first axis.

    Raises
    ------
    ValueError
        As `annotate`.

    Examples
    --------
    >>> posterior(np.zeros((2, 1, 1, 1)), np.ones((2, 1)), (2, 1)).ravel()
    array([0.25, 0.25, 0.5 ])
    """
    distances_mm, sigmas_mm = _check_boundaries(distances_mm, sigmas_mm, labels)
    probs = np.zeros((max(labels) + 1, *distances_mm.shape[1:]))
    unclaimed = np.ones(distances_mm.shape[1:])
    for distance_mm, sigma_mm, label in zip(distances_mm, sigmas_mm, labels, strict=True):
        inside = ndtr(distance_mm / sigma_mm)
        probs[label] += unclaimed * inside
        unclaimed *= 1 - inside
    probs[0] += unclaimed
    return probs


def _check_boundaries(distances_mm, sigmas_mm, labels):
    """Return distances (B, X, Y, Z) and spreads (B, 1, 1, Z) as float64, or say what is wrong."""
    distances_mm = np.asarray(distances_mm, dtype=np.float64)
    sigmas_mm = np.asarray(sigmas_mm, dtype=np.float64)
    if distances_mm.ndim != 4:
        raise wrong_input("distances_mm", f"shape {distances_mm.shape}", "(B, X, Y, Z)")
    n_boundaries, n_slices = distances_mm.shape[0], distances_mm.shape[-1]
    if sigmas_mm.shape != (n_boundaries, n_slices):
        expected = f"(B, Z) = {(n_boundaries, n_slices)}"
        raise wrong_input("sigmas_mm", f"shape {sigmas_mm.shape}", expected)
    if not np.all(np.isfinite(sigmas_mm) & (sigmas_mm > 0)):
        raise wrong_input("sigmas_mm", f"a smallest value of {sigmas_mm.min()}", "positive lengths")
    if len(labels) != n_boundaries or min(labels, default=-1) < 0 or not 1 <= max(labels) <= 255:
        raise wrong_input("labels", labels, f"{n_boundaries} from 0 to 255, one at least 1")
    check_finite("distances_mm", distances_mm)
    return distances_mm, sigmas_mm[:, None, None, :]
