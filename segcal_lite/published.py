"""Take a run's tables and figures over into ``results/`` and the README, with their provenance."""

import shutil

import pandas as pd

from ._checks import wrong_input
from .runs import project_root, read_json, write_json, written_aside

METHODS = ("baseline", "mc_dropout", "ensemble")
COLUMNS = ("nll", "brier", "ece_percent")


def publish(run, name):
    """Copy the tables and figures of a finished run to ``results/NAME``.

    Parameters
    ----------
    run : path
        A run folder whose notebooks were executed.
    name : str

    Returns
    -------
    list of path

    Raises
    ------
    ValueError
        If the run has no tables.
    """
    files = sorted((run / "tables").glob("*.csv")) + sorted((run / "figures").glob("*.png"))
    if not files:
        raise wrong_input(run, "no tables or figures", "a run whose notebooks were executed")
    record = read_json(run / "provenance.json")
    if (run / "run.json").exists():
        record = read_json(run / "run.json") | record
    if (run / "joint.json").exists():
        record["joint"] = read_json(run / "joint.json")
    target = project_root() / "results" / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in files:
        shutil.copy(path, target / path.name)
    write_json(target / "provenance.json", record)
    return [target / path.name for path in files]


def fill_readme(readme):
    """Rewrite the README's tables from ``results/``, between their comment marks.

    ``<!-- table NAME -->`` ... ``<!-- end -->`` holds what the function ``NAME_table`` returns.

    Returns
    -------
    path
    """
    text = readme.read_text(encoding="utf-8")
    tables = {"story": story_table, "volumes": volumes_table, "heart": heart_table}
    for name, table in tables.items():
        head, tail = f"<!-- table {name} -->\n", "<!-- end -->"
        before, _, rest = text.partition(head)
        _, _, after = rest.partition(tail)
        text = before + head + table() + tail + after
    with written_aside(readme) as partial:
        partial.write_text(text, encoding="utf-8")
    return readme


def story_table():
    """The smoke run's claims on several seeds as a Markdown table."""
    story = pd.read_csv(project_root() / "results" / "story.csv")
    lines = [
        "| seed | ECE % members -> ensemble (difference, 95 % CI) | NLL best member -> ensemble "
        "| gap to oracle, member -> ensemble | entropy: r (n segments) | spectral AUC (95 % CI) |",
        "|---|---|---|---|---|---|",
    ]
    for row in story.itertuples():
        ece = [100 * value for value in (row.ece_members, row.ece_ensemble)]
        change = (row.ece_difference, row.ece_difference_lo, row.ece_difference_hi)
        change = [100 * value for value in change]
        lines.append(
            f"| {row.seed} | {ece[0]:.2f} -> {ece[1]:.2f} "
            f"({change[0]:.2f}; {change[1]:.2f} to {change[2]:.2f}) "
            f"| {row.nll_best_member:.3f} -> {row.nll_ensemble:.3f} "
            f"| {row.nll_gap_members:.3f} -> {row.nll_gap_ensemble:.3f} "
            f"| {row.entropy_pearson_r:.2f} (n = {row.entropy_n}) "
            f"| {row.spectral_auc:.2f} ({row.spectral_auc_lo:.2f} to {row.spectral_auc_hi:.2f}), "
            f"{row.spectral_n_source} + {row.spectral_n_shifted} cases |"
        )
    return "\n".join(lines) + f"\n\n{_made(story)}\n"


def volumes_table():
    """AUC on each unseen set over several seeds as a Markdown table."""
    story = pd.read_csv(project_root() / "results" / "story_volumes.csv")
    shown = ("floor of 1 %", "shuffled", "Mahalanobis", "uncertainty", "intensities", "voxels")
    keys = ("spectral_floor", "spectral_shuffled", "mahalanobis", "uncertainty", "intensities")
    keys += ("voxel_count",)
    lines = [
        "| trial | unseen set | spectral AUC, a seed each | "
        + " | ".join(shown)
        + " | Dice known / unseen | flagged |",
        "|---" * (5 + len(shown)) + "|",
    ]
    for (trial, name), rows in story.groupby(["trial", "unseen"], sort=False):
        cells = [trial, name, ", ".join(f"{area:.2f}" for area in rows.auc_spectral)]
        cells += [_range(rows.get(f"auc_{key}")) for key in keys]
        cells += [f"{rows.dice_known.mean():.2f} / {rows.dice_unseen.mean():.2f}"]
        lines.append("| " + " | ".join([*cells, f"{rows.flagged.mean():.0%}"]) + " |")
    seeds = ", ".join(map(str, story.seed.unique()))
    return "\n".join(lines) + f"\n\nSeeds {seeds}. {_made(story)}\n"


