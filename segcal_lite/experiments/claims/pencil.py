"""Read a table with a pencil: what no network can give, whatever the data.

Each bound holds for a voxel, a case or a test set, and all but the two of detectors are not lost in
a mean, so a table of means can be checked without the data behind it. Printed digits are rounded: a
row breaks a bound only if all values that round to what is printed do.

- ``Brier <= 0.815 NLL``: see `segcal_lite.calibration`. With Eq. 4 of paper A, whose Brier score is
  divided by K, multiply it by K first.
- ``ECE^2 <= Brier``: the predicted class has confidence p. A right voxel adds (1 - p)^2 or more to
  the Brier score, a wrong one p^2 or more; the mean of squares is at least the square of each bin's
  mean gap, and these at least that of their mean.
- ``ECE <= MCE``: a mean of gaps is at most the largest.
- Accuracy is a mean of sensitivity and specificity, weighted by how many there are: between them.
  So it is in one test set, and in means over several, such as folds, if all have one class ratio.
- A ROC curve that rises through (1 - specificity, sensitivity) has below it at least the rectangle
  to its lower right, ``sensitivity * specificity``, and above it at least that to its upper left.
  That is of one test set: a product of means may exceed the mean of products.
- ``Dice / (2 - Dice) <= IoU <= Dice``: the first is an equality for one case, and a bound for
  means, as the curve is convex.
"""

from functools import partial

import numpy as np
import pandas as pd

from ..._checks import wrong_input

BRIER_PER_NLL = 0.8146  # 4 p (1 - p) where -2 p ln p = 1 - p, rounded up
RANGES = {"nll": np.inf, "brier": 2} | dict.fromkeys(
    ("ece", "mce", "dice", "iou", "accuracy", "sensitivity", "specificity", "auc"), 1
)
NAMES = {"dsc": "dice"}  # as papers call them
PER_CENT = "_percent"


def check_table(table, labels):
    """Check each row of a table of means against the bounds above.

    Parameters
    ----------
    table : pandas.DataFrame
        A row a method, a column a score: nll, brier (the sum over classes), ece, mce, dice (or
        dsc), iou, accuracy, sensitivity, specificity, auc; those of ``_percent`` are divided by
        100. Others are passed over. Numbers as they are printed: the digits of a column, before
        the division, say how far they are rounded.
    labels : list of str
        Columns that say which row it is.

    Returns
    -------
    pandas.DataFrame
        A row for each bound and each row it applies to: row, bound, printed (the numbers that it
        is about), margin (the largest that rounding allows) and holds (margin of at least 0). Two
        bounds say in brackets of which test sets they are: a mean over others may break them.

    Raises
    ------
    ValueError
        If there is no row, a label is no column, no column is a score, or two are the same one.

    Examples
    --------
    >>> printed = pd.DataFrame({"method": ["A", "B"], "nll": [0.41, 0.31], "brier": [0.45, 0.14]})
    >>> found = check_table(printed, ["method"])
    >>> found[~found.holds][["row", "bound", "printed"]].values.tolist()
    [['A', 'Brier <= 0.815 NLL', 'brier 0.45, nll 0.41']]
    """
    _check(table, labels)
    scores, half = _scores(table)
    if scores.empty:
        raise wrong_input("table", f"columns {', '.join(table)}", f"one of {', '.join(RANGES)}")
    rows = table[labels].astype(str).agg(", ".join, axis=1)
    least, most = scores - half, scores + half
    found = []
    for bound, (names, margin) in BOUNDS.items():
        if set(names) <= set(scores):
            printed = scores[list(names)].apply(_printed, axis=1)
            columns = {"row": rows, "bound": bound, "printed": printed}
            columns["margin"] = margin(least, most).where(scores[list(names)].notna().all(axis=1))
            found.append(pd.DataFrame(columns).dropna(subset="margin"))
    found = pd.concat(found, ignore_index=True)
    return found.assign(holds=found.margin >= -1e-9)


