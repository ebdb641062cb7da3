"""One wording for wrong input: what it is, what was found, what was expected."""

import re
import reprlib
import unicodedata
from contextlib import contextmanager

import numpy as np

SHEAR_ERROR = 0.01  # relative: a shear of 1.1 degrees bends distances by so much
LARGEST_MM = 1000  # of a voxel side; more is a wrong unit
LONGEST_PART = 2000  # letters of a sentence that what was found may take
MOST_NAMED = 10  # names in a note; the others are counted
LARGEST_SEED = 2**32 - 1
IGNORED = -1  # in prepared labels: a voxel that nobody annotated, left out of losses and scores
ROUNDING = 1e-4  # by which float32 probabilities that were averaged may exceed 1, and sums miss it


def wrong_input(what, found, expected):
    """Return a ``ValueError`` of one sentence: what is wrong, what came, what was expected.

    Examples
    --------
    >>> str(wrong_input("n_bins", 0, "an integer of at least 1"))
    'n_bins: found 0, expected an integer of at least 1.'
    """
    found = str(found)
    if len(found) > LONGEST_PART:
        found = f"{found[:LONGEST_PART]} ... ({len(found)} letters)"
    return ValueError(f"{what}: found {found}, expected {expected}.")


@contextmanager
def told_if_unreadable(path):
    """Name the file or folder that the system does not let a block read."""
    try:
        yield
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise wrong_input(path, found, "what can be read") from error


def is_file(path):
    """Whether there is a file; a link that leads nowhere is wrong, not a file that is not there."""
    with told_if_unreadable(path):
        if path.is_symlink() and not path.exists():
            raise wrong_input(path, "a link that leads nowhere", "a file")
        return path.is_file()


def shown(value):
    """Return how Python writes a value, the inner parts of a long or deep one left out."""
    short = reprlib.Repr()
    short.maxlevel, short.maxlist, short.maxdict = 3, 20, 20
    short.maxstring = short.maxother = 200
    return short.repr(value)


def check_choice(name, value, choices):
    """Return `value` if it is one of `choices`, else raise naming them all."""
    if value not in choices:
        raise wrong_input(name, repr(value), "one of " + ", ".join(map(repr, choices)))
    return value


def check_text(name, value):
    """Return `value` if it is text; what came as a number may have been written otherwise."""
    if not isinstance(value, str):
        written = shown(value) if isinstance(value, (list, dict)) else value
        found = f"{written} of type {type(value).__name__}"
        raise wrong_input(name, found, "a text: put it in quotes")
    return check_letters(name, value)


def check_letters(name, text):
    """Return `text` if a file can hold it: JSON and YAML can write half a letter alone."""
    half = re.search("[\ud800-\udfff]", text)
    if half:
        found = repr(text[max(0, half.start() - 20) : half.end()])
        raise wrong_input(name, found, "whole letters, as UTF-8 has them")
    return text


def composed(name):
    """Return a name with its accents as one letter each: some systems write files with two.

    Examples
    --------
    >>> len("u\u0308"), len(composed("u\u0308"))
    (2, 1)
    """
    return unicodedata.normalize("NFC", name)


def check_count(name, value, minimum=1):
    """Return `value` as an ``int`` of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise wrong_input(name, repr(value), f"an integer of at least {minimum}")
    return int(value)


def check_number(name, value, least=0.0, most=np.inf):
    """Return `value` as a finite ``float`` from `least` to `most`."""
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not is_number or not (np.isfinite(value) and least <= value <= most):
        bounds = f"from {least:g} to {most:g}" if np.isfinite(most) else f"of at least {least:g}"
        raise wrong_input(name, repr(value), f"a number {bounds}")
    return float(value)


def check_seed(seed):
    """Return a run's seed; its members count on from 1000 times as much, in 64 bits."""
    if check_count("seed", seed, 0) > LARGEST_SEED:
        raise wrong_input("seed", seed, f"an integer from 0 to {LARGEST_SEED}")
    return seed


