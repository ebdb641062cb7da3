"""What several seeds of phantoms show, as tables for ``results/README.md``."""

from ...experiments.claims.rules import VERDICTS
from ...runs.folders import project_root
from ...runs.tables import read_table
from .published import interval, listed, made_by, markdown_table

UNITS = {"NLL": ("nll", 1, 3), "Brier": ("brier", 1, 3), "ECE %": ("ece", 100, 2)}  # and digits


def story_table():
    """The smoke run's claims on several seeds as a Markdown table."""
    story = read_table(project_root() / "results" / "story.csv")
    header = [
        "seed",
        "ECE % members -> ensemble (difference, 95 % CI)",
        "NLL best member -> ensemble",
        "gap to oracle, member -> ensemble",
        "entropy: r (n segments)",
        "spectral AUC (95 % CI)",
    ]
    rows = []
    for row in story.itertuples():
        ece = [100 * value for value in (row.ece_members, row.ece_ensemble)]
        change = (row.ece_difference, row.ece_difference_lo, row.ece_difference_hi)
        change = [100 * value for value in change]
        cells = [
            str(row.seed),
            f"{ece[0]:.2f} -> {ece[1]:.2f} ({change[0]:.2f}; {change[1]:.2f} to {change[2]:.2f})",
            f"{row.nll_best_member:.3f} -> {row.nll_ensemble:.3f}",
            f"{row.nll_gap_members:.3f} -> {row.nll_gap_ensemble:.3f}",
            f"{row.entropy_pearson_r:.2f} (n = {row.entropy_n})",
            f"{interval(row.spectral_auc, row.spectral_auc_lo, row.spectral_auc_hi)}, "
            f"{row.spectral_n_source} + {row.spectral_n_shifted} cases",
        ]
        rows.append(cells)
    return f"{markdown_table(header, rows)}\n{made_by(story)}\n"


def floor_table():
    """Scores of each loss and method above those of the true posterior, a seed each."""
    found = read_table(project_root() / "results" / "story_floor.csv")
    floor = found.groupby("seed", sort=False).first()
    rows = [["the posterior", *_of_posterior(floor)]]
    for pool, table in found.groupby(["loss", "method"], sort=False):
        rows.append([", ".join(pool), *_above(table)])
    header = ["loss, method", *UNITS]
    return f"{markdown_table(header, rows)}\n{made_by(found)}\n"


def floor_of_sets_table():
    """Scores of each set and training above those of the true posterior, a seed each."""
    found = read_table(project_root() / "results" / "story_floor_volumes.csv")
    rows = []
    for name, of_set in found.groupby("set", sort=False):
        floor = of_set.groupby("seed", sort=False).first()
        rows.append([name, "the posterior", *_of_posterior(floor)])
        for training, table in of_set.groupby("training", sort=False):
            rows.append(["", training, *_above(table)])
    return f"{markdown_table(['set', 'training', *UNITS], rows)}\n{made_by(found)}\n"


def _of_posterior(floor):
    """The posterior's own scores, a cell each, with a number for each seed."""
    return [listed(unit * floor[f"{name}_floor"], digits) for name, unit, digits in UNITS.values()]


def _above(table):
    """What lies above them, a cell each: a number for each seed, and the ends of all intervals."""
    cells = []
    for name, unit, digits in UNITS.values():
        above = listed(unit * table[f"{name}_above"], digits)
        ends = unit * table[f"{name}_lo"].min(), unit * table[f"{name}_hi"].max()
        cells.append("+ {} ({:.{d}f} to {:.{d}f})".format(above, *ends, d=digits))
    return cells


def verdicts_table(name="story_claims"):
    """How often each claim of a paper holds on these seeds."""
    found = read_table(project_root() / "results" / f"{name}.csv")
    of_claims = found.drop_duplicates(["seed", "claim"])
    counts = of_claims.groupby(["claim", "verdict"]).size().unstack(fill_value=0)
    verdicts = [verdict for verdict in VERDICTS if verdict in counts]
    counts = counts.loc[found.claim.unique(), verdicts]
    rows = [[claim, *map(str, own)] for claim, own in counts.iterrows()]
    return f"{markdown_table(['claim', *verdicts], rows)}\n{made_by(found)}\n"
