"""Figures of an evaluation of somebody's predictions: from its tables to ``figures/*.png``."""

import matplotlib.pyplot as plt
import numpy as np

from .._checks import check_columns, wrong_input
from ..runs.arrays import read_arrays
from ..runs.folders import write_figure
from ..statistics import MIN_CASES, logit
from . import own_reliability
from .overlays import plot_review
from .own_tables import in_words, read_evaluation
from .plotting import (
    FACTORS,
    LABELS,
    METHODS,
    plot_calibration_summary,
    plot_entropy_against_dice,
    plot_oodm_histograms,
)
from .style import literal, use_style

FEW_LINES = 4  # fitted lines that one figure can tell apart
CAPTIONS = {  # by the name of the file
    "reliability": "Is it right as often as it says? The bars show the share of voxels that are "
    "right for each level of confidence, all cases together; on the dashed diagonal confidence and "
    "truth agree. Hatched: the gap. Below: how many voxels there are. The ECE is the mean over "
    "patients and members.",
    "reliability_cases": "Is every case like the others? A thin line a case, the thick one all "
    "together; below the dashed diagonal the model claims more than it holds. Levels of confidence "
    f"at which a case has fewer than {own_reliability.FEW_VOXELS} voxels are left out.",
    "reliability_worst": "The cases with the highest ECE, one by one, as they were predicted"
    " (uncorrected).",
    "summary": "How far are the probabilities off, by method? Dots are means over the patients, "
    "lines their 95 % intervals; smaller is better.",
    "differences": "What changes the scores? Differences of the same patients with 95 % intervals: "
    "left of the dashed line the first named method is better, and a line that crosses it leaves "
    "the question open.",
    "entropy_against_dice": "Does doubt foretell a poor segment? Each point is a segment of a "
    "labelled case: its entropy, known without a label, against its Dice (above; below its logit, "
    "which draws apart what lies near 1). The lines are those by which a Dice is expected, every "
    f"patient with the same weight; of fewer than {MIN_CASES} patients or more than {FEW_LINES} "
    "segments there are none.",
    "risk_coverage": "Does it pay to look at doubtful cases first? Mean risk (1 - Dice) of the "
    "cases that are left when the most doubtful are taken away, from all on the right to few on "
    "the left. The lower the better: random order stays level, the oracle knows each Dice.",
    "oodm": "Has the network seen such images? The distance (OODM) of each case from the nearest "
    "training case, in the features of the network. Right of the dashed threshold lie images "
    "unlike all that it was trained on.",
}
MOST_PICTURES = 10  # of the list to review


def draw_figures(out):
    """Draw the figures of an evaluation from the tables below its folder.

    Parameters
    ----------
    out : pathlib.Path
        Run folder of ``python -m segcal_lite evaluate``.

    Returns
    -------
    list of pathlib.Path
        ``figures/<name>.png`` for the names of `CAPTIONS`, and ``review_<rank>.png`` of the most
        doubtful new cases; what has no data is not drawn, and a figure of earlier data removed.
    """
    evaluation, written = read_evaluation(out), []
    drawn_by = {
        "reliability": own_reliability.of_methods,
        "reliability_cases": own_reliability.of_cases,
        "reliability_worst": own_reliability.of_worst,
        "summary": _summary,
        "differences": _differences,
        "entropy_against_dice": _entropy_against_dice,
        "risk_coverage": _risk_coverage,
        "oodm": _oodm,
    }
    with plt.rc_context():
        use_style()
        for name, draw in drawn_by.items():
            path, figure = out / "figures" / f"{name}.png", draw(evaluation)
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            write_figure(path, figure)
            plt.close(figure)
            written.append(path)
    return written + _draw_review(out, evaluation)


def _draw_review(out, evaluation):
    """Draw the most doubtful new cases, ``figures/review_<rank>.png``; return the paths."""
    written = []
    for path in (out / "figures").glob("review_*.png"):  # of an earlier list
        path.unlink()
    for row in evaluation.review.sort_values("rank").head(MOST_PICTURES).to_dict("records"):
        slices = out / "new" / f"{row['case']}.npz"
        if not slices.exists():  # somebody tidied up
            continue
        arrays = read_arrays(slices)
        shown = [arrays.get(name) for name in ("image", "predicted", "entropy")]
        figure = plot_review(*shown, evaluation.segments, arrays["spacing_mm"])
        written.append(out / "figures" / f"review_{row['rank']:.0f}.png")
        write_figure(written[-1], figure)
        plt.close(figure)
    return written


def plot_risk_coverage(curves, areas=None, axes=None):
    """Draw the risk of the cases that nobody looks at against their share; return the Axes.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``score``, ``coverage`` in (0, 1] and ``risk``. The scores ``oracle`` and ``random``
        are the best possible and random order.
    areas : dict of float, optional
        AURC by score.
    axes : matplotlib Axes, optional

    Raises
    ------
    ValueError
        If a column is missing or there is no row.

    Examples
    --------
    >>> import pandas as pd
    >>> curve = {"score": "segment_entropy", "coverage": [0.5, 1.0], "risk": [0.1, 0.2]}
    >>> axes = plot_risk_coverage(pd.DataFrame(curve), {"segment_entropy": 0.15})
    >>> axes.lines[0].get_label()
    'segment entropy, AURC 0.150'
    >>> plt.close(axes.figure)
    """
    check_columns(curves, ["score", "coverage"], ["risk"])
    if curves.empty:
        raise wrong_input("curves", "no row", "a curve")
    axes = axes or plt.subplots(figsize=(8, 4), layout="constrained")[1]
    for score, rows in curves.groupby("score", sort=False):
        rows, area = rows.sort_values("coverage"), (areas or {}).get(score)
        label = in_words(score) + ("" if area is None else f", AURC {area:.3f}")
        dashes = {"oracle": "--", "random": ":"}.get(score)
        look = {"color": "black", "ls": dashes} if dashes else {"marker": "."}
        axes.plot(rows.coverage, rows.risk, label=label, **look)
    axes.set(xlabel="coverage: share of cases left", ylabel="risk (mean of 1 - Dice)")
    axes.set(xlim=(0, 1.02), ylim=(0, None))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return axes