def seeded(seed):
    """Return NumPy's generator of random numbers for a seed; a generator is returned as it is."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(check_count("seed", seed, 0))


def check_finite(name, array):
    """Return `array` if it holds no NaN and no infinity."""
    n_bad = int(np.size(array) - np.count_nonzero(np.isfinite(array)))
    if n_bad:
        raise wrong_input(name, f"{n_bad} NaN or infinite values", "finite values only")
    return array


def check_spacing(spacing_mm, n_dims):
    """Return `spacing_mm` as a float64 array of `n_dims` positive numbers up to `LARGEST_MM`."""
    spacing_mm = np.asarray(spacing_mm, dtype=np.float64)
    fits = np.all((spacing_mm > 0) & (spacing_mm <= LARGEST_MM))
    if spacing_mm.shape != (n_dims,) or not fits:
        expected = f"{n_dims} positive numbers up to {LARGEST_MM}"
        raise wrong_input("spacing_mm", spacing_mm.tolist(), expected)
    return spacing_mm


def check_right_angles(name, affine):
    """Raise unless a grid's axes are at right angles, as distances by voxel sizes assume.

    The singular values of the axes' directions say by how much those distances are wrong.
    """
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    try:
        axes = axes / check_spacing(np.linalg.norm(axes, axis=0), 3)
    except ValueError as error:
        raise ValueError(f"{name}, {error}") from error
    if np.abs(np.linalg.svd(axes, compute_uv=False) - 1).max() > SHEAR_ERROR:
        cosines = np.clip((axes.T @ axes)[np.triu_indices(3, 1)], -1, 1)
        degrees = np.abs(90 - np.degrees(np.arccos(cosines))).max()
        expected = "right angles: resample image and label to such a grid (a tilted CT gantry)"
        raise wrong_input(name, f"axes {degrees:.3g} degrees off right angles", expected)


def check_label_range(labels, n_classes, lowest=0):
    """Refuse labels, an array or a tensor, of a class that there is not."""
    if 0 in labels.shape:
        return
    found = int(labels.min()), int(labels.max())
    if found[0] < lowest or found[1] >= n_classes:
        expected = f"{lowest} to {n_classes - 1}"
        raise wrong_input("labels", f"values from {found[0]} to {found[1]}", expected)


def check_patients(patients, n, of="images"):
    """Return whose each of `n` images is, an array (n,); by default each is of another patient.

    One who is missing, None or NaN, is refused: as text he would be one patient, as a number many.
    """
    if patients is None:
        return np.arange(n)
    import pandas as pd  # here: most of what imports this needs no tables

    named_patients = np.asarray(patients)
    if named_patients.shape != (n,):
        found = f"shape {named_patients.shape}"
        raise wrong_input("patients", found, f"one for each of {n} {of}")
    n_missing = int(pd.isna(np.asarray(patients, dtype=object)).sum())
    if n_missing:
        raise wrong_input("patients", f"{n_missing} missing", f"one for each of {n} {of}")
    return named_patients


def check_vectors(name, vectors, length):
    """Return one vector, shape (length,), or several, (n, length), as finite float64."""
    vectors = check_finite(name, np.asarray(vectors, dtype=np.float64))
    if vectors.ndim not in (1, 2) or vectors.shape[-1] != length:
        raise wrong_input(name, f"shape {vectors.shape}", f"({length},) or (n, {length})")
    return vectors


def check_columns(table, keys, values):
    """Refuse a table that lacks a column, or has two rows with the same `keys`."""
    columns = [*keys, *values]
    missing = [repr(column) for column in columns if column not in table]
    if missing:
        raise wrong_input("table", f"no column {', '.join(missing)}", f"columns {columns}")
    n_repeated = int(table.duplicated(keys).sum()) if keys else 0
    if n_repeated:
        expected = f"one row for each {', '.join(keys)}"
        raise wrong_input("table", f"{n_repeated} repeated rows", expected)


def check_prob_range(name, probs):
    """Refuse probabilities, an array or a tensor, outside [0, 1] by more than rounding."""
    if 0 in probs.shape:
        return
    lowest, highest = float(probs.min()), float(probs.max())
    if lowest < 0 or highest > 1 + ROUNDING:
        raise wrong_input(name, f"values from {lowest:g} to {highest:g}", "values in [0, 1]")


def check_labels_and_maps(labels, name, maps):
    """Return (labels, maps): integers of shape (*S), a finite number for each class, (K, *S)."""
    labels, maps = np.asarray(labels), np.asarray(maps)
    if not np.issubdtype(labels.dtype, np.integer):
        raise wrong_input("labels", f"dtype {labels.dtype}", "integers")
    if maps.ndim < 1 or maps.shape[1:] != labels.shape:
        raise wrong_input(name, f"shape {maps.shape}", f"(K, *S) with S = {labels.shape}")
    n_classes = maps.shape[0]
    if n_classes < 2:
        raise wrong_input(name, f"{n_classes} class", "at least 2 classes along the first axis")
    if maps.dtype.kind not in "iuf":
        raise wrong_input(name, f"dtype {maps.dtype}", "real numbers")
    check_finite(name, maps)
    check_label_range(labels, n_classes)
    return labels, maps


def check_labels_and_probs(labels, probs):
    """Return (labels, probs) as `check_labels_and_maps`, the probabilities normalised."""
    labels, probs = check_labels_and_maps(labels, "probs", probs)
    if not np.issubdtype(probs.dtype, np.floating):
        raise wrong_input("probs", f"dtype {probs.dtype}", "floating point")
    if labels.size:
        check_prob_range("probs", probs)
        worst = float(np.abs(probs.sum(axis=0, dtype=np.float64) - 1).max())
        if worst > ROUNDING:
            raise wrong_input("probs", f"class sums that miss 1 by {worst:g}", "sums of 1")
    return labels, probs


def named(names, most=MOST_NAMED):
    """Return names in order, and how many more there are than `most`.

    Examples
    --------
    >>> named("ba"), named(map(str, range(12)))[-15:]
    ('a, b', '6, 7 and 2 more')
    """
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
