"""Recalibration after training: one temperature, or a scale and a shift for each class.

Both are fitted on validation data by minimising the NLL; neither sees a test case. Voxels that
nobody annotated are left out before (`segcal_lite.data.labels.annotated`). Overlapping regions,
as logits (2, R, *S), share one temperature, or one scale and shift inside and one outside.

Where only probabilities are left, `log_probabilities` stand in for the logits z. They are
ln p(k) = z(k) - ln sum_j exp z(j), the logits up to a constant of the voxel. A temperature divides
this constant too, and the softmax takes it out again: the fit is the same. A scale for each class
leaves a different multiple of it in each class: vector scaling of ln p is another family than that
of z, and neither holds the other. It is Dirichlet calibration with a diagonal matrix (Kull et al.,
NeurIPS 2019), and for two classes, as for a region, beta calibration (Kull et al., AISTATS 2017),
which with equal scales is Platt's of logit p.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from ._checks import (
    check_count,
    check_finite,
    check_labels_and_maps,
    check_prob_range,
    seeded,
    wrong_input,
)

N_VOXELS_AT_MOST = 1_000_000
LARGEST_SCALE = 100.0  # a model that knows nothing would send the scale to zero or infinity,
LARGEST_SHIFT = 30.0  # and a class that validation lacks its shift
SMALLEST_PROB = float(np.finfo(np.float32).tiny)  # 1.2e-38, ln -87: below it float32 loses digits


def log_probabilities(probs, floor=SMALLEST_PROB):
    """Return ln max(p, floor): logits up to a constant of each voxel, where nothing is floored.

    What was rounded to 0 has no logarithm. The floor says what it counts as, and should be the
    smallest probability that could have been told from 0: in a float32 softmax the default; 2^-24
    (6e-8) in float16, and where it was computed as 1 - p in float32.

    Parameters
    ----------
    probs : float array, shape (K, *S)
    floor : float, or sequence of K
        Of all classes, or of each; above 0 and below 1.

    Returns
    -------
    log_probs : float32 array, shape (K, *S)
    n_floored : int
        Voxels with a class below its floor.

    Raises
    ------
    ValueError
        For a probability that is NaN or outside [0, 1], and another floor.

    Examples
    --------
    >>> log_probs, n_floored = log_probabilities(np.array([[0.5, 1], [0.5, 0]]), floor=2**-24)
    >>> log_probs[1].round(2), n_floored
    (array([ -0.69, -16.64], dtype=float32), 1)
    """
    probs = check_finite("probs", np.asarray(probs))
    if probs.ndim < 1:
        raise wrong_input("probs", "a number", "(K, *S)")
    check_prob_range("probs", probs)
    floor = np.asarray(floor, np.float32)
    if floor.shape not in ((), probs.shape[:1]) or not np.all((floor > 0) & (floor < 1)):
        expected = f"a number between 0 and 1, or {len(probs)} of them"
        raise wrong_input("floor", floor.tolist(), expected)
    log_probs, is_floored = np.empty(probs.shape, np.float32), np.zeros(probs.shape[1:], bool)
    for k, of_class in enumerate(np.broadcast_to(floor, probs.shape[:1])):
        is_floored |= probs[k] < of_class
        log_of_class = log_probs[k, ...]  # a view, also where it is one number
        np.log(np.maximum(probs[k], of_class), out=log_of_class, casting="same_kind")
    return log_probs, int(np.count_nonzero(is_floored))


def sample_voxels(labels, logits, n_voxels=N_VOXELS_AT_MOST, seed=0):
    """Draw labels (n,) and logits (K, n) of voxels without replacement, all if there are fewer."""
    labels, logits = np.asarray(labels), np.asarray(logits)
    if labels.ndim != 1 or logits.shape[1:] != labels.shape:
        found = f"shapes {labels.shape} and {logits.shape}"
        raise wrong_input("labels and logits", found, "(N,) and (K, N)")
    if labels.size <= check_count("n_voxels", n_voxels):
        return labels, logits
    chosen = np.sort(seeded(seed).choice(labels.size, n_voxels, replace=False))
    return labels[chosen], logits[:, chosen]


def fit_temperature(labels, logits, weights=None):
    """Temperature T of softmax(z / T) with the lowest NLL.

    Parameters
    ----------
    labels : int array, shape (*S)
    logits : array, shape (K, *S)
        Or log probabilities, with the same T.
    weights : array, shape (*S), optional
        How many voxels each of them stands for, at least 0: the NLL is their weighted mean.

    Returns
    -------
    float
        Above 1 for an overconfident model; between 0.01 and 100.

    Raises
    ------
    ValueError
        If there is no voxel, or none with a weight, shapes do not fit, a number is NaN or infinite,
        or a label is no class.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 1])  # right three times in four at logits +-2
    >>> round(fit_temperature(labels, np.tile([[2.0], [-2.0]], 4)), 3)  # 4 / ln 3
    3.641
    """
    scale, _ = _minimise_nll(labels, logits, weights, with_shift=False)
    return float(1 / scale[0])


def fit_vector_scaling(labels, logits, weights=None):
    """Scales a and shifts b of softmax(a z + b) with the lowest NLL, as paper B describes them.

    The scales are kept positive, between 0.01 and 100: a class keeps its order of voxels.

    Parameters
    ----------
    labels : int array, shape (*S)
    logits : array, shape (K, *S)
        Log probabilities in their place give vector scaling of ln p, which is not that of z: see
        the module.
    weights : array, shape (*S), optional
        As in `fit_temperature`.

    Returns
    -------
    scale, shift : float64 arrays, shape (K,)
        Shifts sum to 0: a common one changes nothing.

    Raises
    ------
    ValueError
        As `fit_temperature`.
    """
    scale, shift = _minimise_nll(labels, logits, weights, with_shift=True)
    return scale, shift - shift.mean()


def scale_logits(logits, scale, shift=0.0):
    """Return a z + b, float32, for `scale` and `shift` that are numbers or have shape (K,)."""
    logits = check_finite("logits", np.asarray(logits))
    if logits.ndim < 1:
        raise wrong_input("logits", "a number", "(K, *S)")
    over_voxels = (-1,) + (1,) * (logits.ndim - 1)
    factors = []
    for name, values in (("scale", scale), ("shift", shift)):
        values = check_finite(name, np.asarray(values, np.float64))
        if values.shape not in ((), logits.shape[:1]):
            expected = f"a number, or ({len(logits)},) for logits {logits.shape}"
            raise wrong_input(name, f"shape {values.shape}", expected)
        factors.append(np.reshape(values, over_voxels))
    with np.errstate(over="ignore"):  # told in a sentence
        scaled = (factors[0] * logits + factors[1]).astype(np.float32)
    return check_finite("scale * logits + shift as float32", scaled)


def _minimise_nll(labels, logits, weights, with_shift):
    """Scales and shifts of the lowest NLL: one scale and no shift, or both for each class."""
    labels, logits = check_labels_and_maps(labels, "logits", logits)
    weights = weights if weights is None else _check_weights(weights, labels)
    labels, logits = labels.ravel(), logits.reshape(len(logits), -1).astype(np.float64)
    if labels.size == 0:
        raise wrong_input("labels", "no voxel", "the voxels of the validation cases")
    n_scales = len(logits) if with_shift else 1
    largest, largest_shift = np.log(LARGEST_SCALE), LARGEST_SHIFT if with_shift else 0.0
    bounds = [(-largest, largest)] * n_scales + [(-largest_shift, largest_shift)] * len(logits)
    found = minimize(
        _nll_and_gradient,
        np.zeros(len(bounds)),
        (labels, logits, weights, n_scales),
        jac=True,  # and bounds: L-BFGS-B
        bounds=bounds,
        options={"maxiter": 200, "ftol": 0.0, "gtol": 1e-9},
    )
    log_scale, shift = np.split(found.x, [n_scales])
    return np.clip(np.exp(log_scale), 1 / LARGEST_SCALE, LARGEST_SCALE), shift


def _check_weights(weights, labels):
    """Return weights (n,) with a mean of 1, or refuse them."""
    weights = check_finite("weights", np.asarray(weights, np.float64))
    if weights.shape != labels.shape:
        raise wrong_input("weights", f"shape {weights.shape}", f"that of labels, {labels.shape}")
    if weights.size and not (weights.min() >= 0 and weights.max() > 0):
        found = f"values from {weights.min():g} to {weights.max():g}"
        raise wrong_input("weights", found, "numbers of at least 0, one above it")
    return weights.ravel() / weights.mean() if weights.size else weights


def _nll_and_gradient(parameters, labels, logits, weights, n_scales):
    """Mean NLL, and its derivatives by shifts and log scales: no scale is 0 or below."""
    log_scale, shift = np.split(parameters[:, np.newaxis], [n_scales])
    scaled, voxels = np.exp(log_scale) * logits, np.arange(labels.size)
    log_probs = log_softmax(scaled + shift, axis=0)
    residuals = np.exp(log_probs)
    residuals[labels, voxels] -= 1  # derivative of a voxel's NLL by each of its scaled logits
    if weights is not None:
        residuals *= weights
    by_scale = np.einsum("kn,kn->k", residuals, scaled).reshape(n_scales, -1).sum(axis=1)
    gradient = np.concatenate([by_scale, residuals.sum(axis=1)]) / labels.size
    return -np.average(log_probs[labels, voxels], weights=weights), gradient
