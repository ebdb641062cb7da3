"""Phantoms, whose posterior is known: how far above it each method stays.

No probabilities have a lower expected NLL or Brier score than the posterior: its scores are the
floor, not 0. ECE has none in theory, but that of the posterior shows what so few voxels leave.
"""

from ...data.tasks import EIGHT_SETS
from ...experiments.claims.paper_a import CALIBRATION, LOSSES, cells
from ...experiments.claims.paper_b import TRAININGS, by_patient
from ...experiments.set_scores import joint_scores, oracle_scores
from ...statistics import mean_interval
from .phantom_runs import rows_of_hearts, rows_of_sets

METHODS = ("baseline", "temperature", "vector_scaling", "mc_dropout", "ensemble")


def floor_rows(scores):
    """Return a dict for each loss and method: mean scores in the box above those of the posterior.

    `scores` are of test cases of one domain. ``<score>_above`` has a 95 % interval over patients,
    of single networks over networks as well; ``holds`` is false where a method lies below the
    floor, which only one can do that has seen the answer.
    """
    rows = []
    for loss in LOSSES:
        floor = {name: cells(scores, loss, "oracle", name).loc[0] for name in CALIBRATION}
        for method in METHODS:
            values = {name: cells(scores, loss, method, name) for name in CALIBRATION}
            rows.append({"loss": loss, "method": method} | _above(values, floor))
    return rows


def floor_rows_of_sets(scores, oracle):
    """Return a dict for each set and training: what `floor_rows` says of a loss and method.

    `scores` and `oracle` are what `joint_scores` and `oracle_scores` return.
    """
    rows = []
    for name in dict.fromkeys(scores["set"]):
        asked = {metric: (name, f"{metric}_box") for metric in CALIBRATION}
        floor = {metric: by_patient(oracle, "oracle", *of) for metric, of in asked.items()}
        for training in TRAININGS:
            values = {m: by_patient(scores, training, *of).to_frame().T for m, of in asked.items()}
            rows.append({"set": name, "training": training} | _above(values, floor))
    return rows


def _above(values, floor):
    """Compare scores by name, networks by cases, with those of the posterior by case."""
    row = {}
    for name, of_networks in values.items():
        differences = of_networks.sub(floor[name], axis="columns").dropna(axis="columns")
        above, lo, hi = mean_interval(differences.to_numpy())
        row["n_test"] = differences.shape[1]
        row |= {f"{name}_floor": floor[name].mean(), f"{name}_above": above}
        row |= {f"{name}_lo": lo, f"{name}_hi": hi}
    return row | {"holds": row["nll_hi"] > 0 and row["brier_hi"] > 0}


def tell_floor(out, seeds, report=print):
    """`floor_rows` for each seed, of a longer run, on the domain that it was trained on."""
    return rows_of_hearts(out, seeds, report, lambda _, scores: floor_rows(scores[scores.known]))


def tell_floor_of_sets(out, seeds, report=print):
    """`floor_rows_of_sets` for each seed, of a longer run."""

    def rows_of(experiment):
        scores = joint_scores(experiment, EIGHT_SETS, report)
        return floor_rows_of_sets(scores, oracle_scores(experiment, EIGHT_SETS))

    return rows_of_sets(out, seeds, report, rows_of)
