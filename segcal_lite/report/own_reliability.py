"""Reliability diagrams of an evaluation: of all cases together, of each, and of the worst."""

from textwrap import fill

import numpy as np

from ..calibration import ReliabilityBins
from .plotting import METHODS
from .probabilities import plot_reliability_diagrams, plot_reliability_of_cases
from .style import literal

FEW_VOXELS = 100  # of a case at a level of confidence
MOST_WORST = 4  # diagrams side by side
LONGEST_LINE = 20  # letters of a title above one of them


def of_methods(evaluation):
    """Reliability diagrams of all methods, in the box."""
    bins, ece = {}, {}
    for method, found in _by_method(evaluation).items():
        level, title = evaluation.level("ece", method), evaluation.name_of(method)
        if method == "baseline" and evaluation.n_members > 1:
            title += f"\n(each of {evaluation.n_members} counted)"  # in its bins as in its ECE
        bins[title], ece[title] = found, None if level is None else level["mean"]
    return plot_reliability_diagrams(bins, 1000, ece) if bins else None


def _by_method(evaluation):
    """Bins of all cases together in the box, by method."""
    rows = evaluation.reliability[evaluation.reliability.region == evaluation.region]
    parts = {method: rows[rows.method == method] for method in METHODS}
    return {method: pooled_bins(part) for method, part in parts.items() if len(part)}


def of_cases(evaluation):
    """Lines of all cases, of what is judged and of its corrections."""
    rows = evaluation.reliability_cases
    rows = rows[rows.region == evaluation.region]
    if rows.case.nunique() < 2:
        return None
    pooled, shown = _by_method(evaluation), {}
    for method in (evaluation.method, "temperature", "vector_scaling"):
        if method in pooled and (rows.method == method).any():
            shown[method] = rows[rows.method == method]
    titles = {method: evaluation.name_of(method) for method in shown}
    by_title = [{titles[method]: of[method] for method in shown} for of in (shown, pooled)]
    return plot_reliability_of_cases(*by_title, FEW_VOXELS) if shown else None


def of_worst(evaluation):
    """Reliability diagrams of the cases with the highest ECE."""
    rows, ece = evaluation.reliability_cases, evaluation.ece_of_cases()
    rows = rows[(rows.method == evaluation.method) & (rows.region == evaluation.region)]
    ece = ece[ece.index.isin(rows.case)].tail(MOST_WORST)[::-1]
    if rows.case.nunique() < 2 or ece.empty:
        return None
    titles = {case: literal(fill(case, LONGEST_LINE)) for case in ece.index}
    bins = {titles[case]: pooled_bins(rows[rows.case == case]) for case in ece.index}
    return plot_reliability_diagrams(bins, FEW_VOXELS, ece.rename(titles).to_dict())


def pooled_bins(rows):
    """Rows of `reliability` as bins; where there are several of a bin, all their voxels."""
    sums = rows.assign(
        confidence=rows.confidence.fillna(0) * rows["count"],
        accuracy=rows.accuracy.fillna(0) * rows["count"],
    )
    sums = sums.groupby(["lower", "upper"], as_index=False)[["count", "confidence", "accuracy"]]
    sums = sums.sum()
    count = sums["count"].to_numpy()
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: an empty bin
        means = sums.confidence.to_numpy() / count, sums.accuracy.to_numpy() / count
    return ReliabilityBins(sums.lower.to_numpy(), sums.upper.to_numpy(), count, *means)
