"""Phantoms, whose posterior is known: how far above it each method stays, and which claims hold.

No probabilities have a lower expected NLL or Brier score than the posterior: its scores are the
floor, not 0. ECE has none in theory, but that of the posterior shows what so few voxels leave.
"""

import pandas as pd

from ...experiments.claims.paper_a import CALIBRATION, LOSSES, cells, parts_of_a
from ...experiments.claims.rules import judge
from ...experiments.claims.statements import CLAIMS
from ...statistics import mean_interval
from .phantom_runs import runs_on_hearts

METHODS = ("baseline", "temperature", "vector_scaling", "mc_dropout", "ensemble")
SCALE = {"profile": "laptop", "n_members": 5}  # A6 asks for five networks


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


def claim_rows(scores, known_domains, task, seed=0):
    """Return a dict for each statistic of each claim of paper A that one run speaks of.

    ``verdict`` is that of the claim, ``of_part`` that of the statistic, and ``why`` says what keeps
    that from a conclusion.
    """
    found = parts_of_a(scores, known_domains, task, seed=seed)
    rows = []
    for claim in CLAIMS:
        verdict, judged = judge(claim, found.get(claim.name, []))
        for part in judged:
            row = {"claim": claim.name, "verdict": verdict, "part": part.name}
            row |= {key: getattr(part, key) for key in ("value", "lo", "hi", "n_cases")}
            rows.append(row | {"of_part": part.verdict, "why": part.why})
    return rows


def tell_floor(out, seeds, report=print):
    """`floor_rows` for each seed, of a run of `SCALE`, on the domain that it was trained on."""
    return _of_runs(out, seeds, report, lambda _, scores: floor_rows(scores[scores.known]))


def tell_claims(out, seeds, report=print):
    """`claim_rows` for each seed, of the same runs."""

    def rows_of(experiment, scores):
        of_run = experiment.known_domains, experiment.task.name, experiment.seed
        return claim_rows(scores, *of_run)

    return _of_runs(out, seeds, report, rows_of)


def _of_runs(out, seeds, report, rows_of):
    """Return a table of what `rows_of` makes of each run and of its scores."""
    rows = []
    for experiment in runs_on_hearts(out, seeds, report, **SCALE):
        made = {"seed": experiment.seed, **SCALE}
        rows += [made | row for row in rows_of(experiment, experiment.scores(report=report))]
    return pd.DataFrame(rows)
