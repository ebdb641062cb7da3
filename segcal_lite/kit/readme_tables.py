"""The README's tables of numbers, each from files under ``results/``."""

import pandas as pd

from ..runs.folders import project_root, read_json, read_table

METHODS = ("baseline", "mc_dropout", "ensemble")
COLUMNS = ("nll", "brier", "ece_percent")


def story_table():
    """The smoke run's claims on several seeds as a Markdown table."""
    story = read_table(project_root() / "results" / "story.csv")
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
    story = read_table(project_root() / "results" / "story_volumes.csv")
    shown = ("shuffled", "Mahalanobis", "uncertainty", "intensities", "voxels")
    keys = ("spectral_shuffled", "mahalanobis", "uncertainty", "intensities", "voxel_count")
    lines = [
        "| trial | unseen set | spectral AUC, a seed each | with a floor of 1 % | "
        + " | ".join(shown)
        + " | Dice known / unseen | flagged |",
        "|---" * (6 + len(shown)) + "|",
    ]
    for (trial, name), rows in story.groupby(["trial", "unseen"], sort=False):
        areas = (rows.auc_spectral, rows.auc_spectral_floor)
        cells = [trial, name, *(", ".join(f"{area:.2f}" for area in seeds) for seeds in areas)]
        cells += [_range(rows.get(f"auc_{key}")) for key in keys]
        cells += [f"{rows.dice_known.mean():.2f} / {rows.dice_unseen.mean():.2f}"]
        lines.append("| " + " | ".join([*cells, f"{rows.flagged.mean():.0%}"]) + " |")
    return "\n".join(lines) + f"\n\n{_made(story)}\n"


def _range(values):
    """Smallest and largest of some numbers, and how many there are if some are missing."""
    if values is None or values.isna().all():
        return "none"
    missing = f" (n = {values.count()})" if values.isna().any() else ""
    ends = [f"{value:.2f}" for value in (values.min(), values.max())]
    return "-".join(dict.fromkeys(ends)) + missing


def _made(story):
    """Where a table of several seeds comes from."""
    parts = []
    for key, rows in story.groupby(["commit", "date", "torch", "processor"], sort=False):
        seeds = ", ".join(map(str, rows.seed.unique()))
        parts.append("Seeds {}: commit {}, {}, torch {}, {}.".format(seeds, *key))
    return " ".join(parts)


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
    summary = read_table(folder / "acdc" / "calibration_summary.csv")
    summary = summary[(summary.region == "box") & (summary.interval == "cases")]
    ours = summary.set_index(["loss", "method", "metric"])[["mean", "lo", "hi"]].sort_index()
    dice = read_table(folder / "acdc" / "calibration.csv").set_index(["loss", "method"])
    dice = dice[dice.index.isin(METHODS, level="method")].filter(like="Dice ")
    dice = dice.map(lambda cell: float(cell.split()[0]))  # "0.83 (0.57 to 0.92) *"
    paper = read_table(folder / "papers" / "mehrtash_table2_boxes_and_dice.csv")
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
    made = made.get("joint", {}) | made
    commits = ", then ".join([made["commit"], *made.get("later_commits", [])])
    run = f"Seed {made['seed']}, {made['profile']} profile, commit {commits}"
    return f"{run}, {made['date']}, {made['processor']}."


def organs_table():
    """Dice and ECE on every real set, by what the network was trained on (B, Tables II, III)."""
    folder = project_root() / "results" / "three_organs"
    if not folder.exists():
        return "Not run yet: see `results/`.\n"
    names = read_table(folder / "joint_differences.csv").set_index(["metric", "set"])
    sets = names.loc["dice"].index
    scores = _read_long(folder, "joint"), _read_long(folder, "transfer")
    scores = pd.concat(scores).groupby(["training", "set", "metric"], sort=False).value.mean()
    lines = ["| trained on | " + " | ".join(sets) + " |", "|---" * (1 + len(sets)) + "|"]
    for training in scores.index.unique("training"):
        if training in (*sets, "+".join(sets)):
            continue  # the dedicated and the joint network once more
        cells = [training.replace("-then-", " > ")]
        for name in sets:
            dice, ece = (scores.loc[training, name, metric] for metric in ("dice", "ece_box"))
            cells.append(f"{dice:.2f}, {100 * ece:.1f} %")
            if training == "joint":
                change = names.loc[("dice", name)]
                cells[-1] += f" ({change.difference:+.3f}; {change.lo:+.3f} to {change.hi:+.3f})"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{_source(folder)}\n"


