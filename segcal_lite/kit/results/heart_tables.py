"""The READMEs' tables on ACDC beside what paper A prints for the heart, from ``results/``."""

from ...experiments.claims.paper_a import LOSSES, METHODS
from ...experiments.claims.printed import METRICS
from ...runs.folders import project_root
from ...runs.tables import read_table
from .published import NOT_RUN, interval, intervals, listed, markdown_table, source_of

TITLES = {"nll": "NLL", "brier": "Brier", "ece_percent": "ECE %"}  # of the printed columns
SEGMENTS = ("RV", "MYO", "LV")  # the printed columns end in 1, 2, 3


def heart_table(name="acdc"):
    """A's Table II: scores in dilated boxes, and the Dice of each segment."""
    folder = project_root() / "results" / name
    if not folder.exists():
        return NOT_RUN
    dice = of_segments(folder, "dice")
    scores = scores_of(folder, "box"), _printed("mehrtash_table2_boxes_and_dice")
    printed = scores[1].filter(regex=r"^dice_\d$")
    table = _beside(*scores, dice, printed, "Dice", digits=2)
    mean = f"Mean Dice of the Dice ensemble: {dice.loc[('dice', 'ensemble')].mean():.3f}."
    return f"{table}\n{mean} {source_of(folder)}\n"


def heart_whole_table():
    """A's Tables S1 and S2: scores of whole volumes, and the HD95 of each segment."""
    folder = project_root() / "results" / "acdc_gpu"
    if not folder.exists():
        return NOT_RUN
    printed = _printed("mehrtash_s2_hd95_mm").filter(regex=r"^hd95_\d$")
    scores = scores_of(folder, "whole"), _printed("mehrtash_s1_whole_volume")
    table = _beside(*scores, of_segments(folder, "hd95_mm"), printed, "HD95 in mm", digits=1)
    return f"{table}\n{source_of(folder)}\n"


def sweep_table():
    """NLL and Dice of ensembles of M members drawn from the larger pool, A's Figs. 2 and S4."""
    folder = project_root() / "results" / "acdc_gpu"
    if not folder.exists():
        return NOT_RUN
    summary = read_table(folder / "sweep_summary.csv")
    summary = summary[(summary.region == "box") & (summary.interval == "mean")]
    found = summary.set_index(["metric", "loss", "n_members"])[["mean", "lo", "hi"]].sort_index()
    sizes = sorted(summary.n_members.unique())
    rows = [
        [f"{title}, {loss}", *intervals(found.loc[metric, loss].loc[sizes])]
        for metric, title in (("nll", "NLL in the box"), ("dice", "mean Dice"))
        for loss in LOSSES
    ]
    header = ["mean with its 95 % interval", *(f"M = {size}" for size in sizes)]
    return f"{markdown_table(header, rows)}\n{source_of(folder)}\n"


def scores_of(folder, region):
    """Return mean, lo and hi of the cases' scores by loss, method and metric."""
    summary = read_table(folder / "calibration_summary.csv")
    summary = summary[(summary.region == region) & (summary.interval == "cases")]
    return summary.set_index(["loss", "method", "metric"])[["mean", "lo", "hi"]].sort_index()


def of_segments(folder, metric):
    """Return the mean of each segment, a row a loss and method, by a summary or as 03 shows it."""
    path = folder / "segmentation_summary.csv"
    if path.exists():
        means = read_table(path).query("metric == @metric and interval == 'cases'")
        return means.pivot(index=["loss", "method"], columns="segment", values="mean")[[*SEGMENTS]]
    shown = read_table(folder / "calibration.csv").set_index(["loss", "method"])
    shown = shown[shown.index.isin(METHODS, level="method")]
    name = {"dice": "Dice {}", "hd95_mm": "HD95 {} (mm)"}[metric]
    shown = shown[[name.format(segment) for segment in SEGMENTS]]
    return shown.map(lambda cell: float(cell.split()[0]))  # "0.83 (0.57 to 0.92) *"


def _printed(name):
    """Return the heart's rows of a table of paper A, by loss and method."""
    printed = read_table(project_root() / "results" / "papers" / f"{name}.csv")
    printed = printed[printed.task == "heart"].assign(loss=printed.loss.str.lower())
    return printed.set_index(["loss", "method"])


def _beside(ours, printed, segments, printed_segments, title, digits):
    """Return a Markdown table: each score with its interval, then each segment, ours and theirs."""
    header, rows = ["loss, method"], []
    for name in TITLES.values():
        header += [f"{name} ours", "paper"]
    header += [f"{title} of {', '.join(SEGMENTS)}, ours", "paper"]
    for key in ((loss, method) for loss in LOSSES for method in METHODS):
        cells = [", ".join(key)]
        for column, (metric, unit) in METRICS.items():
            theirs = printed.loc[key, [column, f"{column}_lo", f"{column}_hi"]]
            cells += [interval(*ours.loc[key].loc[metric] / unit), interval(*theirs)]
        cells += [listed(table.loc[key], digits) for table in (segments, printed_segments)]
        rows.append(cells)
    return markdown_table(header, rows)
