"""Summary tables over patients: both intervals for each group, and the best method of a table.

:func:`summarise` takes a NaN as a missing value, leaves that case out and counts it; nothing is
dropped without a trace. :func:`mark_best` compares methods on the same cases and refuses NaN.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from .._checks import check_columns, check_finite, wrong_input
from ..statistics import N_RESAMPLES, UNBOUNDED, case_interval, mean_interval, paired_p_value

METRIC_BOUNDS = {  # the least and the largest value that a metric of the long tables can have
    **dict.fromkeys(("dice", "ece", "ece_class", "mce", "auc", "pairwise_dice"), (0.0, 1.0)),
    "brier": (0.0, 2.0),
    **dict.fromkeys(("nll", "hd95_mm", "assd_mm", "oodm"), (0.0, np.inf)),
    "segment_entropy": (0.0, np.log(2)),
}


class Cell(NamedTuple):
    """A number of a table on a page, and its interval, as texts."""

    value: str
    interval: str = ""
    is_best: bool = False


class BestMethod(NamedTuple):
    """The best method, whether it beats every other significantly, and the p-values."""

    method: object
    is_significant: bool
    p_values: pd.Series


def mark_best(table, metric_higher_is_better, alpha=0.01, n_resamples=N_RESAMPLES, seed=0):
    """Return the method that A's tables print in boldface: the best, significantly so.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a case, one column a method, no missing values (a NaN is refused).
    metric_higher_is_better : bool
        True for Dice; False for distances and calibration scores.
    alpha : float
        Significant when p < alpha against every other method (no correction for their number).
        Fewer than 5 cases have no p (NaN), and nothing is significant.
    n_resamples, seed
        As for :func:`paired_p_value`.

    Returns
    -------
    BestMethod
        ``method`` has the best mean (the first of equals), ``p_values`` runs over the others.

    Examples
    --------
    >>> dice = pd.DataFrame({"baseline": [0.5] * 9, "ensemble": [0.75] * 9})
    >>> mark_best(dice, metric_higher_is_better=True)[:2]
    ('ensemble', True)
    """
    if table.shape[1] < 2 or not table.columns.is_unique:
        raise wrong_input("table", list(table.columns), "at least two methods, each named once")
    if table.empty:
        raise wrong_input("table", "no rows", "at least one case")
    check_finite("table", table.to_numpy(dtype=np.float64))
    means = table.mean()
    best = means.idxmax() if metric_higher_is_better else means.idxmin()
    p_values = pd.Series(
        {
            other: paired_p_value(table[best], table[other], n_resamples, seed)
            for other in table.columns.drop(best)
        }
    )
    return BestMethod(best, bool((p_values < alpha).all()), p_values)


def with_patients(table):
    """Return a long table of which each row has a ``patient``: its case, where no column says.

    Cases of one name in two sets are of two patients. A patient who is missing in the column is a
    ``ValueError``, as an empty cell of ``cases.csv`` is.

    Examples
    --------
    >>> with_patients(pd.DataFrame({"case": ["a", "b"], "value": [1, 2]})).patient.tolist()
    ['a', 'b']
    """
    if "patient" not in table:
        names = table["set"] + "/" + table.case if "set" in table else table.case
        return table.assign(patient=names)
    n_missing = int(table.patient.isna().sum())
    if n_missing:
        found, expected = f"{n_missing} missing", "the patient of each row, or no such column"
        raise wrong_input("table, column patient", found, expected)
    return table


def patient_means(table, by):
    """Return a long table with the cases of each patient averaged, who is the unit of intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        Long: columns `by`, ``case``, ``value`` (NaN: missing) and, if patients have several cases,
        ``patient``.
    by : list of str
        Columns that make a group; NaN in them is a group of its own.

    Returns
    -------
    pandas.DataFrame
        Columns `by`, ``patient``, ``value``: NaN where all are missing.

    Examples
    --------
    >>> scans = pd.DataFrame({"case": ["a1", "a2", "b1"], "patient": ["a", "a", "b"]})
    >>> scans = scans.assign(metric="dice", value=[0.5, 0.7, 0.9])
    >>> patient_means(scans, ["metric"]).value.tolist()
    [0.6, 0.9]
    """
    groups = with_patients(table).groupby([*by, "patient"], sort=False, dropna=False)
    return groups.value.mean().reset_index()


def summarise(
    table, by, value="value", case="case", member=None, n_resamples=N_RESAMPLES, level=0.95, seed=0
):
    """Return the mean and both intervals for each group of a long table.

    Parameters
    ----------
    table : pandas.DataFrame
        Long form: one row for each group and case, or for each group, case and member.
    by : str or list of str
        Columns that make a group; NaN in them is a group of its own. Where ``metric`` is one of
        them, the interval of the mean is cut at the bounds that `METRIC_BOUNDS` has for it.
    value, case : str
        Columns of the numbers (NaN: missing) and of the patients.
    member : str, optional
        Column of ensemble members: then members are averaged for the case interval, and
        resampled as well as patients for the interval of the mean.
    n_resamples, level, seed
        As for :func:`mean_interval`.

    Returns
    -------
    pandas.DataFrame
        Columns `by`, ``mean, lo, hi, interval, n_cases, n_missing``; two rows a group, with
        ``interval`` ``"cases"`` and ``"mean"``. A case with a missing value is left out of the
        mean and counted in ``n_missing``; a group with no case left has NaN throughout, and with
        fewer than 5 cases the interval of the mean is NaN.

    Examples
    --------
    >>> table = pd.DataFrame({"method": "baseline", "case": list("abc"), "value": [0.5, 1, None]})
    >>> summarise(table, by="method")[["mean", "interval", "n_cases", "n_missing"]]
       mean interval  n_cases  n_missing
    0  0.75    cases        2          1
    1  0.75     mean        2          1
    """
    by = [by] if isinstance(by, str) else list(by)
    units = [case] if member is None else [case, member]
    if not by:
        raise wrong_input("by", by, "at least one column")
    check_columns(table, [*by, *units], [value])
    rows = []
    for key, group in table.groupby(by, sort=False, dropna=False, observed=True):
        wide = group.set_index(units)[value]
        wide = wide.to_frame() if member is None else wide.unstack(member)
        complete = wide.dropna().to_numpy(dtype=np.float64).T  # (n_members, n_cases)
        n_cases = complete.shape[1]
        intervals = {"cases": (np.nan,) * 3, "mean": (np.nan,) * 3}
        if n_cases:
            intervals["cases"] = case_interval(complete.mean(axis=0), level)
            bounds = METRIC_BOUNDS.get(dict(zip(by, key, strict=True)).get("metric"), UNBOUNDED)
            intervals["mean"] = mean_interval(complete, n_resamples, level, seed, bounds)
        for name, interval in intervals.items():
            rows.append((*key, *interval, name, n_cases, len(wide) - n_cases))
    columns = [*by, "mean", "lo", "hi", "interval", "n_cases", "n_missing"]
    return pd.DataFrame(rows, columns=columns)