def _range(values):
    """Smallest and largest of some numbers, and how many there are if some are missing."""
    if values is None or values.isna().all():
        return "none"
    missing = f" (n = {values.count()})" if values.isna().any() else ""
    return f"{values.min():.2f}-{values.max():.2f}{missing}"


def _made(story):
    """Where a table of several seeds comes from."""
    made = story.iloc[0]
    return f"Commit {made.commit}, {made.date}, torch {made.torch}, {made.processor}."


def heart_table():
    """Our ACDC numbers beside the paper's, in dilated boxes; what is absent is said."""
    folder = project_root() / "results"
    if not (folder / "acdc").exists():
        return "Not run yet: see `results/`.\n"
    ours, dice, paper = _heart_numbers(folder)
    names = ", ".join(column.removeprefix("Dice ") for column in dice)
    lines = [
        "| loss, method | NLL ours | paper | Brier ours | paper | ECE % ours | paper "
        f"| Dice of {names}, ours | paper |",
        "|---" * 9 + "|",
    ]
    for key in ((loss, method) for loss in ("ce", "dice") for method in METHODS):
        cells = [", ".join(key), *_scores_beside(ours.loc[key], paper.loc[key])]
        for row in (dice.loc[key], paper.loc[key, ["dice_1", "dice_2", "dice_3"]]):
            cells.append(", ".join(f"{value:.2f}" for value in row))
        lines.append("| " + " | ".join(cells) + " |")
    mean_dice = f"Mean Dice of the Dice ensemble: {dice.loc[('dice', 'ensemble')].mean():.3f}."
    return "\n".join(lines) + f"\n\n{mean_dice} {_source(folder / 'acdc')}\n"


def _heart_numbers(folder):
    """Our scores with intervals, our Dice of each segment, and the paper's printed rows."""
    summary = pd.read_csv(folder / "acdc" / "calibration_summary.csv")
    summary = summary[(summary.region == "box") & (summary.interval == "cases")]
    ours = summary.set_index(["loss", "method", "metric"])[["mean", "lo", "hi"]].sort_index()
    dice = pd.read_csv(folder / "acdc" / "calibration.csv").set_index(["loss", "method"])
    dice = dice[dice.index.isin(METHODS, level="method")].filter(like="Dice ")
    dice = dice.map(lambda cell: float(cell.split()[0]))  # "0.83 (0.57 to 0.92) *"
    paper = pd.read_csv(folder / "papers" / "mehrtash_table2_boxes_and_dice.csv")
    paper = paper[paper.task == "heart"].assign(loss=paper.loss.str.lower())
    paper = paper.set_index(["loss", "method"])
    return ours, dice, paper


def _scores_beside(ours, printed):
    """Cells of one row: each score with its interval, ours and then the printed one."""
    cells = []
    for column in COLUMNS:
        metric, factor = column.removesuffix("_percent"), 100 if "percent" in column else 1
        for mean, lo, hi in (
            factor * ours.loc[metric],
            printed[[column, f"{column}_lo", f"{column}_hi"]],
        ):
            cells.append(f"{mean:.2f} ({lo:.2f} to {hi:.2f})")
    return cells


def _source(folder):
    """Where the numbers in a folder of results come from."""
    made = read_json(folder / "provenance.json")
    commits = ", then ".join([made["commit"], *made.get("later_commits", [])])
    run = f"Seed {made['seed']}, {made['profile']} profile, commit {commits}"
    return f"{run}, {made['date']}, {made['processor']}."
