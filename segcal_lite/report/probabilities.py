"""How sure a network is, and how right: histograms of probabilities, and reliability diagrams."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection

from .._checks import check_columns, check_finite, check_prob_range, wrong_input

UNIT_TICKS = [0.1, 0.3, 0.5, 0.7, 0.9]  # neighbouring panels share no corner


def plot_probability_histogram(probs_by_title, panels=None, n_bins=20):
    """Draw the share of a predicted segment's voxels at each class probability (paper A, Fig. 1).

    `probs_by_title` maps a title to the probabilities (n,) of class k where k is predicted, and
    `panels` gives an Axes for each. Wide means unsure; an empty segment is named as such.
    Returns the Figure.
    """
    if not probs_by_title:
        raise wrong_input("probs_by_title", "no segment", "at least one title with its array")
    probs_by_title = {
        title: check_finite(title, checked_probs(title, probs))
        for title, probs in probs_by_title.items()
    }
    if panels is None:
        n_panels = len(probs_by_title)
        look = {"figsize": (min(10, 1 + 3.4 * n_panels), 3.2), "layout": "constrained"}
        panels = plt.subplots(1, n_panels, sharey=True, squeeze=False, **look)[1][0]
    for axes, (title, probs) in zip(panels, probs_by_title.items(), strict=True):
        percent = np.full(probs.size, 100 / max(probs.size, 1))
        axes.hist(probs.ravel(), np.linspace(0, 1, n_bins + 1), weights=percent)
        axes.set(xlim=(0, 1), xticks=UNIT_TICKS, xlabel="class probability")
        axes.set_title(f"{title}\n{probs.size:,} voxels")
        if not probs.size:
            axes.text(0.5, 0.5, "empty segment", transform=axes.transAxes, ha="center")
    panels[0].set_ylabel("share of the segment (%)")
    return panels[0].figure


def plot_reliability_diagram(bins, axes=None, min_count=0, title=None, ece=None):
    """Draw accuracy against confidence, above the number of voxels in each bin.

    `bins` is a ``ReliabilityBins`` with arrays (n_bins,); `axes` a pair of Axes, which get no
    legend; `ece`, in [0, 1], is printed in percent. The hatched area is the gap between accuracy
    and mean confidence. A bin of fewer than `min_count` voxels (1000 in paper A) is drawn hollow,
    an empty one not at all. Returns the Figure.
    """
    if axes is None:
        return plot_reliability_diagrams({title or "": bins}, min_count, {title or "": ece})
    diagram, counts = axes
    lower, upper, count, confidence, accuracy = (np.asarray(column) for column in bins)
    width, full, few = upper - lower, count >= max(min_count, 1), (count > 0) & (count < min_count)
    bar = {"align": "edge", "edgecolor": "black", "linewidth": 0.8}
    diagram.plot([0, 1], [0, 1], "--", color="black", label="perfect calibration")
    diagram.bar(lower[full], accuracy[full], width[full], color="#9ccbe8", label="accuracy", **bar)
    gap = bar | {"fill": False, "hatch": "////", "edgecolor": "#d55e00", "label": "confidence gap"}
    diagram.bar(lower[full], (confidence - accuracy)[full], width[full], accuracy[full], **gap)
    hollow = bar | {"fill": False, "linestyle": ":", "label": f"under {min_count:,} voxels"}
    if few.any():
        diagram.bar(lower[few], accuracy[few], width[few], **hollow)
    counts.bar(lower[count > 0], count[count > 0], width[count > 0], color="0.6", **bar)
    counts.axhline(min_count, linestyle=":", color="black")
    lines = [title, None if ece is None else f"ECE {100 * ece:.2f} %"]
    diagram.set_title("\n".join(filter(None, lines)))
    diagram.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    counts.set(xlim=(0, 1), xticks=UNIT_TICKS, yscale="log", xlabel="confidence", ylabel="voxels")
    counts.set_ylim(0.5, 3 * max(count.max(initial=1), min_count))
    if not count.any():
        diagram.text(0.5, 0.25, "no voxels", ha="center")
    return diagram.figure


def plot_reliability_diagrams(bins_by_title, min_count=0, ece_by_title=None):
    """Draw reliability diagrams, a dict of titles, side by side on one scale; return the Figure."""
    if not bins_by_title:
        raise wrong_input("bins_by_title", "no diagram", "at least one title with its bins")
    n_panels = len(bins_by_title)
    look = {"figsize": (min(10, 2.6 + 2.7 * n_panels), 5.2), "layout": "constrained"}
    look |= {"sharex": True, "sharey": "row", "squeeze": False, "height_ratios": (5, 2)}
    figure, grid = plt.subplots(2, n_panels, **look)
    legend, most = {}, max(1, min_count)
    for pair, (title, bins) in zip(grid.T, bins_by_title.items(), strict=True):
        plot_reliability_diagram(bins, pair, min_count, title, (ece_by_title or {}).get(title))
        handles, names = pair[0].get_legend_handles_labels()
        legend |= dict(zip(names, handles, strict=True))
        most = max(most, *bins.count)
    grid[1, 0].set_ylim(0.5, 3 * most)
    for axes in grid.flat:
        axes.label_outer()
    figure.legend(legend.values(), legend, loc="outside lower center", ncols=min(4, 2 * n_panels))
    return figure


def plot_reliability_of_cases(cases_by_title, bins_by_title, min_count=0):
    """Draw accuracy against confidence, a thin line a case and a thick one of all together.

    Parameters
    ----------
    cases_by_title : dict of pandas.DataFrame
        A panel a title: columns ``case``, ``count``, ``confidence`` and ``accuracy``, a row a bin.
    bins_by_title : dict of ReliabilityBins
        Of all cases together, by the same titles.
    min_count : int
        Bins of fewer voxels are left out: there a case's accuracy is chance.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        If there is no title, or a column is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from segcal_lite.calibration import ReliabilityBins
    >>> bins = {"count": [9, 9], "confidence": [0.6, 0.9], "accuracy": [0.5, 0.7]}
    >>> pooled = ReliabilityBins([0, 0.8], [0.8, 1], *map(np.array, bins.values()))
    >>> figure = plot_reliability_of_cases({"": pd.DataFrame(bins).assign(case="a")}, {"": pooled})
    >>> figure.axes[0].collections[0].get_segments()[0].tolist()
    [[0.6, 0.5], [0.9, 0.7]]
    >>> plt.close(figure)
    """
    if not cases_by_title:
        raise wrong_input("cases_by_title", "no diagram", "at least one title with its table")
    width = min(10, 1 + 3 * len(cases_by_title))
    look = {"figsize": (width, width / len(cases_by_title) + 0.9), "layout": "constrained"}
    look |= {"sharex": True, "sharey": True, "squeeze": False}
    figure, (panels,) = plt.subplots(1, len(cases_by_title), **look)
    for axes, (title, table) in zip(panels, cases_by_title.items(), strict=True):
        check_columns(table, [], ["case", "count", "confidence", "accuracy"])
        table = table[table["count"] >= max(min_count, 1)]
        lines = [of[["confidence", "accuracy"]].to_numpy() for _, of in table.groupby("case")]
        faint = {"color": "#0072b2", "alpha": float(np.clip(12 / max(len(lines), 1), 0.06, 0.6))}
        axes.add_collection(LineCollection(lines, lw=0.8, label="a case", **faint))
        axes.plot(table.confidence, table.accuracy, ".", ms=2, **faint)  # of a single bin, too
        pooled = bins_by_title[title]
        full = pooled.count >= max(min_count, 1)
        together = {"color": "#d55e00", "lw": 2, "label": "all cases together"}
        axes.plot(pooled.confidence[full], pooled.accuracy[full], "o-", ms=4, **together)
        axes.plot([0, 1], [0, 1], "--", color="black", label="perfect calibration")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=UNIT_TICKS, aspect="equal", title=title)
        axes.set_xlabel("confidence")
    panels[0].set_ylabel("accuracy")
    handles = panels[0].get_legend_handles_labels()
    legend = figure.legend(*handles, loc="outside lower center", ncols=3)
    legend.legend_handles[0].set_alpha(1)
    return figure


def checked_probs(name, probs):
    """Return `probs` as float64, refusing values outside [0, 1] by more than rounding."""
    probs = np.asarray(probs, dtype=float)
    check_prob_range(name, probs[~np.isnan(probs)])
    return np.minimum(probs, 1)
