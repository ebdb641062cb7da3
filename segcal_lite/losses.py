"""Cross-entropy (paper A, Eq. 1), soft Dice (Eq. 2) and their sum, on logits.

A network trained with cross-entropy has K softmax outputs. One trained with Dice has a sigmoid
output for each of the K - 1 segments and none for the background, which would get no gradient.
With R overlapping regions every network has R sigmoid outputs, and labels (B, R, *S) of 0 and 1.

Pixels with the label `IGNORED` count nowhere: not in the sums, not in N.
"""

import numpy as np
import torch
from torch.nn import functional

from ._checks import (
    IGNORED,
    check_choice,
    check_finite,
    check_label_range,
    check_prob_range,
    wrong_input,
)

LOSSES = ("ce", "dice", "ce_dice")


def n_outputs(loss, n_classes, n_regions=0):
    """Number of output maps of a network trained with `loss`: for classes, or for regions.

    Examples
    --------
    >>> n_outputs("ce", 4), n_outputs("dice", 4), n_outputs("ce", 2, n_regions=3)
    (4, 3, 3)
    """
    is_dice = check_choice("loss", loss, LOSSES) == "dice"
    return n_regions or n_classes - is_dice


def class_logits(logits, loss, n_classes=None, n_regions=0):
    """Return logits whose softmax is the class probability, for every kind of network.

    Independent sigmoids, conditioned on at most one class being active, are the softmax of their
    logits with a zero in front for the background: exact for K = 2, normalised for any K. Regions
    may overlap: each gets a zero of its own.

    Parameters
    ----------
    logits : tensor, shape (B, n_outputs, *S)
    loss : {"ce", "dice", "ce_dice"}
    n_classes : int, optional
        K; without it, outputs that do not fit `loss` cannot be told from other classes.
    n_regions : int
        R, for a network of overlapping regions.

    Returns
    -------
    tensor, shape (B, K, *S), or (B, 2, R, *S) with regions

    Raises
    ------
    ValueError
        Unless there are as many outputs as `n_outputs` says, for a softmax at least two.

    Examples
    --------
    >>> logits = torch.tensor([[[0.3]]])
    >>> probs = class_logits(logits, "dice").softmax(dim=1)
    >>> torch.allclose(probs[:, 1], torch.sigmoid(logits[:, 0]))
    True
    """
    check_choice("loss", loss, LOSSES)
    if logits.ndim < 2:
        raise wrong_input("logits", f"shape {tuple(logits.shape)}", "(B, n_outputs, *S)")
    found = f"{logits.shape[1]} outputs of a network trained with {loss!r}"
    if n_regions or n_classes:
        whose = f"{n_regions} overlapping regions" if n_regions else f"{n_classes} classes"
        expected = n_outputs(loss, n_classes, n_regions)
        if logits.shape[1] != expected:
            raise wrong_input("logits", found, f"{expected} for {whose}")
    elif loss != "dice" and logits.shape[1] < 2:
        raise wrong_input("logits", found, "at least 2, one a class")
    if n_regions:
        return torch.stack([torch.zeros_like(logits), logits], dim=1)
    if loss == "dice":
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    return logits