def repeated_rows(table, labels, least=3):
    """Return pairs of rows of a table that print the same numbers, as texts: (first, again).

    Of other data at least `least` numbers do not agree by chance; a misprint is likelier.

    Examples
    --------
    >>> table = pd.DataFrame({"task": ["x", "y"], "a": [0.62, 0.62], "b": [0.23, 0.23]})
    >>> repeated_rows(table.assign(c=13.2), ["task"])
    [('x', 'y')]
    """
    _check(table, labels)
    numbers = table.drop(columns=labels).select_dtypes("number")
    rows, first, pairs = table[labels].astype(str).agg(", ".join, axis=1), {}, []
    for row, values in zip(rows, numbers.to_numpy(), strict=True):
        if np.isfinite(values).sum() >= least:
            numbers_of_row = tuple(None if np.isnan(value) else value for value in values)
            seen = first.setdefault(numbers_of_row, row)  # NaN would equal no NaN
            pairs += [(seen, row)] if seen != row else []
    return pairs


def _check(table, labels):
    """Refuse a table without a row, or without a column that labels its rows."""
    if not len(table):
        raise wrong_input("table", "no row", "at least one")
    absent = [name for name in labels if name not in table]
    if absent:
        raise wrong_input("labels", ", ".join(absent), f"columns: {', '.join(table)}")


def _scores(table):
    """The columns that are scores, by our names, as shares of 1, and half of their last digits."""
    found, half = {}, {}
    for column in table:
        name = column.removesuffix(PER_CENT)
        name = NAMES.get(name, name)
        if name in RANGES:
            if not pd.api.types.is_numeric_dtype(table[column]):
                raise wrong_input(f"table, column {column}", "text", "numbers, or empty cells")
            if name in found:
                raise wrong_input("table", f"a second column of {name}, {column}", "one a score")
            divisor = 100 if column.endswith(PER_CENT) else 1
            texts = _as_printed(table[column])
            found[name] = texts.astype(float) / divisor
            half[name] = 0.5 * 10.0 ** -_digits(texts) / divisor
    return pd.DataFrame(found), pd.Series(half)


def _as_printed(column):
    """The numbers of a column as texts: 0.41 of float32 would have more digits in float64."""
    known = column.dropna()
    numbers = known.to_numpy(getattr(column.dtype, "numpy_dtype", column.dtype))
    texts = [np.format_float_positional(value, 12, trim="-") for value in numbers]
    return pd.Series(texts, known.index, dtype=object).reindex(column.index)


def _digits(texts):
    """How many digits behind the point a column was printed with."""
    return max((len(text.partition(".")[2]) for text in texts.dropna()), default=0)


def _printed(row):
    return ", ".join(f"{name} {value:g}" for name, value in row.items())


def _in_range(name, least, most):
    return np.minimum(most[name], RANGES[name] - least[name])


def _no_more(smaller, larger, least, most, factor=1.0, power=1):
    """The largest that factor x larger - smaller^power can be."""
    return factor * most[larger] - least[smaller].clip(lower=0) ** power


def _between(least, most):
    """How far accuracy is inside of sensitivity and specificity."""
    ends = ["sensitivity", "specificity"]
    above = most.accuracy - least[ends].min(axis=1)
    return np.minimum(above, most[ends].max(axis=1) - least.accuracy)


def _of_rectangles(least, most):
    """How far the AUC is inside of what one point of the curve allows."""
    above = most.auc - least.sensitivity * least.specificity
    below = 1 - (1 - most.sensitivity).clip(lower=0) * (1 - most.specificity).clip(lower=0)
    return np.minimum(above, below - least.auc)


def _of_overlaps(least, most):
    """How far the IoU is inside of what Dice allows."""
    return np.minimum(most.iou - least.dice / (2 - least.dice), most.dice - least.iou)


BOUNDS = {
    f"{name} in [0, {most:g}]": ((name,), partial(_in_range, name)) for name, most in RANGES.items()
} | {
    "Brier <= 0.815 NLL": (
        ("brier", "nll"),
        partial(_no_more, "brier", "nll", factor=BRIER_PER_NLL),
    ),
    "ECE^2 <= Brier": (("ece", "brier"), partial(_no_more, "ece", "brier", power=2)),
    "ECE <= MCE": (("ece", "mce"), partial(_no_more, "ece", "mce")),
    "accuracy between sensitivity and specificity (test sets of one class ratio)": (
        ("accuracy", "sensitivity", "specificity"),
        _between,
    ),
    "AUC within the rectangles of sensitivity and specificity (one test set)": (
        ("auc", "sensitivity", "specificity"),
        _of_rectangles,
    ),
    "IoU between Dice / (2 - Dice) and Dice": (("iou", "dice"), _of_overlaps),
}
