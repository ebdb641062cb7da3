"""Recalibration after training: one temperature, or a scale and a shift for each class.

Both are fitted on validation data by minimising the NLL; neither sees a test case. Voxels that
nobody annotated are left out before (`segcal_lite.data.labels.annotated`). Overlapping regions,
as logits (2, R, *S), share one temperature, or one scale and shift inside and one outside.
"""

import numpy as np
import torch

from ._checks import check_count, check_finite, check_labels_and_maps, wrong_input

N_VOXELS_AT_MOST = 1_000_000
LARGEST_LOG_SCALE = np.log(100.0)  # a model that knows nothing would send the scale to infinity,
LARGEST_SHIFT = 30.0  # and a class that validation lacks its shift


def sample_voxels(labels, logits, n_voxels=N_VOXELS_AT_MOST, seed=0):
    """Draw voxels without replacement, all of them if there are fewer.

    Parameters
    ----------
    labels : int array, shape (N,)
    logits : array, shape (K, N)
    n_voxels, seed : int

    Returns
    -------
    labels, logits : arrays, shapes (n,), (K, n)

    Raises
    ------
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> labels, logits = sample_voxels(np.zeros(9, dtype=int), np.zeros((2, 9)), n_voxels=4)
    >>> labels.shape, logits.shape
    ((4,), (2, 4))
    """
    labels, logits = np.asarray(labels), np.asarray(logits)
    if labels.ndim != 1 or logits.shape[1:] != labels.shape:
        found = f"shapes {labels.shape} and {logits.shape}"
        raise wrong_input("labels and logits", found, "(N,) and (K, N)")
    if labels.size <= check_count("n_voxels", n_voxels):
        return labels, logits
    chosen = np.sort(np.random.default_rng(seed).choice(labels.size, n_voxels, replace=False))
    return labels[chosen], logits[:, chosen]


def fit_temperature(labels, logits):
    """Temperature T of softmax(z / T) with the lowest NLL.

    Parameters
    ----------
    labels : int array, shape (*S)
    logits : array, shape (K, *S)

    Returns
    -------
    float
        Above 1 for an overconfident model; between 0.01 and 100.

    Raises
    ------
    ValueError
        If there is no voxel, shapes do not fit, a logit is NaN or infinite, or a label is no class.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 1])  # right three times in four at logits +-2
    >>> round(fit_temperature(labels, np.tile([[2.0], [-2.0]], 4)), 3)  # 4 / ln 3
    3.641
    """
    log_scale, _ = _minimise_nll(labels, logits, with_shift=False)
    return float(np.exp(-log_scale[0]))


def fit_vector_scaling(labels, logits):
    """Scales a and shifts b of softmax(a z + b) with the lowest NLL, as paper B describes them.

    The scales are kept positive, between 0.01 and 100: a class keeps its order of voxels.

    Parameters
    ----------
    labels : int array, shape (*S)
    logits : array, shape (K, *S)

    Returns
    -------
    scale, shift : float64 arrays, shape (K,)
        Shifts sum to 0: a common one changes nothing.

    Raises
    ------
    ValueError
        As `fit_temperature`.
    """
    log_scale, shift = _minimise_nll(labels, logits, with_shift=True)
    return np.exp(log_scale), shift - shift.mean()


def scale_logits(logits, scale, shift=0.0):
    """Return a z + b, float32, for `scale` and `shift` that are numbers or have shape (K,).

    ValueError if they have another shape, or a value is NaN or infinite.

    Examples
    --------
    >>> scale_logits(np.ones((2, 1)), [1.0, 2.0], [0.0, 0.5]).ravel().tolist()
    [1.0, 2.5]
    """
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
    return (factors[0] * logits + factors[1]).astype(np.float32)


def _minimise_nll(labels, logits, with_shift):
    """L-BFGS in float64 over one bounded log scale, or a log scale and a shift of each class."""
    labels, logits = check_labels_and_maps(labels, "logits", logits)
    labels, logits = labels.ravel(), logits.reshape(len(logits), -1)
    if labels.size == 0:
        raise wrong_input("labels", "no voxel", "the voxels of the validation cases")
    labels = torch.from_numpy(labels.astype(np.int64))
    logits = torch.from_numpy(logits.T.astype(np.float64))
    n_scales = logits.shape[1] if with_shift else 1
    log_scale = torch.zeros(n_scales, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(logits.shape[1], dtype=torch.float64, requires_grad=with_shift)
    parameters = [log_scale, shift] if with_shift else [log_scale]
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def bounded():
        log_scales = LARGEST_LOG_SCALE * torch.tanh(log_scale / LARGEST_LOG_SCALE)
        return log_scales, LARGEST_SHIFT * torch.tanh(shift / LARGEST_SHIFT)

    def closure():
        optimiser.zero_grad()
        log_scales, shifts = bounded()
        loss = torch.nn.functional.cross_entropy(log_scales.exp() * logits + shifts, labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    return [parameter.detach().numpy() for parameter in bounded()]
