"""The tables of numbers in ``README.md`` and ``results/README.md``, from files in ``results/``."""

from functools import partial

from ...runs.folders import project_root
from ...runs.tables import read_table
from .claims_tables import ledger_table, parts_table, summary_table
from .published import (
    NOT_RUN,
    fill_readme,
    interval,
    intervals,
    listed,
    markdown_table,
    source_of,
    spread,
)
from .run_tables import METHODS, runs_table
from .story_tables import floor_table, story_table, verdicts_table
from .volume_tables import longer_table, organs_table, unseen_table, volumes_table

COLUMNS = ("nll", "brier", "ece_percent")


def claims_table():
    """The papers' claims in a number each, means only, on phantoms and on real volumes."""
    folder = project_root() / "results"
    header = ["claim of paper A or B", "phantoms", "real volumes"]
    return markdown_table(header, [*_claims_of_a(folder), *_claims_of_b(folder)])


def _claims_of_a(folder):
    """Of Dice models: ECE in the box, and the ensemble's segment entropy against logit Dice."""
    story = read_table(folder / "story.csv")
    before, after = (listed(100 * story[f"ece_{kind}"], 1) for kind in ("members", "ensemble"))
    hearts = 100 * _heart_numbers(folder)[0]["mean"]["dice"]
    hearts = f"{hearts['baseline', 'ece']:.1f} -> {hearts['ensemble', 'ece']:.1f}"
    yield "A: ECE in %, members -> their ensemble", f"{before} -> {after}", hearts
    methods = read_table(folder / "acdc" / "segment_entropy_methods.csv")
    pearson_r = methods.set_index(["loss", "method"]).pearson_r["dice", "ensemble"]
    title = "A: segment entropy and logit Dice, r"
    yield title, listed(story.entropy_pearson_r), f"{pearson_r:.2f}"


def _claims_of_b(folder):
    """AUC on unseen sets, of a rival and of a control as well, and the Dice of joint training."""
    story = read_table(folder / "story_volumes.csv")
    areas = read_table(folder / "three_organs" / "ood_volumes.csv").set_index("detector").auc
    for detector, title in (
        ("spectral", "B: AUC on sets never seen, spectral signature"),
        ("uncertainty", "the same, uncertainty"),
        ("spectral_shuffled", "the same, spectral signature of shuffled weights"),
    ):
        yield title, spread(story[f"auc_{detector}"]), listed(areas[detector])
    table = read_table(folder / "three_organs" / "joint_differences.csv")
    differences = listed(table[table.metric == "dice"].difference)
    yield "B: Dice of joint training minus dedicated", "-", differences


def heart_table(name="acdc"):
    """Our ACDC numbers beside the paper's, in dilated boxes; what is absent is said."""
    folder = project_root() / "results"
    if not (folder / name).exists():
        return NOT_RUN
    ours, dice, paper = _heart_numbers(folder, name)
    names = ", ".join(column.removeprefix("Dice ") for column in dice)
    header = ["loss, method", "NLL ours", "paper", "Brier ours", "paper", "ECE % ours", "paper"]
    header += [f"Dice of {names}, ours", "paper"]
    rows = []
    for key in ((loss, method) for loss in ("ce", "dice") for method in METHODS):
        printed = paper.loc[key, ["dice_1", "dice_2", "dice_3"]]
        scores = _scores_beside(ours.loc[key], paper.loc[key])
        rows.append([", ".join(key), *scores, listed(dice.loc[key]), listed(printed)])
    mean_dice = f"Mean Dice of the Dice ensemble: {dice.loc[('dice', 'ensemble')].mean():.3f}."
    return f"{markdown_table(header, rows)}\n{mean_dice} {source_of(folder / name)}\n"


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
        for loss in ("ce", "dice")
    ]
    header = ["mean with its 95 % interval", *(f"M = {size}" for size in sizes)]
    return f"{markdown_table(header, rows)}\n{source_of(folder)}\n"


def _heart_numbers(folder, name="acdc"):
    """Our scores with intervals, our Dice of each segment, and the paper's printed rows."""
    summary = read_table(folder / name / "calibration_summary.csv")
    summary = summary[(summary.region == "box") & (summary.interval == "cases")]
    ours = summary.set_index(["loss", "method", "metric"])[["mean", "lo", "hi"]].sort_index()
    segments = folder / name / "segmentation_summary.csv"
    if segments.exists():
        dice = read_table(segments).query("metric == 'dice' and interval == 'cases'")
        dice = dice.pivot(index=["loss", "method"], columns="segment", values="mean")
        dice = dice[["RV", "MYO", "LV"]].add_prefix("Dice ")
    else:
        dice = read_table(folder / name / "calibration.csv").set_index(["loss", "method"])
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
        both = factor * ours.loc[metric], printed[[column, f"{column}_lo", f"{column}_hi"]]
        cells += [interval(*numbers) for numbers in both]
    return cells


def coverage_table():
    """How often intervals of 95 % hold the mean of simulated studies, ours and A's."""
    measured = read_table(project_root() / "results" / "coverage.csv")
    measured = measured[measured.statistic == "mean"].astype({"sizes": int})
    held = measured.set_index(["method", "data", "sizes"]).coverage_percent
    sizes = sorted(measured.sizes.unique())
    header = ["intervals of 95 % hold the mean in %, of studies of"]
    header += [f"{n} patients" for n in sizes]
    methods = {"package": "studentised", "percentile, n = 100 (A)": "A's percentiles, n = 100"}
    rows = [
        [f"{title}, {data} values", *(f"{held[method, data, n]:.0f}" for n in sizes)]
        for data in ("normal", "lognormal")
        for method, title in methods.items()
    ]
    made = measured.iloc[0]
    source = f"{made.n_repetitions} studies each, seed {made.seed}, commit {made.commit}"
    return f"{markdown_table(header, rows)}\n{source}, {made.date}, {made.processor}.\n"


TABLES = {
    "README.md": {"ledger": summary_table},
    "results/README.md": {
        "ledger": ledger_table,
        "claims": claims_table,
        "parts": parts_table,
        "story": story_table,
        "floor": floor_table,
        "verdicts": verdicts_table,
        "volumes": volumes_table,
        "heart": heart_table,
        "heart_gpu": partial(heart_table, "acdc_gpu"),
        "sweep": sweep_table,
        "runs": runs_table,
        "organs": organs_table,
        "longer": longer_table,
        "unseen": unseen_table,
        "near_shifts": partial(unseen_table, "near_shifts"),
        "left_ventricle": partial(unseen_table, "left_ventricle"),
        "healthy_hearts": partial(unseen_table, "healthy_hearts"),
        "coverage": coverage_table,
    },
}


def fill_readmes(folder):
    """Rewrite the tables of numbers in `README.md` and `results/README.md`, below `folder`."""
    return [fill_readme(folder / name, tables) for name, tables in TABLES.items()]
