"""What the papers print for each part of a claim, and whether that supports their sentence.

Their tables hold means over cases and no case, so they go through the same arithmetic as ours as if
they were of one case: a value each, without an interval.
"""

import warnings

import numpy as np
import pandas as pd

from ...runs.folders import project_root
from ...runs.tables import read_table
from ...training.plans import THEN
from .paper_a import parts_of_a
from .paper_b import parts_of_b

CUTS = {"brain": 0.62, "heart": 0.44, "prostate": 0.66}  # A6; only the text has them
A_TABLES = "mehrtash_table2_boxes_and_dice", "mehrtash_s2_hd95_mm", "mehrtash_s3_3d_prostate"
B_TABLES = (
    *("karimi_table2_joint_vs_dedicated", "karimi_table3_transfer_vs_joint"),
    "karimi_tables456_ood",
)
METRICS = {"nll": ("nll", 1), "brier": ("brier", 1), "ece_percent": ("ece", 0.01)}
OF_SEGMENTS = {"dice": "dice", "hd95": "hd95_mm", "hd95_mm": "hd95_mm"}  # by a column's beginning


def printed_a(task, n_dims=2):
    """Return what paper A prints for a task, a dict of values by part for each claim.

    Examples
    --------
    >>> heart = printed_a("heart")
    >>> round(heart["A6"]["nll"], 2), sorted(heart["A1"])
    (0.44, ['dice', 'hd95_mm'])
    """
    folder = project_root() / "results" / "papers"
    names = A_TABLES[2:] if n_dims == 3 else A_TABLES[:2]
    tables = [read_table(folder / f"{name}.csv") for name in names]
    if n_dims == 2:
        tables = [table[table.task == task] for table in tables]
    rows = [row for table in tables for record in table.to_dict("records") for row in _rows(record)]
    if n_dims == 2 and task in CUTS:
        rows += [("dice", "sweep", m, "box", "nll", v) for m, v in ((1, 1), (5, 1 - CUTS[task]))]
    columns = ["loss", "method", "n_members", "region", "metric", "value"]
    scores = pd.DataFrame(rows, columns=columns)
    scores = scores.assign(domain="known", case="mean", member=0, segment="all")
    return _values(parts_of_a(scores, ("known",), task, n_dims))


def _rows(record):
    """Yield the rows of a long table that a row of a printed one holds."""
    of = record["loss"].lower(), record["method"]
    for column, (metric, unit) in METRICS.items():
        if column in record:
            yield (*of, 1, "box", metric, record[column] * unit)
    for column, value in record.items():
        start, _, end = column.rpartition("_")
        metric = OF_SEGMENTS.get(start if end.isdecimal() else column)
        if metric:
            yield (*of, 1, "whole", metric, value)


def printed_b():
    """Return what paper B prints, a dict of values by part for each claim.

    Examples
    --------
    >>> {name: round(value, 2) for name, value in printed_b()["B4"].items()}["liver DUAL vs SPIR"]
    0.35
    """
    folder = project_root() / "results" / "papers"
    sets, chains, detection = (read_table(folder / f"{name}.csv") for name in B_TABLES)
    chains = chains.rename(columns={"training_sequence": "training", "test_dataset": "dataset"})
    chains = chains.assign(training=chains.training.str.replace(" > ", THEN))
    is_chain = chains.training.str.contains(THEN, regex=False)
    found = _values(parts_of_b(_long(sets)))
    found["B3"] = _values(parts_of_b(_long(chains), _long(chains[is_chain])))["B3"]
    areas = detection.pivot_table(index="experiment", columns="method", values="auc", sort=False)
    found["B4"] = (areas.spectral - areas.uncertainty).to_dict()
    return found


def _long(table):
    """Return a printed table in the long form of ours."""
    columns = {"dsc": "dice", "ece": "ece_box", "mce": "mce_box"}
    kept = table.rename(columns=columns | {"dataset": "set"})[
        ["training", "set", *columns.values()]
    ]
    return kept.melt(["training", "set"], var_name="metric").assign(case="mean")


def _values(parts):
    """Return the values of parts, by claim and name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a single case has no spread
        return {
            claim: {part.name: float(part.interval(level=0.95)[0]) for part in of_claim}
            for claim, of_claim in parts.items()
        }


def supports(claim, values):
    """Return whether the printed values support the sentence: yes, no, or not printed."""
    lowest, highest = claim.claimed
    reach = 1e-9 if np.isfinite([lowest, highest]).all() else -1e-9  # a range holds its own ends
    values = [value for value in values.values() if np.isfinite(value)]
    inside = [lowest - reach < value < highest + reach for value in values]
    if not inside:
        return "not printed"
    return "yes" if (np.mean(inside) > 0.5 if claim.most else all(inside)) else "no"