def plot_differences(table, metrics=("nll", "ece")):
    """Draw paired differences with their intervals, a panel a metric; return the Figure.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``comparison``, ``metric``, ``difference``, ``lo``, ``hi``; ECE and MCE in [0, 1]
        are drawn in percentage points.
    metrics : sequence of str
        Of those where smaller is better.

    Raises
    ------
    ValueError
        If a column is missing, or no row is of these metrics.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"comparison": "b against a", "metric": "ece", "difference": -0.02}
    >>> figure = plot_differences(pd.DataFrame([row | {"lo": -0.03, "hi": -0.01}]), ["ece"])
    >>> figure.axes[0].lines[0].get_xdata().round(3).tolist()
    [-2.0]
    >>> plt.close(figure)
    """
    check_columns(table, ["comparison", "metric"], ["difference", "lo", "hi"])
    table = table[table.metric.isin(metrics)]
    if table.empty:
        raise wrong_input("table", "no row", f"rows of {list(metrics)}")
    names = list(table.comparison.unique())
    look = {"figsize": (10, 1.4 + 0.5 * len(names)), "sharey": True, "squeeze": False}
    figure, (panels,) = plt.subplots(1, len(metrics), layout="constrained", **look)
    for axes, metric in zip(panels, metrics, strict=True):
        rows, factor = table[table.metric == metric], FACTORS.get(metric, 1)
        level = rows.comparison.map(names.index)
        axes.plot(factor * rows.difference, level, "o", color="#0173b2")
        axes.hlines(level, factor * rows.lo, factor * rows.hi, color="#0173b2", lw=2)
        axes.axvline(0, color="black", ls="--")
        label = LABELS.get(metric, metric).replace("(%)", "(percentage points)")
        axes.set(xlabel=f"difference in {label}", ylim=(len(names) - 0.5, -0.5))
        axes.locator_params(axis="x", nbins=5)  # more numbers of this length run together
    panels[0].set_yticks(range(len(names)), labels=names)
    return figure


def _summary(evaluation):
    """Means of the calibration scores by method."""
    rows = evaluation.summary
    rows = rows[(rows.interval == "mean") & (rows.region == evaluation.region)]
    rows = rows[rows.segment.isna() & rows.metric.isin(["nll", "brier", "ece"])]
    if rows.empty:
        return None
    methods = sorted(rows.method.unique(), key=METHODS.index)
    rows = rows.sort_values("method", key=lambda names: names.map(methods.index), kind="stable")
    rows = rows.assign(loss="mean", method=rows.method.map(evaluation.name_of))
    metrics = [metric for metric in ("nll", "brier", "ece") if (rows.metric == metric).any()]
    figure = plot_calibration_summary(rows, metrics)
    figure.legends[0].remove()  # one colour: the caption says what it stands for
    return figure


def _differences(evaluation):
    """Differences of NLL and ECE."""
    rows = evaluation.differences
    rows = rows[(rows.region == evaluation.region) & rows.segment.isna()]
    rows = rows[rows.difference.notna()]
    metrics = [metric for metric in ("nll", "ece") if (rows.metric == metric).any()]
    if not metrics:
        return None
    first, second = (rows[name].map(evaluation.name_of) for name in ("method", "against"))
    return plot_differences(rows.assign(comparison=first + "\nagainst " + second), metrics)


def _entropy_against_dice(evaluation):
    """Segment entropy against the logit of Dice, with the line of each segment."""
    rows = evaluation.entropy_dice
    if rows.segment_entropy.notna().sum() < 2:
        return None
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    fits = evaluation.entropy_fit[evaluation.entropy_fit.slope.notna()]
    looks = zip(fits.to_dict("records"), ("-", "--", ":", "-."), strict=False)
    for fit, dashes in looks if rows.segment.nunique() <= FEW_LINES else ():
        # the table has logit Dice, drawn to the right, on the entropy
        entropies = rows.segment_entropy[(rows.segment == fit["segment"]) & rows.dice.notna()]
        ends = np.array([entropies.min(), entropies.max()])
        label = f"{literal(fit['segment'])}: r = {fit['r']:.2f}"
        axes.plot(fit["intercept"] + fit["slope"] * ends, ends, dashes, color="0.2", label=label)
    named = {"segment": rows.segment.map(literal), "logit_dice": logit(rows.dice)[0]}
    plot_entropy_against_dice(rows.assign(**named), axes=axes)
    return figure


def _risk_coverage(evaluation):
    """Risk against coverage for every score."""
    curves = evaluation.risk_coverage
    if curves.empty:
        return None
    areas = dict(evaluation.aurc[["score", "aurc"]].itertuples(index=False))
    return plot_risk_coverage(curves, areas).figure


def _oodm(evaluation):
    """Distances from the training cases, and their threshold."""
    rows = evaluation.oodm
    if rows.empty:
        return None
    names = {"training": "training, each without itself"}
    by_group = {names.get(group, group): of.oodm for group, of in rows.groupby("group", sort=False)}
    return plot_oodm_histograms(by_group, rows.threshold.iloc[0]).figure
