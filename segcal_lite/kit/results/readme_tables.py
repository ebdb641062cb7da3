"""The tables of numbers in ``README.md`` and ``results/README.md``, from files in ``results/``."""

from functools import partial

from ...runs.folders import project_root
from ...runs.tables import read_table
from .claims_tables import ledger_table, parts_table, summary_table
from .heart_tables import heart_table, heart_whole_table, scores_of, sweep_table
from .published import fill_readme, listed, markdown_table, spread
from .run_tables import runs_table
from .story_tables import floor_of_sets_table, floor_table, story_table, verdicts_table
from .volume_tables import organs_table, unseen_table, volumes_table


def claims_table():
    """The papers' claims in a number each, means only, on phantoms and on real volumes."""
    folder = project_root() / "results"
    header = ["claim of paper A or B", "phantoms", "real volumes"]
    return markdown_table(header, [*_claims_of_a(folder), *_claims_of_b(folder)])


def _claims_of_a(folder):
    """Of Dice models: ECE in the box, and the ensemble's segment entropy against logit Dice."""
    story = read_table(folder / "story.csv")
    before, after = (listed(100 * story[f"ece_{kind}"], 1) for kind in ("members", "ensemble"))
    hearts = 100 * scores_of(folder / "acdc", "box")["mean"]["dice"]
    hearts = f"{hearts['baseline', 'ece']:.1f} -> {hearts['ensemble', 'ece']:.1f}"
    yield "A: ECE in %, members -> their ensemble", f"{before} -> {after}", hearts
    methods = read_table(folder / "acdc" / "segment_entropy_methods.csv")
    pearson_r = methods.set_index(["loss", "method"]).pearson_r["dice", "ensemble"]
    parts = read_table(folder / "claims_parts.csv").set_index(["claim", "run", "part"])
    of_more = parts.value["A8", "results/acdc_gpu", "r, dice"]
    n_members = read_table(folder / "acdc_gpu" / "scores.csv.gz").n_members.max()
    title = "A: segment entropy and logit Dice, r"
    real = f"{pearson_r:.2f}; of {n_members} members: {of_more:.2f}"
    yield title, listed(story.entropy_pearson_r), real


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


def coverage_table():
    """How often intervals of 95 % hold the mean of simulated studies, ours and A's."""
    measured = read_table(project_root() / "results" / "coverage.csv")
    held = measured.set_index(["statistic", "method", "data", "sizes"]).sort_index()
    sizes = sorted(measured.sizes[measured.statistic == "mean"].unique(), key=int)
    header = ["intervals of 95 % hold the mean in %, of studies of"]
    header += [f"{n} patients" for n in sizes]
    titles = {
        ("mean", "package"): "studentised",
        ("mean", "percentile, n = 100 (A)"): "A's percentiles, n = 100",
        ("members x patients", "package"): "studentised, six networks too",
    }
    rows = [
        [f"{title}, {data} values"]
        + [f"{held.coverage_percent[(*of, data, n)]:.0f}" for n in sizes]
        for data in ("normal", "lognormal")
        for of, title in titles.items()
    ]
    made = measured[measured.statistic == "mean"].iloc[0]
    n_studies = " or ".join(map(str, sorted({held.n_repetitions[of].max() for of in titles})))
    source = f"{n_studies} studies each, seed {made.seed}, commit {made.commit}"
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
        "floor_of_sets": floor_of_sets_table,
        "verdicts_of_sets": partial(verdicts_table, "story_claims_volumes"),
        "volumes": volumes_table,
        "heart": heart_table,
        "heart_gpu": partial(heart_table, "acdc_gpu"),
        "heart_whole": heart_whole_table,
        "sweep": sweep_table,
        "runs": runs_table,
        "organs": organs_table,
        "organs_two_flat": partial(organs_table, "three_organs_two_flat"),
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
