"""Take a run's tables and figures over into ``results/`` and the README, with their provenance."""

import shutil

import pandas as pd

from ._checks import wrong_input
from .runs import project_root, read_json, write_json, written_aside

METHODS = ("baseline", "mc_dropout", "ensemble")
COLUMNS = {"nll": "NLL", "brier": "Brier", "ece_percent": "ECE %"}


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
    target = project_root() / "results" / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in files:
        shutil.copy(path, target / path.name)
    settings = read_json(run / "run.json") | read_json(run / "provenance.json")
    write_json(target / "provenance.json", settings)
    return [target / path.name for path in files]


def fill_readme(readme):
    """Rewrite the README's tables from ``results/``, between their comment marks.

    ``<!-- table NAME -->`` ... ``<!-- end -->`` holds what the function ``NAME_table`` returns.

    Returns
    -------
    path
    """
    text = readme.read_text(encoding="utf-8")
    for name, table in (("story", story_table()), ("heart", heart_table())):
        head, tail = f"<!-- table {name} -->\n", "<!-- end -->"
        before, _, rest = text.partition(head)
        _, _, after = rest.partition(tail)
        text = before + head + table + tail + after
    with written_aside(readme) as partial:
        partial.write_text(text, encoding="utf-8")
    return readme


def story_table():
    """The smoke run's claims on several seeds as a Markdown table."""
    story = pd.read_csv(project_root() / "results" / "story.csv")
    lines = [
        "| seed | ECE % members -> ensemble (difference, 95 % CI) | NLL best member -> ensemble "
        "| gap to oracle, member -> ensemble | entropy: r, p | spectral AUC (95 % CI) |",
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
            f"| {row.entropy_pearson_r:.2f}, {row.entropy_pearson_p:.0e} "
            f"| {row.spectral_auc:.2f} ({row.spectral_auc_lo:.2f} to {row.spectral_auc_hi:.2f}), "
            f"{row.spectral_n_source} + {row.spectral_n_shifted} cases |"
        )
    made = story.iloc[0]
    source = f"Commit {made.commit}, {made.date}, torch {made.torch}, {made.processor}."
    return "\n".join(lines) + f"\n\n{source}\n"


def heart_table():
    """Our ACDC numbers beside the paper's, in dilated boxes; what is absent is said."""
    folder = project_root() / "results"
    if not (folder / "acdc").exists():
        return "Not run yet: see `results/`.\n"
    ours = pd.read_csv(folder / "acdc" / "calibration_summary.csv")
    ours = ours[(ours.region == "box") & (ours.interval == "cases")]
    paper = pd.read_csv(folder / "papers" / "mehrtash_table2_boxes_and_dice.csv")
    paper = paper[paper.task == "heart"]
    lines = [
        "| loss, method | NLL ours | paper | Brier ours | paper | ECE % ours | paper |",
        "|---|---|---|---|---|---|---|",
    ]
    for loss in ("ce", "dice"):
        for method in METHODS:
            cells = [f"{loss}, {method}"]
            printed = paper[(paper.loss.str.lower() == loss) & (paper.method == method)].iloc[0]
            for column in COLUMNS:
                metric, factor = column.removesuffix("_percent"), 100 if "percent" in column else 1
                row = ours[(ours.loss == loss) & (ours.method == method)]
                row = row[row.metric == metric].iloc[0]
                mean, lo, hi = (factor * row[name] for name in ("mean", "lo", "hi"))
                cells.append(f"{mean:.2f} ({lo:.2f} to {hi:.2f})")
                lo, hi = printed[f"{column}_lo"], printed[f"{column}_hi"]
                cells.append(f"{printed[column]:.2f} ({lo:.2f} to {hi:.2f})")
            lines.append("| " + " | ".join(cells) + " |")
    made = read_json(folder / "acdc" / "provenance.json")
    commits = ", then ".join([made["commit"], *made.get("later_commits", [])])
    source = f"Seed {made['seed']}, {made['profile']} profile, commit {commits}, "
    return "\n".join(lines) + f"\n\n{source}{made['date']}, {made['processor']}.\n"
