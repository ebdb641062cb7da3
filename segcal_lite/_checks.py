"""One wording for wrong input: what it is, what was found, what was expected."""

import numpy as np

IGNORED = -1  # in prepared labels: a voxel that nobody annotated, left out of losses and scores


def wrong_input(what, found, expected):
    """Return a ``ValueError`` whose message is one sentence.

    Parameters
    ----------
    what : str or path
        The argument, file or field that is wrong.
    found, expected : object
        What came, and what would have been right.

    Returns
    -------
    ValueError

    Examples
    --------
    >>> str(wrong_input("n_bins", 0, "an integer of at least 1"))
    'n_bins: found 0, expected an integer of at least 1.'
    """
    return ValueError(f"{what}: found {found}, expected {expected}.")


def check_choice(name, value, choices):
    """Return `value` if it is one of `choices`, else raise naming them all."""
    if value not in choices:
        raise wrong_input(name, repr(value), "one of " + ", ".join(map(repr, choices)))
    return value


def check_text(name, value):
    """Return `value` if it is text; what came as a number may have been written otherwise."""
    if not isinstance(value, str):
        found = f"{value} of type {type(value).__name__}"
        raise wrong_input(name, found, "a text: put it in quotes")
    return value


def check_count(name, value, minimum=1):
    """Return `value` as an ``int`` of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise wrong_input(name, repr(value), f"an integer of at least {minimum}")
    return int(value)


def check_finite(name, array):
    """Return `array` if it holds no NaN and no infinity."""
    n_bad = int(np.size(array) - np.count_nonzero(np.isfinite(array)))
    if n_bad:
        raise wrong_input(name, f"{n_bad} NaN or infinite values", "finite values only")
    return array


def check_spacing(spacing_mm, n_dims):
    """Return `spacing_mm` as a float64 array of `n_dims` positive numbers."""
    spacing_mm = np.asarray(spacing_mm, dtype=np.float64)
    if spacing_mm.shape != (n_dims,) or not np.all(np.isfinite(spacing_mm) & (spacing_mm > 0)):
        raise wrong_input("spacing_mm", spacing_mm.tolist(), f"{n_dims} positive numbers")
    return spacing_mm


def check_labels_and_probs(labels, probs, atol=1e-4):
    """Return (labels, probs): integers of shape (*S), normalised probabilities of shape (K, *S).

    The sum over classes may miss 1 by `atol`: float32 probabilities that were averaged do so.
    """
    labels, probs = np.asarray(labels), np.asarray(probs)
    if not np.issubdtype(labels.dtype, np.integer):
        raise wrong_input("labels", f"dtype {labels.dtype}", "integers")
    if probs.ndim < 1 or probs.shape[1:] != labels.shape:
        raise wrong_input("probs", f"shape {probs.shape}", f"(K, *S) with S = {labels.shape}")
    n_classes = probs.shape[0]
    if n_classes < 2:
        raise wrong_input("probs", f"{n_classes} class", "at least 2 classes along the first axis")
    if not np.issubdtype(probs.dtype, np.floating):
        raise wrong_input("probs", f"dtype {probs.dtype}", "floating point")
    check_finite("probs", probs)
    if labels.size:
        if labels.min() < 0 or labels.max() >= n_classes:
            found = f"values from {labels.min()} to {labels.max()}"
            raise wrong_input("labels", found, f"0 to {n_classes - 1}")
        if probs.min() < 0 or probs.max() > 1 + atol:
            found = f"values from {probs.min():g} to {probs.max():g}"
            raise wrong_input("probs", found, "values in [0, 1]")
        worst = float(np.abs(probs.sum(axis=0, dtype=np.float64) - 1).max())
        if worst > atol:
            raise wrong_input("probs", f"class sums that miss 1 by {worst:g}", "sums of 1")
    return labels, probs