def _read_long(folder, name):
    """A long table of `publish`, compressed or not."""
    path = folder / f"{name}.csv"
    return read_table(path if path.exists() else folder / f"{name}.csv.gz")


def unseen_table():
    """AUC of every detector on real sets that the joint network never saw (B, Tables IV-VI)."""
    folder = project_root() / "results" / "three_organs"
    if not (folder / "ood_volumes_images.csv").exists():
        return "Not run yet: see `results/`.\n"
    areas = read_table(folder / "ood_volumes.csv").set_index(["detector", "trial"])
    failure = read_table(folder / "ood_volumes_failure.csv")
    unseen = failure[~failure.known].set_index("trial")
    lines = ["| | " + " | ".join(unseen.set) + " |", "|---" * (1 + len(unseen)) + "|"]
    for detector in areas.index.unique("detector"):
        cells = [f"AUC, {detector.replace('_', ' ')}"]
        for row in areas.loc[detector].loc[unseen.index].itertuples():
            cells.append(f"{row.auc:.2f} ({row.lo:.2f} to {row.hi:.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    by_detector = read_table(folder / "ood_volumes_images.csv").groupby("detector")
    images, rival = (
        by_detector.get_group(name).set_index(["trial", "set"]).loc[unseen.set.items()]
        for name in ("spectral", "segment_entropy")
    )
    dice = [f"{row.dice:.2f} ({row.lo:.2f} to {row.hi:.2f})" for row in unseen.itertuples()]
    rho, rival_rho = (
        [f"{row.rho:.2f} ({row.lo:.2f} to {row.hi:.2f})" for row in table.itertuples()]
        for table in (images, rival)
    )
    lines += [
        "| images | " + " | ".join(unseen.n.astype(str)) + " |",
        "| Dice there | " + " | ".join(dice) + " |",
        "| flagged at C = 2.5 | " + " | ".join(unseen.flagged.map("{:.0%}".format)) + " |",
        "| Dice of the flagged | " + " | ".join(images.dice_flagged.map(_or_dash)) + " |",
        "| Dice of those that pass | " + " | ".join(images.dice_passing.map(_or_dash)) + " |",
        "| rank correlation, OODM and Dice | " + " | ".join(rho) + " |",
        "| rank correlation, segment entropy and Dice | " + " | ".join(rival_rho) + " |",
    ]
    return "\n".join(lines) + f"\n\n{_source(folder)}\n"


def coverage_table():
    """How often intervals of 95 % hold the mean of simulated studies, ours and A's."""
    measured = read_table(project_root() / "results" / "coverage.csv")
    measured = measured[measured.statistic == "mean"].astype({"sizes": int})
    held = measured.set_index(["method", "data", "sizes"]).coverage_percent
    sizes = sorted(measured.sizes.unique())
    lines = [
        "| intervals of 95 % hold the mean in %, of studies of | "
        + " | ".join(f"{n} patients" for n in sizes)
        + " |",
        "|---" * (1 + len(sizes)) + "|",
    ]
    methods = {"package": "studentised", "percentile, n = 100 (A)": "A's percentiles, n = 100"}
    for data in ("normal", "lognormal"):
        for method, title in methods.items():
            cells = [f"{held[method, data, n]:.0f}" for n in sizes]
            lines.append(f"| {title}, {data} values | " + " | ".join(cells) + " |")
    made = measured.iloc[0]
    source = f"{made.n_repetitions} studies each, seed {made.seed}, commit {made.commit}"
    return "\n".join(lines) + f"\n\n{source}, {made.date}, {made.processor}.\n"


def _or_dash(value):
    """A number with two digits, or a dash for none."""
    return "-" if pd.isna(value) else f"{value:.2f}"


TABLES = {
    "story": story_table,
    "volumes": volumes_table,
    "heart": heart_table,
    "organs": organs_table,
    "unseen": unseen_table,
    "coverage": coverage_table,
}