def inverse_frequency_weights(class_counts):
    r"""Class weights :math:`\omega_k` of Eq. 1: inverse frequencies over training and validation.

    A does not say how they are scaled. Here :math:`\omega_k = 1 / (K f_k)`, so that the mean
    weight of a pixel is 1 and a network that knows nothing starts near ln K.

    Parameters
    ----------
    class_counts : sequence of int, shape (K,)
        Pixels of each class.

    Returns
    -------
    tensor, shape (K,)

    Raises
    ------
    ValueError
        If a class has no pixel: its weight would be infinite.

    Examples
    --------
    >>> inverse_frequency_weights([75, 25]).tolist()
    [0.6666666865348816, 2.0]
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if counts.ndim != 1 or len(counts) < 2 or not torch.isfinite(counts).all():
        raise wrong_input("class_counts", counts.tolist(), "a number of pixels for each class")
    if torch.any(counts <= 0):
        empty = torch.nonzero(counts <= 0).flatten().tolist()
        expected = "at least one pixel of every class in training and validation"
        raise wrong_input("class_counts", f"no pixel of class {empty}", expected)
    return (counts.sum() / (len(counts) * counts)).float()


def cross_entropy_loss(logits, labels, class_weights=None, check_values=True):
    r"""Weighted cross-entropy, paper A, Eq. 1.

    .. math:: L_{CE} = -\frac{1}{N} \sum_i \sum_k \omega_k \ln p_{ik} \, [y_i = k]

    Eq. 1 divides by the number of pixels N, where PyTorch's weighted mean would divide by the
    weights of the pixels. With overlapping regions it is the mean over regions of their binary
    cross-entropies.

    Parameters
    ----------
    logits : tensor, shape (B, K, *S), or (B, R, *S) of sigmoids with regions
    labels : integer tensor, shape (B, *S), or (B, R, *S) of 0 and 1 with regions
        Pixels with `IGNORED` count neither in the sum nor in N.
    class_weights : tensor, shape (K,), or (R, 2) with regions, optional
    check_values : bool
        A training says False: it looks once at all its labels, and after an epoch at the mean
        loss, so that no step has to wait for a look at values.

    Returns
    -------
    tensor, scalar
        In nats; at least 0, and 0 if no pixel is annotated.

    Raises
    ------
    ValueError
        If shapes do not fit, a logit is NaN or infinite, or a label is none of the classes.

    Examples
    --------
    >>> float(cross_entropy_loss(torch.zeros(1, 2, 4), torch.zeros(1, 4, dtype=int))).__round__(4)
    0.6931
    """
    by_region, n_maps = _check_shapes("logits", logits, labels), logits.shape[1]
    if not by_region and n_maps < 2:
        raise wrong_input("logits", f"{n_maps} class", "at least 2 classes along the second axis")
    _check_weights(class_weights, (n_maps, 2) if by_region else (n_maps,), check_values)
    if check_values:
        _check_values("logits", logits, labels, 2 if by_region else n_maps)
    logits, labels = _at_least_float32(logits), labels.long()
    known = labels != IGNORED
    if class_weights is not None:
        class_weights = class_weights.to(logits.dtype)
    if by_region:
        weights = known.to(logits.dtype)
        if class_weights is not None:
            outside, inside = class_weights.reshape(n_maps, 2, *[1] * (labels.ndim - 2)).unbind(1)
            weights = weights * torch.where(labels == 1, inside, outside)
        truth = (labels == 1).to(logits.dtype)
        total = functional.binary_cross_entropy_with_logits(logits, truth, weights, reduction="sum")
    else:
        options = {"reduction": "sum", "ignore_index": IGNORED}
        total = functional.cross_entropy(logits, labels, class_weights, **options)
    return total / known.sum().clamp(min=1)


def soft_dice_loss(foreground_probs, labels, class_weights=None, epsilon=1.0, check_values=True):
    r"""Negative weighted soft Dice of the segments, paper A, Eq. 2.

    .. math:: L_{DSC} = -2 \sum_k \frac{\omega_k \sum_i p_{ik} [y_i = k]}
                                       {\sum_i (p_{ik} + [y_i = k]) + \epsilon}

    The inner sums run over all pixels of the mini-batch, the outer one over the foreground. The
    weights are scaled to a sum of 1, which bounds the loss. Half precision is summed in float32:
    in float16 the sums overflow.

    Parameters
    ----------
    foreground_probs : tensor, shape (B, K - 1, *S), or (B, R, *S) with regions
        Probabilities of classes 1 to K - 1, or of overlapping regions.
    labels : integer tensor, shape (B, *S), or (B, R, *S) of 0 and 1 with regions
        0 is background; pixels with `IGNORED` are in none of the sums.
    class_weights : tensor, shape (K - 1,), or (R,), optional
    epsilon : float
        Smoothing, in pixels. A segment that is absent and not predicted contributes 0.
    check_values : bool
        As in `cross_entropy_loss`.

    Returns
    -------
    tensor, scalar
        In [-1, 0].

    Raises
    ------
    ValueError
        If shapes do not fit, a probability lies outside [0, 1], or a label is none of the classes.

    Examples
    --------
    >>> labels = torch.tensor([[0, 1, 1]])
    >>> perfect = torch.tensor([[[0.0, 1.0, 1.0]]])
    >>> round(float(soft_dice_loss(perfect, labels, epsilon=1e-6)), 5)
    -1.0
    """
    by_region = _check_shapes("foreground_probs", foreground_probs, labels)
    n_segments = foreground_probs.shape[1]
    _check_weights(class_weights, (n_segments,), check_values)
    if not torch.finfo(torch.float32).tiny <= epsilon < np.inf:  # in float32 it must not become 0
        raise wrong_input("epsilon", epsilon, "a number of pixels above 0, also in float32")
    if check_values:
        n_classes = 2 if by_region else n_segments + 1
        _check_values("foreground_probs", foreground_probs, labels, n_classes)
        check_prob_range("foreground_probs", foreground_probs.detach())
    foreground_probs, labels = _at_least_float32(foreground_probs), labels.long()
    known = labels != IGNORED  # of signed numbers: as a byte, 255 would equal -1
    if by_region:
        indicator = labels == 1
    else:
        segments = torch.arange(1, n_segments + 1, device=labels.device)
        # The segments of a pixel side by side in memory, as networks put them out.
        indicator = (labels.unsqueeze(-1) == segments).movedim(-1, 1)
        known = known.unsqueeze(1)
    over_pixels = (0, *range(2, foreground_probs.ndim))
    foreground_probs = foreground_probs * known
    overlap = (foreground_probs * indicator).sum(over_pixels)
    total = (foreground_probs + indicator).sum(over_pixels)
    if class_weights is None:
        class_weights = torch.ones(n_segments, device=overlap.device)
    class_weights = class_weights.to(overlap.dtype)
    class_weights = class_weights / class_weights.sum()
    return -2 * (class_weights * overlap / (total + epsilon)).sum()


def training_loss(
    logits, labels, loss, ce_weights=None, dice_weights=None, epsilon=1.0, check_values=True
):
    """The loss by name: ``"ce"``, ``"dice"`` on sigmoids, or ``"ce_dice"``, their sum on a softmax.

    With overlapping regions all three are taken on sigmoids.

    Parameters
    ----------
    logits : tensor, shape (B, n_outputs, *S)
    labels : integer tensor, shape (B, *S), or (B, R, *S) of 0 and 1 with regions
    loss : {"ce", "dice", "ce_dice"}
    ce_weights, dice_weights : tensors, shapes (K,) and (K - 1,), or (R, 2) and (R,), optional
    epsilon : float
    check_values : bool
        As in `cross_entropy_loss`.

    Returns
    -------
    tensor, scalar

    Raises
    ------
    ValueError
        As `cross_entropy_loss` and `soft_dice_loss`.

    Examples
    --------
    >>> logits, labels = torch.zeros(1, 2, 4), torch.tensor([[0, 0, 1, 1]])
    >>> float(training_loss(logits, labels, "ce_dice")) < float(training_loss(logits, labels, "ce"))
    True
    """
    check_choice("loss", loss, LOSSES)
    by_region = _check_shapes("logits", logits, labels)
    if check_values:  # a sigmoid makes 0 or 1 of an infinite logit
        _check_finite("logits", logits)
    if loss == "ce":
        return cross_entropy_loss(logits, labels, ce_weights, check_values)
    by_sigmoid = loss == "dice" or by_region
    probs = torch.sigmoid(logits) if by_sigmoid else logits.softmax(dim=1)[:, 1:]
    dice = soft_dice_loss(probs, labels, dice_weights, epsilon, check_values)
    if loss == "dice":
        return dice
    return cross_entropy_loss(logits, labels, ce_weights, check_values) + dice


def _at_least_float32(maps):
    """Return half precision as float32, other types as they are."""
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


def _check_shapes(name, maps, labels):
    """Refuse shapes and types that do not fit; return whether labels are those of regions."""
    shape = tuple(maps.shape)
    if maps.ndim < 2 or not maps.is_floating_point():
        raise wrong_input(name, f"{maps.dtype} of shape {shape}", "floating point, (B, C, *S)")
    of_classes = (shape[0], *shape[2:])
    if tuple(labels.shape) not in (of_classes, shape):
        expected = f"{of_classes}, or with regions {shape}, as {name} {shape}"
        raise wrong_input("labels", f"shape {tuple(labels.shape)}", expected)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise wrong_input("labels", f"dtype {labels.dtype}", "integers")
    if labels.dtype in (torch.uint16, torch.uint32, torch.uint64):  # PyTorch cannot compare them
        raise wrong_input("labels", f"dtype {labels.dtype}", "integers with a sign, or uint8")
    return labels.ndim == maps.ndim


def _check_values(name, maps, labels, n_classes):
    """Refuse NaN, infinity, and labels that are neither a class nor `IGNORED`."""
    _check_finite(name, maps)
    check_label_range(labels, n_classes, lowest=IGNORED)


def _check_finite(name, tensor):
    """Refuse NaN and infinity."""
    check_finite(name, tensor.detach().float().cpu().numpy())


def _check_weights(class_weights, shape, check_values):
    """Refuse weights of another shape, negative ones, and weights that are all 0."""
    if class_weights is None:
        return
    if tuple(class_weights.shape) != shape:
        found = f"shape {tuple(class_weights.shape)}"
        raise wrong_input("class_weights", found, f"shape {shape}")
    if check_values:
        _check_finite("class_weights", class_weights)
        if (class_weights < 0).any() or not class_weights.any():
            expected = "numbers of at least 0, one above it"
            raise wrong_input("class_weights", class_weights.tolist(), expected)
