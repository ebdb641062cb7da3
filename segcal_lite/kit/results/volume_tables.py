"""The READMEs' tables on paper B's networks of volumes, from files in ``results/``."""

import pandas as pd

from ...runs.folders import project_root
from ...runs.tables import find_table, read_table
from ...training.plans import AND, THEN
from .published import (
    NOT_RUN,
    intervals,
    listed,
    made_by,
    markdown_table,
    or_dash,
    source_of,
    spread,
)


def volumes_table():
    """AUC on each unseen set over several seeds as a Markdown table."""
    story = read_table(project_root() / "results" / "story_volumes.csv")
    shown = ("shuffled", "Mahalanobis", "uncertainty", "intensities", "voxels")
    keys = ("spectral_shuffled", "mahalanobis", "uncertainty", "intensities", "voxel_count")
    header = ["trial", "unseen set", "spectral AUC, a seed each", "with a floor of 1 %"]
    header += [*shown, "Dice known / unseen", "flagged"]
    lines = []
    for (trial, name), rows in story.groupby(["trial", "unseen"], sort=False):
        cells = [trial, name, listed(rows.auc_spectral), listed(rows.auc_spectral_floor)]
        cells += [spread(rows.get(f"auc_{key}")) for key in keys]
        cells += [f"{rows.dice_known.mean():.2f} / {rows.dice_unseen.mean():.2f}"]
        lines.append([*cells, f"{rows.flagged.mean():.0%}"])
    return f"{markdown_table(header, lines)}\n{made_by(story)}\n"


def organs_table(name="three_organs"):
    """Dice and ECE on every real set, by what the network was trained on (B, Tables II, III)."""
    folder = project_root() / "results" / name
    if not folder.exists():
        return NOT_RUN
    differences = read_table(folder / "joint_differences.csv").set_index(["metric", "set"])
    sets = differences.loc["dice"].index
    paths = filter(None, (find_table(folder, name) for name in ("joint", "transfer")))
    scores = pd.concat(map(read_table, paths))
    scores = scores.groupby(["training", "set", "metric"], sort=False).value.mean()
    rows = []
    for training in scores.index.unique("training"):
        if training in (*sets, AND.join(sets)):
            continue  # the dedicated and the joint network once more
        cells = [training.replace(THEN, " > ")]
        for of in sets:
            dice, ece = (scores.loc[training, of, metric] for metric in ("dice", "ece_box"))
            cells.append(f"{dice:.2f}, {100 * ece:.1f} %")
            if training == "joint":
                change = differences.loc["dice", of]
                cells[-1] += f" ({change.difference:+.3f}; {change.lo:+.3f} to {change.hi:+.3f})"
        rows.append(cells)
    return f"{markdown_table(['trained on', *sets], rows)}\n{source_of(folder)}\n"


def unseen_table(name="three_organs"):
    """AUC of every detector on real sets that a network never saw (B, Tables IV-VI)."""
    folder = project_root() / "results" / name
    if not (folder / "ood_volumes_images.csv").exists():
        return NOT_RUN
    areas = read_table(folder / "ood_volumes.csv").set_index(["detector", "trial"])
    failure = read_table(folder / "ood_volumes_failure.csv")
    unseen = failure[~failure.known].set_index("trial")
    rows = []
    for detector in areas.index.unique("detector"):
        of_detector = areas.loc[detector].loc[unseen.index, ["auc", "lo", "hi"]]
        rows.append([f"AUC, {detector.replace('_', ' ')}", *intervals(of_detector)])
    by_detector = read_table(folder / "ood_volumes_images.csv").groupby("detector")
    images, rival = (
        by_detector.get_group(name).set_index(["trial", "set"]).loc[unseen.set.items()]
        for name in ("spectral", "segment_entropy")
    )
    rank_correlation = ["rho", "lo", "hi"]
    rows += [
        ["images", *unseen.n.astype(str)],
        ["Dice there", *intervals(unseen[["dice", "lo", "hi"]])],
        ["flagged at C = 2.5", *unseen.flagged.map("{:.0%}".format)],
        ["Dice of the flagged", *images.dice_flagged.map(or_dash)],
        ["Dice of those that pass", *images.dice_passing.map(or_dash)],
        ["rank correlation, OODM and Dice", *intervals(images[rank_correlation])],
        ["rank correlation, segment entropy and Dice", *intervals(rival[rank_correlation])],
    ]
    return f"{markdown_table(['', *unseen.set], rows)}\n{source_of(folder)}\n"
