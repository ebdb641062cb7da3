"""How all figures look, names as they are written, and axes that are logarithmic."""

import seaborn as sns
from matplotlib.ticker import LogLocator, NullFormatter


def use_style():
    """Set fonts, grid and colours of all later figures; once, at the head of a notebook."""
    rc = {"figure.figsize": (7, 4), "figure.dpi": 100, "legend.fontsize": 10}
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=rc)


def literal(name):
    r"""Return a name that Matplotlib writes as it is.

    Between two ``$`` it would read a formula, and an underscore in front hides from the legend.

    >>> print(literal("p$1_$2"), literal("_core"))
    p\$1_\$2  _core
    """
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name


def use_log_scale(axes, which):
    """Make the axis ``"x"`` or ``"y"`` logarithmic, with plain numbers beside its ticks.

    Call it last: over less than three decades there are ticks at 1, 2 and 5 of each, else at 1.
    """
    axes.set(**{f"{which}scale": "log"})
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    low, high = sorted(axis.get_view_interval())
    ticks = LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,))
    axis.set(major_locator=ticks, major_formatter="{x:g}", minor_formatter=NullFormatter())
