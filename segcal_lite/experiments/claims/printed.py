"""What the papers print for each part of a claim, and whether that supports their sentence.

Their tables hold means over cases and no case, so they go through the same arithmetic as ours as if
they were of one case: a value each, without an interval.
"""

import warnings
from functools import lru_cache, partial

import numpy as np
import pandas as pd

from ...runs.folders import project_root
from ...runs.tables import read_table
from ...training.plans import AND, THEN
from .paper_a import is_prostate, parts_of_a
from .paper_b import parts_of_b
from .rules import LEVEL, Part, without_interval
from .statements import CUTS

BOXES = "mehrtash_table2_boxes_and_dice", "mehrtash_s2_hd95_mm"
WHOLE = ("mehrtash_s1_whole_volume",)
VOLUMES, PROSTATE = ("mehrtash_s3_3d_prostate",), "prostate"  # the one task in 3D
B_TABLES = (
    *("karimi_table2_joint_vs_dedicated", "karimi_table3_transfer_vs_joint"),
    "karimi_tables456_ood",
)
METRICS = {"nll": ("nll", 1), "brier": ("brier", 1), "ece_percent": ("ece", 0.01)}
NAMES = {  # of B's sets and trials, here
    "CP- younger fetus": "cp_younger",
    "CP- older fetus": "cp_older",
    "CP- newborn": "cp_newborn",
    "Heart": "atrium",
    "Hippocampus": "hippocampus",
    "Prostate": "prostate",
    "Liver-CT": "liver_ct",
    "Liver-MRI-SPIR": "liver_spir",
    "eight datasets vs pancreas, hippocampus, spleen": "Table IV: organs",
    "CP-newborn vs CP fetus": "Table V: ages",
    "liver DUAL vs SPIR": "Table VI: sequences",
}
OF_SEGMENTS = {"dice": "dice", "hd95": "hd95_mm", "hd95_mm": "hd95_mm"}  # by a column's beginning


def printed_a(task, n_dims=2):
    """Return what paper A prints for a task, a dict of values by part for each claim.

    Examples
    --------
    >>> heart = printed_a("heart")
    >>> round(heart["A6"]["nll"], 2), sorted(heart["A1"])
    (0.44, ['dice', 'hd95_mm'])
    """
    task = PROSTATE if is_prostate(task) else task
    if n_dims == 2:
        return _values(_parts_of_boxes(task))
    return _values(_parts_of_a(task, VOLUMES, n_dims)) if task == PROSTATE else {}


def _parts_of_boxes(task):
    """The parts of what paper A prints for a task, and of the cut that its text names."""
    cut = {"A6": [_told("nll", CUTS[task])]} if task in CUTS else {}
    return _parts_of_a(task, BOXES) | cut


def _parts_of_a(task, names, n_dims=2):
    """The parts of paper A's claims that some of its tables speak of, each of one value.

    Calibration is judged in the box: what a table has of whole volumes stands in its place.
    """
    tables = [read_table(project_root() / "results" / "papers" / f"{name}.csv") for name in names]
    rows = [
        row
        for table in tables
        for record in table.to_dict("records")
        if record.get("task", task) == task
        for row in _rows(record)
    ]
    columns = ["loss", "method", "n_members", "region", "metric", "value"]
    scores = pd.DataFrame(rows, columns=columns)
    scores = scores.assign(domain="known", case="mean", member=0, segment="all")
    return parts_of_a(scores, ("known",), task, n_dims)


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
    """Return what paper B prints, a dict of values by part, under our names, for each claim.

    Examples
    --------
    >>> round(printed_b()["B4"]["Table VI: sequences"], 2)
    0.35
    """
    return _values(_parts_of_b())


def _parts_of_b():
    """The parts of paper B's claims that its tables speak of, each of one value."""
    folder = project_root() / "results" / "papers"
    sets, chains, detection = (
        read_table(folder / f"{name}.csv").replace(NAMES) for name in B_TABLES
    )
    chains = chains.rename(columns={"training_sequence": "training", "test_dataset": "dataset"})
    together = AND.join(chains.dataset.unique())
    chains = chains.assign(training=[_training(of, together) for of in chains.training])
    found = parts_of_b(_long(sets), _long(chains))
    areas = detection.pivot_table(index="experiment", columns="method", values="auc", sort=False)
    found["B4"] = [_told(*pair) for pair in (areas.spectral - areas.uncertainty).items()]
    return found


def _training(printed, together):
    """Return our name of what a row of Table III trained; `together` is that of the joint one."""
    names = [NAMES.get(name, name) for name in printed.split(" > ")]
    return together if names == ["joint"] else THEN.join(names)


def _long(table):
    """Return a printed table in the long form of ours."""
    columns = {"dsc": "dice", "ece": "ece_box", "mce": "mce_box"}
    kept = table.rename(columns=columns | {"dataset": "set"})[
        ["training", "set", *columns.values()]
    ]
    return kept.melt(["training", "set"], var_name="metric").assign(case="mean")


def _told(name, value):
    """The part of a value that is printed as it is."""
    return Part(name, partial(without_interval, value), n_cases=1)


def _value(part):
    """The value of a part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a single case has no spread
        return float(part.interval(level=LEVEL)[0])


def _values(parts):
    """The values of parts, by claim and name."""
    return {
        claim: {part.name: _value(part) for part in of_claim} for claim, of_claim in parts.items()
    }


def supports(claim):
    """Return whether all that a paper prints supports its sentence: yes, no, or not printed.

    Of paper A that are the tables of all its tasks, of boxes and of whole volumes.

    Examples
    --------
    >>> from segcal_lite.experiments.claims.statements import CLAIMS
    >>> supports(CLAIMS[0]), supports(CLAIMS[1])  # on prostate CE has the larger ECE
    ('yes', 'no')
    >>> supports(CLAIMS[2])  # on whole prostates the CE ensemble has the larger ECE, 2.62 %
    'no'
    """
    parts = [part for table in _all_printed() for part in table.get(claim.name, [])]
    found = [(_value(part), *(part.claimed or claim.claimed)) for part in parts]
    inside = [_is_within(*numbers) for numbers in found if np.isfinite(numbers[0])]
    if not inside:
        return "not printed"
    return "yes" if (np.mean(inside) > 0.5 if claim.most else all(inside)) else "no"


@lru_cache
def _all_printed():
    """The parts of both papers' claims, of all their tables."""
    whole = [_parts_of_a(task, WHOLE) for task in CUTS]
    volumes = _parts_of_a(PROSTATE, VOLUMES, n_dims=3)
    boxes = [_parts_of_a(task, BOXES) for task in CUTS]  # the cuts are the sentence itself
    return [*boxes, *whole, volumes, _parts_of_b()]


def _is_within(value, lowest, highest):
    """Whether a value lies between two others; a range holds its own ends."""
    reach = 1e-9 if np.isfinite([lowest, highest]).all() else -1e-9
    return lowest - reach < value < highest + reach
