"""Phantoms, whose posterior is known: how far above it each method stays.

No probabilities have a lower expected NLL or Brier score than the posterior: its scores are the
floor, not 0. ECE has none in theory, but that of the posterior shows what so few voxels leave.
"""

from ...experiments.claims.paper_a import CALIBRATION, LOSSES, cells
from ...statistics import mean_interval
from .phantom_runs import rows_of_hearts

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
            row = {"loss": loss, "method": method}
            for name in CALIBRATION:
                values = cells(scores, loss, method, name)
                above, lo, hi = mean_interval(values.sub(floor[name], axis="columns").to_numpy())
                row["n_test"] = values.shape[1]
                row |= {f"{name}_floor": floor[name].mean(), f"{name}_above": above}
                row |= {f"{name}_lo": lo, f"{name}_hi": hi}
            rows.append(row | {"holds": row["nll_hi"] > 0 and row["brier_hi"] > 0})
    return rows


def tell_floor(out, seeds, report=print):
    """`floor_rows` for each seed, of a longer run, on the domain that it was trained on."""
    return rows_of_hearts(out, seeds, report, lambda _, scores: floor_rows(scores[scores.known]))
