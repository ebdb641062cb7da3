"""Cross-entropy (paper A, Eq. 1), soft Dice (Eq. 2) and their sum, on logits.

A network trained with cross-entropy has K softmax outputs. One trained with Dice has a sigmoid
output for each of the K - 1 segments and none for the background, which would get no gradient.
"""

import torch
from torch.nn import functional

from ._checks import check_choice, wrong_input

LOSSES = ("ce", "dice", "ce_dice")


def n_outputs(loss, n_classes):
    """Number of output maps of a network for `n_classes` classes trained with `loss`.

    Examples
    --------
    >>> n_outputs("ce", 4), n_outputs("dice", 4)
    (4, 3)
    """
    return n_classes - 1 if check_choice("loss", loss, LOSSES) == "dice" else n_classes


def class_logits(logits, loss):
    """Return logits whose softmax is the class probability, for either kind of network.

    Independent sigmoids, conditioned on at most one class being active, are the softmax of their
    logits with a zero in front for the background: exact for K = 2, normalised for any K.

    Parameters
    ----------
    logits : tensor, shape (B, n_outputs, *S)
    loss : {"ce", "dice", "ce_dice"}

    Returns
    -------
    tensor, shape (B, K, *S)

    Examples
    --------
    >>> logits = torch.tensor([[[0.3]]])
    >>> probs = class_logits(logits, "dice").softmax(dim=1)
    >>> torch.allclose(probs[:, 1], torch.sigmoid(logits[:, 0]))
    True
    """
    if check_choice("loss", loss, LOSSES) == "dice":
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
    if torch.any(counts <= 0):
        empty = torch.nonzero(counts <= 0).flatten().tolist()
        expected = "at least one pixel of every class in training and validation"
        raise wrong_input("class_counts", f"no pixel of class {empty}", expected)
    return (counts.sum() / (len(counts) * counts)).float()


def cross_entropy_loss(logits, labels, class_weights=None):
    r"""Weighted cross-entropy, paper A, Eq. 1.

    .. math:: L_{CE} = -\frac{1}{N} \sum_i \sum_k \omega_k \ln p_{ik} \, [y_i = k]

    Eq. 1 divides by the number of pixels N, where PyTorch's weighted mean would divide by the
    weights of the pixels.

    Parameters
    ----------
    logits : tensor, shape (B, K, *S)
    labels : integer tensor, shape (B, *S)
    class_weights : tensor, shape (K,), optional

    Returns
    -------
    tensor, scalar
        In nats; at least 0.

    Examples
    --------
    >>> float(cross_entropy_loss(torch.zeros(1, 2, 4), torch.zeros(1, 4, dtype=int))).__round__(4)
    0.6931
    """
    total = functional.cross_entropy(logits, labels, weight=class_weights, reduction="sum")
    return total / labels.numel()


def soft_dice_loss(foreground_probs, labels, class_weights=None, epsilon=1.0):
    r"""Negative weighted soft Dice of the segments, paper A, Eq. 2.

    .. math:: L_{DSC} = -2 \sum_k \frac{\omega_k \sum_i p_{ik} [y_i = k]}
                                       {\sum_i (p_{ik} + [y_i = k]) + \epsilon}

    The inner sums run over all pixels of the mini-batch, the outer one over the foreground. The
    weights are scaled to a sum of 1, which bounds the loss.

    Parameters
    ----------
    foreground_probs : tensor, shape (B, K - 1, *S)
        Probabilities of classes 1 to K - 1.
    labels : integer tensor, shape (B, *S)
        0 is background.
    class_weights : tensor, shape (K - 1,), optional
    epsilon : float
        Smoothing, in pixels. A segment that is absent and not predicted contributes 0.

    Returns
    -------
    tensor, scalar
        In [-1, 0].

    Examples
    --------
    >>> labels = torch.tensor([[0, 1, 1]])
    >>> perfect = torch.tensor([[[0.0, 1.0, 1.0]]])
    >>> float(soft_dice_loss(perfect, labels, epsilon=0.0))
    -1.0
    """
    n_segments = foreground_probs.shape[1]
    if foreground_probs.shape[2:] != labels.shape[1:]:
        found, expected = tuple(foreground_probs.shape), f"(B, K - 1, *{tuple(labels.shape[1:])})"
        raise wrong_input("foreground_probs", f"shape {found}", expected)
    indicator = functional.one_hot(labels, n_segments + 1).movedim(-1, 1)[:, 1:]
    over_pixels = (0, *range(2, foreground_probs.ndim))
    overlap = (foreground_probs * indicator).sum(over_pixels)
    total = (foreground_probs + indicator).sum(over_pixels)
    if class_weights is None:
        class_weights = torch.ones(n_segments, device=overlap.device)
    class_weights = class_weights / class_weights.sum()
    return -2 * (class_weights * overlap / (total + epsilon)).sum()


def training_loss(logits, labels, loss, ce_weights=None, dice_weights=None, epsilon=1.0):
    """The loss by name: ``"ce"``, ``"dice"`` on sigmoids, or ``"ce_dice"``, their sum on a softmax.

    Parameters
    ----------
    logits : tensor, shape (B, n_outputs, *S)
    labels : integer tensor, shape (B, *S)
    loss : {"ce", "dice", "ce_dice"}
    ce_weights, dice_weights : tensors, shapes (K,) and (K - 1,), optional
    epsilon : float

    Returns
    -------
    tensor, scalar

    Examples
    --------
    >>> logits, labels = torch.zeros(1, 2, 4), torch.tensor([[0, 0, 1, 1]])
    >>> float(training_loss(logits, labels, "ce_dice")) < float(training_loss(logits, labels, "ce"))
    True
    """
    check_choice("loss", loss, LOSSES)
    if loss == "dice":
        return soft_dice_loss(torch.sigmoid(logits), labels, dice_weights, epsilon)
    cross_entropy = cross_entropy_loss(logits, labels, ce_weights)
    if loss == "ce":
        return cross_entropy
    foreground_probs = logits.softmax(dim=1)[:, 1:]
    return cross_entropy + soft_dice_loss(foreground_probs, labels, dice_weights, epsilon)
