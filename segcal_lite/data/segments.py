"""What arrays say about one segment, whether classes exclude each other or regions overlap.

Where classes exclude each other, labels are (X, Y, Z) with values 0 to K - 1 and probabilities
(K, X, Y, Z). R overlapping regions are R binary problems: one more axis in front of space, so that
labels are (R, X, Y, Z) of 0 and 1 and probabilities (2, R, X, Y, Z). Every score with K = 2 works
on them as it is. Voxels that nobody annotated have the label `IGNORED`, in every region.
"""

import numpy as np

from .._checks import IGNORED, wrong_input


def region_labels(labels, regions):
    """Return the binary labels of overlapping regions.

    Parameters
    ----------
    labels : int array, shape (*S)
        Classes 0 to K - 1, or `IGNORED`.
    regions : tuple of tuple of int, length R
        The classes whose union each region is.

    Returns
    -------
    int8 array, shape (R, *S)
        1 inside, 0 outside, `IGNORED` where nobody annotated.

    Examples
    --------
    >>> region_labels(np.array([0, 1, 2, -1]), ((1, 2), (2,))).tolist()
    [[0, 1, 1, -1], [0, 0, 1, -1]]
    """
    labels = np.asarray(labels)
    n_classes = 1 + max(int(labels.max(initial=0)), *(max(classes) for classes in regions))
    table = np.zeros((len(regions), n_classes + 1), dtype=np.int8)
    for row, classes in zip(table, regions, strict=True):
        row[list(classes)] = 1
    table[:, IGNORED] = IGNORED  # the last column, which is where an index of -1 leads
    return table[:, labels]


def region_probs(probs, regions):
    """Return (2, R, *S): outside and inside of each region, from class probabilities (K, *S).

    Examples
    --------
    >>> region_probs(np.array([[0.5], [0.25], [0.25]]), ((1, 2), (2,)))[1].tolist()
    [[0.5], [0.25]]
    """
    inside = np.stack([probs[list(classes)].sum(axis=0) for classes in regions]).clip(max=1)
    return np.stack([1 - inside, inside])


def annotated(labels, values):
    """Return labels and what belongs to them without the voxels that nobody annotated.

    Parameters
    ----------
    labels : int array, shape (*S)
    values : array, shape (..., *S)

    Returns
    -------
    labels, values : arrays, shapes (n,) and (..., n)
        Untouched, with all their axes, where every voxel is annotated.

    Examples
    --------
    >>> labels, values = annotated(np.array([0, -1, 1]), np.array([[0.9, 0.5, 0.2]]))
    >>> labels.tolist(), values.tolist()
    ([0, 1], [[0.9, 0.2]])
    """
    labels = np.asarray(labels)
    known = labels != IGNORED
    return (labels, values) if known.all() else (labels[known], values[..., known])


def segment_masks(labels, predicted, k):
    """Return where segment `k` is true and where it is predicted, among annotated voxels.

    Parameters
    ----------
    labels, predicted : int arrays, shape (X, Y, Z) of classes or (R, X, Y, Z) of regions
        `predicted` is the arg max of the class probabilities.
    k : int
        Segment, from 1 on.

    Returns
    -------
    mask_gt, mask_pred : bool arrays, shape (X, Y, Z)
        Ignored voxels are in neither.

    Examples
    --------
    >>> pair = segment_masks(np.array([[[1, -1, 0]]]), np.array([[[1, 1, 1]]]), k=1)
    >>> [mask.ravel().tolist() for mask in pair]
    [[True, False, False], [True, False, True]]
    """
    if np.ndim(labels) == 4:
        labels, predicted, k = labels[k - 1], predicted[k - 1], 1
    return labels == k, (predicted == k) & (labels != IGNORED)


def segment_probs(probs, k):
    """Return class probabilities (K, X, Y, Z) and the class in them that segment `k` is.

    Parameters
    ----------
    probs : array, shape (K, X, Y, Z) of classes or (2, R, X, Y, Z) of regions
    k : int
        Segment, from 1 on.

    Returns
    -------
    probs : array, shape (K, X, Y, Z)
        With K = 2 for a region.
    k : int

    Examples
    --------
    >>> probs, k = segment_probs(np.full((2, 3, 4, 4, 2), 0.5), k=3)
    >>> probs.shape, k
    ((2, 4, 4, 2), 1)
    """
    if probs.ndim not in (4, 5):
        raise wrong_input("probs", f"shape {probs.shape}", "(K, X, Y, Z) or (2, R, X, Y, Z)")
    return (probs, k) if probs.ndim == 4 else (probs[:, k - 1], 1)


def binary_problems(labels, probs):
    """Yield labels (X, Y, Z) and probs (..., K, X, Y, Z): once, or of each region in turn."""
    if np.ndim(labels) == 3:
        yield labels, probs
        return
    for number, region in enumerate(labels):
        yield region, probs[..., number, :, :, :]


def exclusive_classes(predicted, region_order):
    """Return the one class of each voxel that overlapping predictions leave.

    Parameters
    ----------
    predicted : int or bool array, shape (R, *S)
        1 where a region is predicted: its probability exceeds 0.5.
    region_order : tuple of int, length R
        The class that each region leaves where no later one is predicted (nnU-Net's
        ``regions_class_order``).

    Returns
    -------
    int16 array, shape (*S)

    Examples
    --------
    >>> exclusive_classes(np.array([[0, 1, 1], [0, 0, 1]]), (1, 3)).tolist()
    [0, 1, 3]
    """
    if len(predicted) != len(region_order):
        raise wrong_input("region_order", f"{len(region_order)} classes", f"{len(predicted)}")
    classes = np.zeros(np.shape(predicted)[1:], dtype=np.int16)
    for inside, left in zip(predicted, region_order, strict=True):
        classes[inside == 1] = left
    return classes
