"""Figures of numbers: one function a figure, from plain arrays and tables to labelled axes.

A function with one panel draws on `axes`, by default in a new figure, and returns the Axes; one
with several panels returns the Figure. Nothing is saved. Values that are NaN or infinite (the
entropy of an empty segment, say) cannot be drawn; the label of the horizontal axis counts them.
"""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from .._checks import check_choice, check_columns, check_finite, wrong_input
from .style import use_log_scale

# One colour a name in all figures, told apart also by the colour-blind.
METHODS = ["baseline", "ensemble", "mc_dropout", "temperature", "vector_scaling", "oracle"]
COLOURS = ["#606060", "#0173b2", "#de8f05", "#029e73", "#56b4e9", "#000000"]
METHOD_COLOURS = dict(zip(METHODS, COLOURS, strict=True))
LOSS_COLOURS = {"ce": "#d55e00", "dice": "#0173b2", "ce_dice": "#029e73"}
DOMAIN_COLOURS = {"source": "#0173b2", "shifted": "#de8f05"}
FACTORS = {"ece": 100, "mce": 100}  # in percent, as paper A prints them
OUTSIDE = {"loc": "upper left", "bbox_to_anchor": (1, 1)}  # a legend that hides no data
MARKERS = "osD^vPX"
NAMES = {"ce": "CE", "dice": "Dice", "mc_dropout": "MC dropout", "vector_scaling": "vector scaling"}
LABELS = {
    "nll": "NLL (nats per voxel)",
    "brier": "Brier score (no unit)",
    "ece": "ECE (%)",
    "mce": "MCE (%)",
    "dice": "Dice coefficient (0 to 1)",
    "hd95_mm": "HD95 (mm)",
    "train_loss": "training loss (as minimised)",
    "validation_dice": "validation Dice (0 to 1)",
    "learning_rate": "learning rate (no unit)",
    "strength": "strength of the shift (0 none, 1 full)",
}


def plot_against_ensemble_size(table, metric, axes=None, oracle=None):
    """Draw mean and central 95 % over subsets of members against M (paper A, Figs. 2 and S4).

    `table` has the columns loss, n_members, subset, metric, value, one value a subset; `oracle`,
    in the same unit, is the value of perfect probabilities.
    """
    _check_table(table, ["loss", "n_members", "subset", "metric"], ["value"])
    check_choice("metric", metric, list(table.metric.unique()))
    table, factor = table[table.metric == metric], FACTORS.get(metric, 1)
    rows, axes = _finite(table, "value"), axes or _new_panels(1)[0]
    rows = rows.assign(value=factor * rows.value)
    palette = _colours(rows.loss, LOSS_COLOURS) or None  # seaborn warns of an empty one
    look = {"palette": palette, "marker": "o", "errorbar": ("pi", 95)}
    sns.lineplot(rows, x="n_members", y="value", hue="loss", ax=axes, **look)
    if oracle is not None:
        axes.axhline(factor * oracle, linestyle="--", color="black", label="oracle")
    axes.set_xscale("log", base=2)
    sizes = sorted(table.n_members.unique())
    axes.set_xticks(sizes, labels=sizes)
    labels = "number of ensemble members M", LABELS.get(metric, metric)
    return _finished(axes, *labels, len(table) - len(rows), title="mean, 95 % of subsets")


def plot_entropy_against_dice(table, fits=None, axes=None):
    """Scatter segment entropy against logit Dice, with fitted lines and r (paper A, Fig. 3).

    `table` has the columns segment, logit_dice, segment_entropy (nats) and, if any, domain, which
    is then told by colour; the upper axis gives the Dice. `fits` maps a segment, or "all", to an
    object with `slope`, `intercept` and `pearson_r` of entropy regressed on logit Dice, such as
    `linear_regression` returns.
    """
    _check_table(table, [], ["segment", "logit_dice", "segment_entropy"])
    rows, axes = _finite(table, "logit_dice", "segment_entropy"), axes or _new_panels(1)[0]
    hue = "domain" if "domain" in rows else "segment"
    look = {"hue": hue, "palette": _colours(rows[hue], DOMAIN_COLOURS) or None, "alpha": 0.8}
    sns.scatterplot(rows, x="logit_dice", y="segment_entropy", style="segment", ax=axes, **look)
    for index, (segment, fit) in enumerate((fits or {}).items()):
        fitted = rows.logit_dice[(rows.segment == segment) | (segment == "all")]
        ends, line = np.array([fitted.min(), fitted.max()]), ["-", "--", ":", "-."][index % 4]
        name = f"{segment}: r = {fit.pearson_r:.2f}"
        axes.plot(ends, fit.intercept + fit.slope * ends, line, color="0.2", label=name)
    dice = np.array([0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
    dice_axis = axes.secondary_xaxis("top", xlabel=LABELS["dice"])
    dice_axis.set_xticks(np.log(dice / (1 - dice)), labels=dice)
    labels = "logit Dice (no unit)", "segment entropy (nats)"
    return _finished(axes, *labels, len(table) - len(rows), **OUTSIDE)


def plot_oodm_histograms(scores, threshold, axes=None, log=None, n_bins=25):
    """Draw the OODM of each set with the threshold tau (paper B, Figs. 2, 6 and 8).

    `scores` maps a set's name to its OODM (n,). Bins are evenly spaced in log OODM if `log`, by
    default when the largest score is more than 30 times the smallest. A score of 0, of an image
    that was trained on, has no place there: how many were left out stands below the axis.
    """
    arrays = {name: np.asarray(values, dtype=float).ravel() for name, values in scores.items()}
    finite = {name: values[np.isfinite(values)] for name, values in arrays.items()}
    pooled = np.concatenate([*finite.values(), [threshold]])
    low, high = check_finite("threshold", pooled).min(), pooled.max()
    above = pooled[pooled > 0]
    log = low > 0 and high > 30 * low if log is None else log
    if log and (low < 0 or threshold == 0):
        raise wrong_input("scores", f"a smallest value of {low:g}", "values above 0 for log")
    edges = np.histogram_bin_edges(pooled, n_bins)
    if log:  # a little wider than the data, so that rounding excludes none
        edges = np.geomspace(above.min() * (1 - 1e-9), high * (1 + 1e-9), n_bins + 1)
        finite = {name: values[values > 0] for name, values in finite.items()}
    axes = axes or _new_panels(1)[0]
    for name, colour in _colours(scores, {}).items():
        look = {"edgecolor": colour, "facecolor": (colour, 0.3), "histtype": "stepfilled"}
        axes.hist(finite[name], edges, label=f"{name}, n = {finite[name].size}", **look)
    axes.axvline(threshold, ls="--", color="black", label=f"threshold $\\tau$ = {threshold:.3g}")
    if log:
        use_log_scale(axes, "x")
    axes.yaxis.set_major_locator(plt.MaxNLocator(integer=True))
    n_left_out = sum(arrays[name].size - finite[name].size for name in arrays)
    labels = "OODM (distance, no unit)", "number of cases"
    why = "undefined or 0" if log else "undefined"
    return _finished(axes, *labels, n_left_out, why, **OUTSIDE)


def plot_signatures(signatures, axes=None):
    """Draw spectral signatures, a dict of set name to array (n, r), against the index 1 to r."""
    axes = axes or _new_panels(1)[0]
    for index, (name, colour) in enumerate(_colours(signatures, {}).items()):
        curves = np.atleast_2d(check_finite(name, signatures[name]))
        look = {"marker": MARKERS[index % 7], "color": colour, "alpha": 0.5, "ms": 4}
        axes.plot(np.arange(1, curves.shape[1] + 1), curves.T, **look)
        axes.lines[-1].set_label(f"{name}, n = {len(curves)}")
    axes.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    return _finished(axes, "index of the singular value", "log S / ||log S|| (no unit)")


def plot_nll_against_eps(table, axes=None):
    """Draw NLL against the floor of probabilities; columns method, eps, nll and, if any, loss."""
    if np.any(table.get("eps", 1.0) <= 0):
        raise wrong_input("table, column eps", f"{table.eps.min():g}", "values above 0")
    return _draw_methods(table, "eps", "nll", axes, xlabel="floor eps (no unit)", xscale="log")


def plot_ece_against_bins(table, axes=None):
    """Draw the ECE in percent; columns method, n_bins, ece in [0, 1] and, if any, loss."""
    return _draw_methods(table, "n_bins", "ece", axes, xlabel="number of bins", ylim=(0, None))


def plot_training_curves(history):
    """Draw a history: epoch, train_loss, validation_dice with its highest, learning_rate."""
    columns = ["train_loss", "validation_dice", "learning_rate"]
    _check_table(history, ["epoch"], columns)
    panels = _new_panels(3, height=3.2)
    for axes, column in zip(panels, columns, strict=True):
        rows = _finite(history, column)
        axes.plot(rows.epoch, rows[column], ".-")
        if column == "validation_dice" and len(rows):
            best = rows.loc[rows.validation_dice.idxmax()]
            name = f"{best.validation_dice:.3f}, epoch {best.epoch:g}"
            axes.plot(best.epoch, best.validation_dice, "D", color="#d55e00", label=name)
        axes.ticklabel_format(axis="y", scilimits=(-2, 3))
        axes.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
        _finished(axes, "epoch", LABELS[column], len(history) - len(rows), loc="lower right")
    return panels[0].figure


def plot_auc_against_strength(table, axes=None):
    """Draw the AUC with its interval; columns detector, strength, auc, lo, hi."""
    _check_table(table, ["detector", "strength"], ["auc", "lo", "hi"])
    rows, axes = _finite(table, "auc").sort_values("strength"), axes or _new_panels(1)[0]
    for index, (name, colour) in enumerate(_colours(table.detector, {}).items()):
        drawn = rows[rows.detector == name]
        axes.fill_between(drawn.strength, drawn.lo, drawn.hi, color=colour, alpha=0.12, lw=0)
        axes.plot(drawn.strength, drawn.auc, MARKERS[index % 7] + "-", color=colour, label=name)
    axes.axhline(0.5, linestyle=":", color="black", label="chance")
    axes.set_ylim(-0.02, 1.02)
    return _finished(axes, LABELS["strength"], "AUC (0 to 1)", len(table) - len(rows), **OUTSIDE)


def plot_shift(table):
    """Draw how well detectors notice a growing shift, above what it does to the segmentation.

    `table` has the columns of `plot_auc_against_strength`, flagged (share of the shifted cases
    above the threshold), dice (their mean) and, if any, dice_lo, dice_hi. Returns the Figure.
    """
    _check_table(table, ["detector", "strength"], ["flagged", "dice"])
    look = {"figsize": (9, 6.4), "sharex": True, "sharey": True, "layout": "constrained"}
    _, (top, bottom) = plt.subplots(2, 1, **look)
    plot_auc_against_strength(table, top).set_xlabel("")
    for index, (name, colour) in enumerate(_colours(table.detector, {}).items()):
        rows = table[table.detector == name].sort_values("strength")
        label = f"flagged: {name}"
        bottom.plot(rows.strength, rows.flagged, MARKERS[index % 7] + "--", c=colour, label=label)
    if "dice_lo" in rows:
        bottom.fill_between(rows.strength, rows.dice_lo, rows.dice_hi, color="0.5", alpha=0.3, lw=0)
    bottom.plot(rows.strength, rows.dice, "ko-", label="mean Dice")
    return _finished(bottom, LABELS["strength"], "Dice; share (0 to 1)", **OUTSIDE).figure


def plot_calibration_summary(table, metrics=("nll", "brier", "ece")):
    """Draw mean and interval of each metric, method and loss, and the oracle's mean as a line.

    `table` has the columns loss, method, metric, mean, lo, hi and, if any, interval ("cases" or
    "mean", one of them). No method can beat the oracle except by chance.
    """
    _check_table(table, ["loss", "method", "metric"], ["mean", "lo", "hi"])
    for metric in metrics:
        check_choice("metrics", metric, list(table.metric.unique()))
    factors, is_oracle = table.metric.map(FACTORS).fillna(1), table.method == "oracle"
    table = table.assign(**table[["mean", "lo", "hi"]].mul(factors, axis=0))
    losses = _colours(table.loss[~is_oracle], LOSS_COLOURS)
    methods = list(_colours(table.method[~is_oracle], METHOD_COLOURS))
    panels = _new_panels(len(metrics), height=1.8 + 0.5 * len(methods), sharey=True)
    for axes, metric in zip(panels, metrics, strict=True):
        for index, (loss, colour) in enumerate(losses.items()):
            rows = table[(table.metric == metric) & (table.loss == loss) & ~is_oracle]
            level = rows.method.map(methods.index) + 0.5 * (index + 0.5) / len(losses) - 0.25
            axes.hlines(level, rows.lo, rows.hi, color=colour, lw=2)
            axes.plot(rows["mean"], level, MARKERS[index % 7], color=colour, label=loss)
        for oracle in table["mean"][(table.metric == metric) & is_oracle].unique():
            axes.axvline(oracle, ls="--", color="black", label="oracle")
        n_left_out = table["mean"][table.metric == metric].isna().sum()
        _finished(axes, LABELS.get(metric, metric), "", n_left_out).set_xlim(left=0)
        axes.get_legend().remove()
    panels[0].set_yticks(range(len(methods)), labels=[NAMES.get(name, name) for name in methods])
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    kind = {"cases": "95 % of the cases", "mean": "95 % CI of the mean"}
    title = kind.get(table.interval.iloc[0]) if "interval" in table else None
    _draw_legend(panels[0].figure, panels[0], title=title, loc="outside lower center", ncols=4)
    return panels[0].figure


def _check_table(table, keys, values):
    """Refuse a table that has no rows, or is wrong as `check_columns` says."""
    check_columns(table, keys, values)
    if table.empty:
        raise wrong_input("table", "no rows", f"rows with the columns {[*keys, *values]}")


def _finite(table, *columns):
    """Return the rows in which all `columns` are finite numbers."""
    return table[np.isfinite(table[list(columns)].astype(float)).all(axis=1)]


def _colours(names, fixed):
    """Map each name that occurs, those of `fixed` first, to its colour."""
    others = [name for name in dict.fromkeys(names) if name not in fixed]
    spare = [c for c in sns.color_palette("colorblind").as_hex() if c not in fixed.values()]
    cycled = {name: spare[index % len(spare)] for index, name in enumerate(others)}
    return {name: colour for name, colour in fixed.items() if name in set(names)} | cycled


def _new_panels(n_panels, height=4, sharey=False):
    """Return the Axes of a new figure side by side, at most 10 inches wide."""
    look = {"figsize": (8 if n_panels == 1 else 10, height), "layout": "constrained"}
    return plt.subplots(1, n_panels, sharey=sharey, squeeze=False, **look)[1][0]


def _draw_methods(table, column, metric, axes, xlabel, **view):
    """Draw `metric` against `column`, one colour a method and one dash a loss, if there is one."""
    style = "loss" if "loss" in table else None
    _check_table(table, ["method", column, *filter(None, [style])], [metric])
    rows, axes = _finite(table, column, metric), axes or _new_panels(1)[0]
    rows = rows.assign(**{metric: FACTORS.get(metric, 1) * rows[metric]})
    palette = _colours(rows.method, METHOD_COLOURS) or None
    look = {"hue": "method", "style": style, "palette": palette, "marker": "o", "errorbar": None}
    sns.lineplot(rows, x=column, y=metric, ax=axes, **look)
    axes.set(**view)
    return _finished(axes, xlabel, LABELS[metric], len(table) - len(rows), **OUTSIDE)


def _finished(axes, horizontal, vertical, n_left_out=0, why="undefined", **place):
    """Label the axes, say how many values could not be drawn, and name what was."""
    note = f"\n({n_left_out} {why} left out)" if n_left_out else ""
    axes.set(xlabel=horizontal + note, ylabel=vertical)
    axes.minorticks_off()
    _draw_legend(axes, axes, **place)
    return axes


def _draw_legend(owner, axes, **place):
    """Give `owner`, an Axes or a Figure, the legend of `axes` with each name once."""
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    if handles:
        names = [NAMES.get(name, name.replace("_", " ")) for name in handles]
        owner.legend(handles.values(), names, **place)
